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
use super::register::told;
use crate::catalog::Catalog;
use crate::files::Files;
use crate::protocol::Quarantine;
use crate::report::Event;

/// Drives a stream to its end.
pub(super) async fn drive<D: Dialect>(
    session: Session,
    mut requests: Streaming<Option<D::Request>>,
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
    requests: &mut Streaming<Option<D::Request>>,
    out: &mpsc::Sender<Result<D::Wire, Status>>,
) -> Result<(), Status> {
    let mut head = session.store.watch();
    let ended = session.ended();
    tokio::pin!(ended);
    tokio::select! {
        open = head.wait_for(Option::is_some) => drop(open.map_err(|_| gone())?),
        status = &mut ended => return Err(status),
        () = out.closed() => return Ok(()),
    }
    let (settings, began) = (session.shared.settings, Instant::now());
    session.spend(BEGINNING);
    head.mark_unchanged();
    let mut dialect = session.store.read(|catalog| D::begin(settings.patience, catalog));
    let mut everything = false;
    let mut described = None;
    loop {
        let patience_ends =
            dialect.unanswered_since().and_then(|since| began.checked_add(since + settings.answer_within));
        let reads_at = session.reads_at();
        let wakes = [dialect.wake().and_then(|at| began.checked_add(at)), patience_ends, reads_at];
        tokio::select! {
            request = requests.message(), if reads_at.is_none() => match request? {
                Some(request) => {
                    describe::<D>(session, &mut described, request.as_ref());
                    take(session, &mut dialect, request, &mut everything)?;
                }
                None => return Ok(()),
            },
            changed = head.changed() => {
                changed.map_err(|_| gone())?;
                session.with(|catalog, refused| dialect.changed(catalog, refused));
            }
            () = at(wakes.into_iter().flatten().min()) => {}
            status = &mut ended => return Err(status),
            () = out.closed() => return Ok(()),
        }
        let now = began.elapsed();
        if dialect.unanswered_since().is_some_and(|since| since + settings.answer_within <= now) {
            return Err(Status::deadline_exceeded("a response was not answered in time"));
        }
        give(session, &mut dialect, now, out)?;
    }
}

/// What a stream that begins costs, and what it costs to say other things of descriptors than before, in units of work: all that a fleet serves
/// is looked at again.
const BEGINNING: usize = 1000;
const DESCRIPTION: usize = 5000;

/// Passes on what the client says of its descriptors, when it says something else than before.
fn describe<D: Dialect>(session: &Session, before: &mut Option<Files>, request: Option<&D::Request>) {
    let said = request.and_then(D::files);
    if let Some(files) = said.filter(|files| *before != Some(*files)) {
        *before = Some(files);
        session.spend(DESCRIPTION);
        session.report(Event::Described(files));
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
        session.spend(D::load(&response));
        session.shared.sent.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
        out.try_send(Ok(response)).map_err(|_| Status::resource_exhausted("the stream does not move"))?;
    }
    Ok(())
}

/// A request of a type that is not served is nothing but work.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn take<D: Dialect>(
    session: &Session,
    dialect: &mut D,
    request: Option<D::Request>,
    everything: &mut bool,
) -> Result<(), Status> {
    session.spend(1 + request.as_ref().map_or(0, D::names));
    let Some(request) = request else { return Ok(()) };
    let events = session.with(|catalog, refused| dialect.take(request, catalog, refused))?;
    let wants = dialect.wants_everything();
    if std::mem::replace(everything, wants) != wants {
        session.report(Event::Wants { everything: wants });
    }
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
    /// Ends when the server has to end the stream, with the reason.
    fn ended(&self) -> impl Future<Output = Status> + Send + use<> {
        let mut closing = self.shared.closing.subscribe();
        let mut caller = self.caller.clone();
        let mut seat = self.seat.as_ref().map(|seat| seat.end.clone());
        async move {
            let crowded = async {
                match &mut seat {
                    Some(end) => told(end).await.into(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => gone(),
                status = caller.ended() => status,
                status = crowded => status,
            }
        }
    }

    /// Notes work: names that came, resources that go.
    fn spend(&self, units: usize) {
        if let Some(seat) = &self.seat {
            seat.spend(units);
        }
    }

    /// When the next request may be read, where not now: the node has asked for more than its share of work.
    fn reads_at(&self) -> Option<Instant> {
        let wait = self.seat.as_ref()?.wait(self.store.read(Catalog::len));
        (!wait.is_zero()).then(|| Instant::now() + wait)
    }

    /// Looks at the store and at what the node refused, for a moment.
    fn with<T>(&self, look: impl FnOnce(&Catalog, &mut Quarantine) -> T) -> T {
        let mut refused = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.read(|catalog| look(catalog, &mut refused))
    }
}
