//! Servers come and go; Envoy keeps what it has.

use std::net::SocketAddr;

use nave_xds::identity::Peer;
use nave_xds::server::{Settings, TlsSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::envoy::{Envoy, backend, banner, bootstrap, until_refused};
use crate::support::server::{LoadBalancer, Running, own_address, removed, tcp};

/// Listens where a server listened a moment ago.
async fn restart(address: SocketAddr) -> Running {
    let listener = TcpListener::bind(address).await.expect("the port is free again");
    let peer = Peer::Envoy { fleet: "default".into(), node: "edge-1".into() };
    Running::start_on(listener, Settings::default(), TlsSource::Insecure(peer))
}

/// Updates that Envoy applied.
async fn updates(envoy: &Envoy) -> [u64; 2] {
    let stats = envoy.stats().await;
    ["cluster_manager.cds.update_success", "listener_manager.lds.update_success"].map(|name| stats[name])
}

#[tokio::test]
async fn a_server_that_restarts_sends_nothing_again() {
    let running = Running::start().await;
    let address = running.address;
    let store = running.server.fleet("default");
    let bind = tcp(&own_address(), 8443);
    let balancer = LoadBalancer::new(bind, &[backend("here").await]);
    store.apply(balancer.added());
    store.open();
    let envoy = Envoy::start(&[address]);
    running.record.until_accepted(&balancer.listener).await;
    let before = updates(&envoy).await;
    running.stop().await;
    assert_eq!(banner((bind.address, bind.port).into()).await.expect("connects"), "here");

    let running = restart(address).await;
    let store = running.server.fleet("default");
    store.apply(balancer.added());
    store.open();
    for resource in [&balancer.listener, &balancer.cluster, &balancer.endpoints] {
        running.record.until_accepted(resource).await;
    }
    assert_eq!(updates(&envoy).await, before);

    // What went while nobody told Envoy goes now.
    running.stop().await;
    let running = restart(address).await;
    running.server.fleet("default").open();
    running.record.until("the cluster is gone", |events| removed(events, &balancer.cluster)).await;
    until_refused((bind.address, bind.port).into(), "here").await;
}

#[tokio::test]
async fn a_second_server_takes_over_while_a_connection_streams_on() {
    let first = Running::start().await;
    let second = Running::start().await;
    let bind = tcp(&own_address(), 8443);
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let balancer = LoadBalancer::new(bind, &[upstream.local_addr().expect("an address")]);
    for server in [&first.server, &second.server] {
        server.fleet("default").apply(balancer.added());
        server.fleet("default").open();
    }
    let envoy = Envoy::start(&[first.address, second.address]);
    let (serving, other) = tokio::select! {
        () = first.record.until_accepted(&balancer.listener) => (first, second),
        () = second.record.until_accepted(&balancer.listener) => (second, first),
    };
    let mut client = TcpStream::connect((bind.address, bind.port)).await.expect("connects");
    let (mut served, _) = upstream.accept().await.expect("accepts");
    let before = updates(&envoy).await;

    serving.stop().await;
    other.record.until_accepted(&balancer.listener).await;
    assert_eq!(updates(&envoy).await, before);
    served.write_all(b"still here").await.expect("writes");
    let mut heard = [0; 10];
    client.read_exact(&mut heard).await.expect("reads");

    let new = LoadBalancer::new(tcp(&own_address(), 8443), &[backend("new").await]);
    other.server.fleet("default").apply(new.added());
    other.record.until_accepted(&new.listener).await;
}

#[tokio::test]
async fn an_envoy_that_speaks_state_of_the_world_is_served_as_well() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    let bind = tcp(&own_address(), 8443);
    let balancer = LoadBalancer::new(bind, &[backend("here").await]);
    store.apply(balancer.added());
    store.open();
    let directory = tempfile::tempdir().expect("a directory");
    let mut rendered = bootstrap(&directory, &[running.address]).render();
    rendered.bootstrap["dynamic_resources"]["ads_config"]["api_type"] = "GRPC".into();
    let envoy = Envoy::start_rendered(directory, rendered);
    running.record.until_accepted(&balancer.listener).await;
    assert_eq!(banner((bind.address, bind.port).into()).await.expect("connects"), "here");

    let other = LoadBalancer::new(tcp(&own_address(), 8443), &[backend("new").await]);
    store.apply(other.added());
    running.record.until_accepted(&other.listener).await;
    store.apply(balancer.removed());
    running.record.until("the cluster is gone", |events| removed(events, &balancer.cluster)).await;
    until_refused((bind.address, bind.port).into(), "here").await;
    assert_eq!(envoy.failures().await, std::collections::BTreeMap::new());
}
