//! One stream as a task: waits for requests, changes, deadlines, and passes on what the dialect makes of them. A stream
//! that is slow or dead costs only itself.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::debug;

use super::Session;
use super::dialect::Dialect;
use crate::catalog::Catalog;
use crate::files::Files;
use crate::protocol::Quarantine;
use crate::report::Event;

/// Drives a stream to its end.
pub(super) async fn drive<D: Dialect>(
    session: Session,
    mut requests: Streaming<D::Request>,
    out: mpsc::Sender<Result<D::Wire, Status>>,
) {
    let end = run::<D>(&session, &mut requests, &out).await;
    debug!(fleet = %session.fleet, node = %session.node, stream = session.stream, ?end, "stream ended");
    if let Err(status) = end {
        // The client learns why, if it still listens and the pipe has room.
        let _ = out.try_send(Err(status));
    }
}

#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
async fn run<D: Dialect>(
    session: &Session,
    requests: &mut Streaming<D::Request>,
    out: &mpsc::Sender<Result<D::Wire, Status>>,
) -> Result<(), Status> {
    let mut head = session.store.watch();
    let mut closing = session.shared.closing.subscribe();
    tokio::select! {
        open = head.wait_for(Option::is_some) => drop(open.map_err(|_| gone())?),
        _ = closing.wait_for(|closing| *closing) => return Err(gone()),
        () = out.closed() => return Ok(()),
    }
    let (settings, began) = (session.shared.settings, Instant::now());
    head.mark_unchanged();
    let mut dialect = session.store.read(|catalog| D::begin(settings.patience, catalog));
    let mut described = None;
    loop {
        let patience_ends =
            dialect.unanswered_since().and_then(|since| began.checked_add(since + settings.answer_within));
        let wake = dialect.wake().and_then(|at| began.checked_add(at)).into_iter().chain(patience_ends).min();
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => {
                    describe::<D>(session, &mut described, &request);
                    take(session, &mut dialect, request)?;
                }
                None => return Ok(()),
            },
            changed = head.changed() => {
                changed.map_err(|_| gone())?;
                session.with(|catalog, refused| dialect.changed(catalog, refused));
            }
            () = at(wake) => {}
            () = out.closed() => return Ok(()),
            _ = closing.wait_for(|closing| *closing) => return Err(gone()),
        }
        let now = began.elapsed();
        if dialect.unanswered_since().is_some_and(|since| since + settings.answer_within <= now) {
            return Err(Status::deadline_exceeded("a response was not answered in time"));
        }
        give(session, &mut dialect, now, out)?;
    }
}

/// Passes on what the client says of its descriptors, when it says something else than before.
fn describe<D: Dialect>(session: &Session, before: &mut Option<Files>, request: &D::Request) {
    let said = D::node(request).and_then(Files::read);
    if let Some(files) = said.filter(|files| *before != Some(*files)) {
        *before = Some(files);
        session.report_all(vec![Event::Described(files)]);
    }
}

/// Never waits: a stream whose pipe is full does not take what it is sent.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn give<D: Dialect>(
    session: &Session,
    dialect: &mut D,
    now: Duration,
    out: &mpsc::Sender<Result<D::Wire, Status>>,
) -> Result<(), Status> {
    let (responses, events) = session.with(|catalog, refused| dialect.give(catalog, refused, now));
    session.report_all(events);
    for response in responses {
        session.shared.sent.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
        out.try_send(Ok(response)).map_err(|_| Status::resource_exhausted("the stream does not move"))?;
    }
    Ok(())
}

#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn take<D: Dialect>(session: &Session, dialect: &mut D, request: D::Request) -> Result<(), Status> {
    let events = session.with(|catalog, refused| dialect.take(request, catalog, refused))?;
    session.report_all(events);
    Ok(())
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

fn gone() -> Status {
    Status::unavailable("the server is going away")
}

impl Session {
    /// Looks at the store and at what the node refused, for a moment.
    fn with<T>(&self, look: impl FnOnce(&Catalog, &mut Quarantine) -> T) -> T {
        let mut refused = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.read(|catalog| look(catalog, &mut refused))
    }
}
