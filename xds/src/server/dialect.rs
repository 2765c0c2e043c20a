//! The two dialects between the wire and the state machines: reads requests, writes responses. Decides nothing.

use std::time::Duration;

use tonic::Status;

use super::read;
use crate::catalog::Catalog;
use crate::files::Files;
use crate::protocol::{Excess, Patience, Quarantine, delta, sotw};
use crate::report::Event;
use crate::resource::Resource;
use crate::wire::{DeltaDiscoveryResponse, DiscoveryResponse};

/// A dialect of the protocol, as streams need it.
pub(super) trait Dialect: Send + Sized + 'static {
    /// A request as the protocol takes it.
    type Request: Send + 'static;
    /// The response as it goes.
    type Wire: prost::Message + Send + 'static;

    /// A request from its bytes; nothing where its type is not served.
    fn read(message: &[u8]) -> Result<Option<Self::Request>, Status>;
    /// How many names are in a request.
    fn names(request: &Self::Request) -> usize;
    /// How many resources and names are in a response.
    fn load(response: &Self::Wire) -> usize;
    fn begin(patience: Patience, catalog: &Catalog) -> Self;
    fn wants_everything(&self) -> bool;
    /// What the client says that it may open, where the request says so.
    fn files(request: &Self::Request) -> Option<Files>;
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

impl Dialect for delta::Delta {
    type Request = delta::Request;
    type Wire = DeltaDiscoveryResponse;

    fn read(message: &[u8]) -> Result<Option<delta::Request>, Status> {
        read::delta(message)
    }

    fn names(request: &delta::Request) -> usize {
        request.subscribe.len() + request.unsubscribe.len() + request.initial.len()
    }

    fn load(response: &DeltaDiscoveryResponse) -> usize {
        response.resources.len() + response.removed_resources.len()
    }

    fn begin(patience: Patience, catalog: &Catalog) -> Self {
        Self::new(patience, catalog)
    }

    fn wants_everything(&self) -> bool {
        self.wants_everything()
    }

    fn files(request: &delta::Request) -> Option<Files> {
        request.files
    }

    fn take(
        &mut self,
        request: delta::Request,
        catalog: &Catalog,
        refused: &mut Quarantine,
    ) -> Result<Vec<Event>, Status> {
        self.room_for(&request, catalog).map_err(exhausted)?;
        Ok(self.on_request(request, catalog, refused))
    }

    fn changed(&mut self, catalog: &Catalog, refused: &mut Quarantine) {
        self.on_change(catalog, refused);
    }

    fn give(&mut self, catalog: &Catalog, refused: &Quarantine, now: Duration) -> (Vec<Self::Wire>, Vec<Event>) {
        let (responses, events) = self.responses(catalog, refused, now);
        let wire =
            responses.into_iter().map(|delta::Response { kind, resources, removed, nonce }| DeltaDiscoveryResponse {
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

impl Dialect for sotw::Sotw {
    type Request = sotw::Request;
    type Wire = DiscoveryResponse;

    fn read(message: &[u8]) -> Result<Option<sotw::Request>, Status> {
        read::sotw(message)
    }

    fn names(request: &sotw::Request) -> usize {
        request.names.len()
    }

    fn load(response: &DiscoveryResponse) -> usize {
        response.resources.len()
    }

    fn begin(patience: Patience, catalog: &Catalog) -> Self {
        Self::new(patience, catalog)
    }

    fn wants_everything(&self) -> bool {
        self.wants_everything()
    }

    fn files(request: &sotw::Request) -> Option<Files> {
        request.files
    }

    fn take(
        &mut self,
        request: sotw::Request,
        catalog: &Catalog,
        refused: &mut Quarantine,
    ) -> Result<Vec<Event>, Status> {
        self.room_for(&request, catalog).map_err(exhausted)?;
        Ok(self.on_request(request, catalog, refused))
    }

    fn changed(&mut self, catalog: &Catalog, refused: &mut Quarantine) {
        self.on_change(catalog, refused);
    }

    fn give(&mut self, catalog: &Catalog, refused: &Quarantine, now: Duration) -> (Vec<Self::Wire>, Vec<Event>) {
        let (responses, events) = self.responses(catalog, refused, now);
        let wire = responses.into_iter().map(|sotw::Response { kind, resources, version, nonce }| DiscoveryResponse {
            version_info: version,
            resources: resources.iter().map(Resource::any).collect(),
            type_url: kind.url().to_owned(),
            nonce,
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

fn exhausted(excess: Excess) -> Status {
    Status::resource_exhausted(excess.to_string())
}
