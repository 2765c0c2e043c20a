//! The two dialects between the wire and the state machines: reads requests, writes responses. Decides nothing.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tonic::Status;

use crate::catalog::Catalog;
use crate::protocol::{Patience, Quarantine, delta, sotw};
use crate::report::Event;
use crate::resource::{Resource, ResourceType, Version};
use crate::wire::{DeltaDiscoveryResponse, DiscoveryResponse};

/// A dialect of the protocol, as streams need it.
pub(super) trait Dialect: Send + Sized + 'static {
    /// The request as it comes.
    type Request: prost::Message + Default + Send + 'static;
    /// The response as it goes.
    type Wire: prost::Message + Send + 'static;

    fn begin(patience: Patience, catalog: &Catalog) -> Self;
    /// Who the client says it is: at least the first request of a stream says so.
    fn node(request: &Self::Request) -> Option<&Node>;
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
    type Request = DeltaDiscoveryRequest;
    type Wire = DeltaDiscoveryResponse;

    fn begin(patience: Patience, catalog: &Catalog) -> Self {
        Self::new(patience, catalog)
    }

    fn node(request: &DeltaDiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn take(
        &mut self,
        request: DeltaDiscoveryRequest,
        catalog: &Catalog,
        refused: &mut Quarantine,
    ) -> Result<Vec<Event>, Status> {
        let Some(kind) = kind_of(&request.type_url)? else { return Ok(Vec::new()) };
        let initial = request.initial_resource_versions.into_iter();
        let request = delta::Request {
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
    type Request = DiscoveryRequest;
    type Wire = DiscoveryResponse;

    fn begin(patience: Patience, catalog: &Catalog) -> Self {
        Self::new(patience, catalog)
    }

    fn node(request: &DiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn take(
        &mut self,
        request: DiscoveryRequest,
        catalog: &Catalog,
        refused: &mut Quarantine,
    ) -> Result<Vec<Event>, Status> {
        let Some(kind) = kind_of(&request.type_url)? else { return Ok(Vec::new()) };
        let request = sotw::Request {
            kind,
            names: request.resource_names,
            version: request.version_info,
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

/// The type of a request. A type that we do not serve is none of our business: the request stays without an answer.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn kind_of(url: &str) -> Result<Option<ResourceType>, Status> {
    if url.is_empty() {
        return Err(Status::invalid_argument("an aggregated stream needs a type_url in every request"));
    }
    Ok(ResourceType::from_url(url))
}
