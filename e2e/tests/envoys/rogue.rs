//! An Envoy that is none: it has a certificate of the hub's authority and says what it likes. Knows the wire; judges nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_client::MetricsServiceClient;
use envoy_types::pb::google::rpc;
use envoy_types::pb::io::prometheus::client::{Counter, Gauge, Metric, MetricFamily};
use nave_e2e::{Lab, manager};
use nave_xds::resource::ResourceType;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Status, Streaming};

/// A certificate and what vouches for it.
#[derive(Clone)]
pub struct Papers {
    authority: String,
    chain: String,
    key: String,
}

impl Papers {
    /// Has the manager's own command issue them, as an administrator would.
    pub fn issue(lab: &Lab, fleet: &str, node: &str) -> Self {
        let dir = lab.supervisor().dir().join(format!("papers-{fleet}-{node}"));
        std::fs::create_dir_all(&dir).unwrap();
        manager::envoy_bootstrap(&lab.hub.plane.kubeconfig(), fleet, node, &[lab.hub.managers[0].xds()], &dir, None)
            .unwrap();
        let read = |name: &str| std::fs::read_to_string(Path::new(&dir).join(name)).unwrap();
        Self { authority: read("ca.crt"), chain: read("tls.crt"), key: read("tls.key") }
    }

    /// A connection to a manager.
    pub async fn connect(&self, at: SocketAddr) -> Result<Channel, tonic::transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .identity(Identity::from_pem(&self.chain, &self.key))
            .domain_name(at.ip().to_string());
        Channel::from_shared(format!("https://{at}")).unwrap().tls_config(tls).unwrap().connect().await
    }

    /// A discovery stream to a manager.
    pub async fn open(&self, at: SocketAddr) -> Result<Stream, Status> {
        let channel = self.connect(at).await.map_err(|error| Status::unavailable(error.to_string()))?;
        Stream::open(channel).await
    }
}

/// A discovery stream.
pub struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    async fn open(channel: Channel) -> Result<Self, Status> {
        let (requests, outbound) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(outbound)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    /// Asks for names of a type; for none: for everything of it.
    pub async fn ask(&self, kind: ResourceType, names: Vec<String>) {
        let type_url = kind.url().to_owned();
        self.send(DeltaDiscoveryRequest { type_url, resource_names_subscribe: names, ..Default::default() }).await;
    }

    /// Acknowledges a response, or refuses it in these words.
    pub async fn answer(&self, response: &DeltaDiscoveryResponse, refusal: Option<String>) {
        let DeltaDiscoveryResponse { type_url, nonce, .. } = response.clone();
        let error_detail = refusal.map(|message| rpc::Status { code: 3, message, details: Vec::new() });
        self.send(DeltaDiscoveryRequest { type_url, response_nonce: nonce, error_detail, ..Default::default() }).await;
    }

    /// The next response, or how the stream ended.
    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        self.responses.message().await?.ok_or_else(|| Status::ok("the end"))
    }

    /// The next response within this time, if any.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Result<DeltaDiscoveryResponse, Status>> {
        tokio::time::timeout(patience, self.next()).await.ok()
    }

    /// Refuses all that comes in these words, until the stream ends.
    pub fn refuse_all(mut self, words: String) -> JoinHandle<Status> {
        tokio::spawn(async move {
            loop {
                match self.next().await {
                    Ok(response) => self.answer(&response, Some(words.clone())).await,
                    Err(status) => return status,
                }
            }
        })
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        let _ = self.requests.send(request).await; // a stream that has ended says so when it is read
    }
}

/// A counter that grew by this.
pub fn counter(name: &str, value: f64) -> MetricFamily {
    let counter = Some(Counter { value: Some(value), ..Counter::default() });
    MetricFamily {
        name: Some(name.to_owned()),
        metric: vec![Metric { counter, ..Metric::default() }],
        ..Default::default()
    }
}

/// A gauge that is this.
pub fn gauge(name: &str, value: f64) -> MetricFamily {
    let gauge = Some(Gauge { value: Some(value) });
    MetricFamily {
        name: Some(name.to_owned()),
        metric: vec![Metric { gauge, ..Metric::default() }],
        ..Default::default()
    }
}

/// Sends statistics in one message, and ends the stream.
pub async fn count(channel: Channel, envoy_metrics: Vec<MetricFamily>) -> Result<(), Status> {
    let message = StreamMetricsMessage { identifier: None, envoy_metrics };
    MetricsServiceClient::new(channel).stream_metrics(tokio_stream::iter([message])).await.map(drop)
}
