//! A start of a manager's inside: from complete lists to the first xDS response that an Envoy gets. Knows the engine, the server
//! and a client of its own; no API server and no TLS is in it.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use nave_manager_core::{Engine, Role, Settings, Timestamp};
use nave_xds::identity::Peer;
use nave_xds::server::{self, Server, TlsSource};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use crate::world::{self, World};

const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// What a start took.
#[derive(Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) load_balancers: usize,
    /// From the first list that is handed in until the first response with resources has arrived.
    pub(crate) seconds: f64,
    /// How many resources were in it.
    pub(crate) resources: usize,
}

/// Starts once, with so many load balancers whose addresses are recorded.
pub(crate) async fn measure(load_balancers: usize) -> Result<Start> {
    let lists = world::lists(&World { pool: "10.0.0.0/8", balancers: load_balancers, ..World::default() });
    let server = Server::new((), server::Settings::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
    let address = listener.local_addr().context("listen")?;
    let peer = Peer::Envoy { fleet: "default".into(), node: "edge-1".into() };
    let (serving, routes) = (server.clone(), Routes::new(server.service()));
    let task = tokio::spawn(async move {
        serving.serve(listener, TlsSource::Insecure(peer), routes, std::future::pending()).await
    });

    // An Envoy is connected already and waits, as in a restart.
    let channel = tonic::transport::Endpoint::new(format!("http://{address}"))?.connect().await.context("connect")?;
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(256 * 1024 * 1024);
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    let node = Some(Node { id: "edge-1".to_owned(), cluster: "default".to_owned(), ..Node::default() });
    requests
        .send(DeltaDiscoveryRequest { node, type_url: CLUSTERS.to_owned(), ..DeltaDiscoveryRequest::default() })
        .await?;

    let begun = Instant::now();
    let mut engine = Engine::new(Settings::default());
    for seen in lists {
        engine.observe(seen);
    }
    for (fleet, change) in engine.settle(Role::Leader, Timestamp::UNIX_EPOCH).publish {
        server.fleet(&fleet).apply(change);
        server.fleet(&fleet).open();
    }
    let mut responses = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await?.into_inner();
    let first = responses.message().await?.context("a response")?;
    let seconds = begun.elapsed().as_secs_f64();
    task.abort();
    if first.resources.is_empty() {
        bail!("the first response has no resource");
    }
    Ok(Start { load_balancers, seconds, resources: first.resources.len() })
}
