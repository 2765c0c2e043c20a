//! The leader's end: takes in what other managers' Envoys hold, and forgets it when the call ends. Knows calls; the engine
//! knows what follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nave_manager_core::Seen;
use nave_proto::fleet::fleet_server::Fleet;
use nave_proto::fleet::{EnvoyReport, ReportSummary};
use nave_xds::identity::Peer;
use nave_xds::report::{Event, Report};
use nave_xds::server::Caller;
use tonic::{Request, Response, Status, Streaming};

use super::{open, read};
use crate::conductor::Inbox;

/// Streams of a caller are numbered above those of this manager's own: each call has so many numbers for itself.
const CALL_SHIFT: u32 = 40;
/// Streams that one call may tell of; what is said of others is not heard.
const STREAMS: usize = 10_000;

/// Takes reports in.
pub(crate) struct Leader {
    inbox: Inbox,
    calls: AtomicU64,
}

impl Leader {
    /// What is reported goes to the inbox.
    pub(crate) fn new(inbox: Inbox) -> Self {
        Self { inbox, calls: AtomicU64::new(0) }
    }
}

#[tonic::async_trait]
impl Fleet for Leader {
    async fn report(&self, request: Request<Streaming<EnvoyReport>>) -> Result<Response<ReportSummary>, Status> {
        match request.extensions().get::<Caller>().map(Caller::peer) {
            Some(Peer::Manager { name }) => tracing::info!(manager = %name, "another manager reports"),
            Some(Peer::Envoy { .. }) | None => return Err(Status::permission_denied("reports come from managers")),
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let mut call = Call { inbox: self.inbox.clone(), number, open: BTreeMap::new() };
        let mut reports = request.into_inner();
        let mut count = 0;
        while let Some(report) = reports.message().await? {
            count += 1;
            if let Some(open) = open::read(&report) {
                self.inbox.seen(Seen::Open(open));
            } else if let Some(report) = read(report) {
                call.take(report);
            }
        }
        Ok(Response::new(ReportSummary { reports: count }))
    }
}

/// One call, and the streams that it told of. Its end is theirs.
struct Call {
    inbox: Inbox,
    number: u64,
    open: BTreeMap<u64, (Arc<str>, Arc<str>)>,
}

impl Call {
    fn take(&mut self, report: Report) {
        let Report { fleet, node, stream, event } = report;
        let stream = (self.number << CALL_SHIFT) | (stream & ((1 << CALL_SHIFT) - 1));
        match event {
            Event::Disconnected => drop(self.open.remove(&stream)),
            Event::Connected
            | Event::Wants { .. }
            | Event::Described(_)
            | Event::Accepted(_)
            | Event::Removed(_)
            | Event::Refused(_) => {
                if self.open.len() >= STREAMS && !self.open.contains_key(&stream) {
                    return;
                }
                self.open.insert(stream, (Arc::clone(&fleet), Arc::clone(&node)));
            }
        }
        self.inbox.seen(Seen::Envoy(Report { fleet, node, stream, event }));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        for (stream, (fleet, node)) in std::mem::take(&mut self.open) {
            self.inbox.seen(Seen::Envoy(Report { fleet, node, stream, event: Event::Disconnected }));
        }
    }
}
