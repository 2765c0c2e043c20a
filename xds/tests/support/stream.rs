//! A delta client over the wire, in a few lines.

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use nave_xds::resource::ResourceType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    pub async fn open(channel: Channel) -> Result<Self, Status> {
        let (requests, outbound) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(outbound)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    pub async fn connect(address: std::net::SocketAddr) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).expect("a URI").connect().await;
        Self::open(channel.expect("connects")).await.expect("a stream")
    }

    pub async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.expect("the stream is open");
    }

    /// Asks for everything of a type.
    pub async fn want_all(&self, kind: ResourceType) {
        self.send(DeltaDiscoveryRequest { type_url: kind.url().to_owned(), ..Default::default() }).await;
    }

    pub async fn ack(&self, response: &DeltaDiscoveryResponse) {
        let DeltaDiscoveryResponse { type_url, nonce, .. } = response.clone();
        self.send(DeltaDiscoveryRequest { type_url, response_nonce: nonce, ..Default::default() }).await;
    }

    /// The next response, or how the stream ended.
    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.responses.message()).await;
        next.expect("something happens")?.ok_or_else(|| Status::ok("the end"))
    }
}
