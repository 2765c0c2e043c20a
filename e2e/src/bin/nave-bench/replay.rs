//! The floor's xDS: a server that sends ready-made bytes when told to and reads nothing of what comes back.
//! Knows one Envoy; has no state, no acknowledgement, no TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::{Any, Duration};
use futures::Stream;
use prost::{Message, Name};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// A running replay server.
pub(crate) struct Replay {
    /// Where Envoy connects.
    pub(crate) address: SocketAddr,
    stream: Outbox,
}

type Outbox = Arc<Mutex<Option<mpsc::UnboundedSender<DeltaDiscoveryResponse>>>>;

impl Replay {
    /// Listens on a free port of the loopback address.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").await.context("listen for the floor's Envoy")?;
        let address = socket.local_addr()?;
        let stream = Outbox::default();
        let service = AggregatedDiscoveryServiceServer::new(Service { stream: stream.clone() });
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(socket)),
        );
        Ok(Self { address, stream })
    }

    /// Sends the cluster, then the listener, of one service.
    pub(crate) fn add(&self, name: &str, at: SocketAddr, backend: SocketAddr) {
        self.send(cluster(name, backend));
        self.send(listener(name, at));
    }

    /// Takes both away again.
    pub(crate) fn remove(&self, name: &str) {
        for type_url in [listener::Listener::type_url(), Cluster::type_url()] {
            self.send(DeltaDiscoveryResponse {
                type_url,
                nonce: format!("remove-{name}"),
                removed_resources: vec![name.to_owned()],
                ..Default::default()
            });
        }
    }

    fn send(&self, response: DeltaDiscoveryResponse) {
        if let Some(stream) = &*self.stream.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = stream.send(response);
        }
    }
}

struct Service {
    stream: Outbox,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("the floor speaks delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for type_url in [Cluster::type_url(), listener::Listener::type_url()] {
            let _ = sender.send(DeltaDiscoveryResponse { type_url, nonce: "empty".into(), ..Default::default() });
        }
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let mut requests = request.into_inner();
        tokio::spawn(async move { while let Some(Ok(_)) = requests.next().await {} });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver).map(Ok))))
    }
}

fn cluster(name: &str, backend: SocketAddr) -> DeltaDiscoveryResponse {
    let endpoint = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(address(backend)),
            ..Default::default()
        })),
        ..Default::default()
    };
    one(
        name,
        &Cluster {
            name: name.to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
            connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
            load_assignment: Some(endpoint::ClusterLoadAssignment {
                cluster_name: name.to_owned(),
                endpoints: vec![endpoint::LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
                ..Default::default()
            }),
            ..Default::default()
        },
    )
}

fn listener(name: &str, at: SocketAddr) -> DeltaDiscoveryResponse {
    let proxy = TcpProxy {
        stat_prefix: "floor".into(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(name.to_owned())),
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "envoy.filters.network.tcp_proxy".into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(&proxy))),
    };
    one(
        name,
        &listener::Listener {
            name: name.to_owned(),
            address: Some(address(at)),
            filter_chains: vec![listener::FilterChain { filters: vec![filter], ..Default::default() }],
            ..Default::default()
        },
    )
}

fn address(at: SocketAddr) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(at.port().into())),
            ..Default::default()
        })),
    }
}

fn one<M: Message + Name>(name: &str, message: &M) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: M::type_url(),
        nonce: format!("add-{name}"),
        resources: vec![Resource {
            name: name.to_owned(),
            version: "1".into(),
            resource: Some(any(message)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}
