//! One stream as a task: waits for requests, changes, deadlines, and passes on what the dialect makes of them. A stream
//! that is slow or dead costs only itself.

use std::sync::PoisonError;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::debug;

use super::Session;
use crate::catalog::Catalog;
use crate::protocol::delta::{Delta, Request, Response};
use crate::protocol::{Patience, Quarantine};
use crate::report::Event;
use crate::resource::{Resource, ResourceType, Version};
use crate::wire::DeltaDiscoveryResponse;

/// A dialect of the protocol, as streams need it.
pub(super) trait Dialect: Send + Sized + 'static {
    /// The request as it comes.
    type Request: prost::Message + Default + Send + 'static;
    /// The response as it goes.
    type Wire: prost::Message + Send + 'static;

    fn begin(patience: Patience, catalog: &Catalog) -> Self;
    fn take(
        &mut self,
        request: Self::Request,
        catalog: &Catalog,
        refused: &mut Quarantine,
    ) -> Result<Vec<Event>, Status>;
    fn changed(&mut self, catalog: &Catalog, refused: &mut Quarantine);
    fn give(&mut self, catalog: &Catalog, refused: &Quarantine, now: Duration) -> (Vec<Self::Wire>, Vec<Event>);
    fn wake(&self) -> Option<Duration>;
    fn unanswered_since(&self) -> Option<Duration>;
}

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
    let settings = session.shared.settings;
    let began = Instant::now();
    head.mark_unchanged();
    let mut dialect = session.store.read(|catalog| D::begin(settings.patience, catalog));
    loop {
        let patience_ends = dialect.unanswered_since().map(|since| began + since + settings.answer_within);
        let wake = dialect.wake().map(|at| began + at).into_iter().chain(patience_ends).min();
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => take(session, &mut dialect, request)?,
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
        let (responses, events) = session.with(|catalog, refused| dialect.give(catalog, refused, now));
        events.into_iter().for_each(|event| session.report(event));
        for response in responses {
            out.try_send(Ok(response)).map_err(|_| Status::resource_exhausted("the stream does not move"))?;
        }
    }
}

#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn take<D: Dialect>(session: &Session, dialect: &mut D, request: D::Request) -> Result<(), Status> {
    let events = session.with(|catalog, refused| dialect.take(request, catalog, refused))?;
    events.into_iter().for_each(|event| session.report(event));
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

impl Dialect for Delta {
    type Request = DeltaDiscoveryRequest;
    type Wire = DeltaDiscoveryResponse;

    fn begin(patience: Patience, catalog: &Catalog) -> Self {
        Self::new(patience, catalog)
    }

    fn take(
        &mut self,
        request: DeltaDiscoveryRequest,
        catalog: &Catalog,
        refused: &mut Quarantine,
    ) -> Result<Vec<Event>, Status> {
        let Some(kind) = kind_of(&request.type_url)? else { return Ok(Vec::new()) };
        let initial = request.initial_resource_versions.into_iter();
        let request = Request {
            kind,
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            initial: initial.map(|(name, version)| (name, Version::read(&version))).collect(),
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
        };
        Ok(self.on_request(request, catalog, refused))
    }

    fn changed(&mut self, catalog: &Catalog, refused: &mut Quarantine) {
        self.on_change(catalog, refused);
    }

    fn give(&mut self, catalog: &Catalog, refused: &Quarantine, now: Duration) -> (Vec<Self::Wire>, Vec<Event>) {
        let (responses, events) = self.responses(catalog, refused, now);
        let wire = responses.into_iter().map(|Response { kind, resources, removed, nonce }| DeltaDiscoveryResponse {
            resources: resources.iter().map(Resource::wire).collect(),
            type_url: kind.url().to_owned(),
            nonce,
            removed_resources: removed.iter().map(ToString::to_string).collect(),
        });
        (wire.collect(), events)
    }

    fn wake(&self) -> Option<Duration> {
        self.wake()
    }

    fn unanswered_since(&self) -> Option<Duration> {
        self.unanswered_since()
    }
}

/// The type of a request. A type that we do not serve is none of our business: the request stays without an answer.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn kind_of(url: &str) -> Result<Option<ResourceType>, Status> {
    if url.is_empty() {
        return Err(Status::invalid_argument("an aggregated stream needs a type_url in every request"));
    }
    Ok(ResourceType::from_url(url))
}
