//! Load balancers come, change and go while Envoy serves.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use nave_xds::store::Change;
use nave_xds::translate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ejection::black_hole;
use crate::support::envoy::{Envoy, backend, banner, greet, until_all_are_answered_by, until_refused};
use crate::support::server::{LoadBalancer, Running, cluster, endpoints, listener, own_address, removed, tcp, udp};
use crate::traffic::{eventually, serve};

#[tokio::test]
async fn a_listener_serves_once_it_is_acknowledged_and_refuses_once_it_is_removed() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.open();
    let envoy = Envoy::start(&[running.address]);
    let bind = tcp(&own_address(), 8443);
    let one = LoadBalancer::new(bind, &[backend("one").await]);
    store.apply(one.added());
    running.record.until_accepted(&one.listener).await;
    assert_eq!(banner((bind.address, bind.port).into()).await.expect("connects"), "one");

    let two = LoadBalancer::new(bind, &[backend("two").await]);
    store.apply(two.added());
    let address = (bind.address, bind.port).into();
    until_all_are_answered_by(address, "two", "one").await;

    store.apply(two.removed());
    running.record.until("the cluster is gone", |events| removed(events, &two.cluster)).await;
    until_refused(address, "two").await;
    assert_eq!(envoy.failures().await, BTreeMap::new());
}

#[tokio::test]
async fn an_envoy_that_starts_late_gets_everything_that_is_there() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    let backend = backend("here").await;
    let mut balancers = Vec::new();
    for _ in 0..50 {
        balancers.push(LoadBalancer::new(tcp(&own_address(), 8443), &[backend]));
        store.apply(balancers[balancers.len() - 1].added());
    }
    store.open();
    let envoy = Envoy::start(&[running.address]);
    for balancer in &balancers {
        running.record.until_accepted(&balancer.listener).await;
        let address = balancer.listener.name().split('/').nth(1).and_then(|address| address.parse().ok());
        assert_eq!(banner(SocketAddr::new(address.expect("an address"), 8443)).await.expect("connects"), "here");
    }
    assert_eq!(envoy.failures().await, BTreeMap::new());
}

#[tokio::test]
async fn an_address_that_is_not_there_yet_is_bound_all_the_same() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.open();
    let envoy = Envoy::start(&[running.address]);
    for bind in [tcp("203.0.113.7", 443), udp("203.0.113.7", 443), tcp("2001:db8::7", 443), udp("2001:db8::7", 443)] {
        let name = format!("shop-{}", bind.to_string().replace(['/', ':'], "-"));
        let balancer = LoadBalancer::of(&listener(bind, &name), &cluster(&name), &endpoints(&name, &[]));
        store.apply(balancer.added());
        running.record.until_accepted(&balancer.listener).await;
    }
    assert_eq!(envoy.failures().await, BTreeMap::new());
}

#[tokio::test]
async fn nothing_is_served_before_the_fleet_is_open() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    let bind = tcp(&own_address(), 8443);
    let balancer = LoadBalancer::new(bind, &[backend("here").await]);
    let _envoy = Envoy::start(&[running.address]);
    running.record.until("Envoy connects", |events| !events.is_empty()).await;
    store.apply(balancer.added());
    assert_eq!(running.record.events().len(), 1);
    store.open();
    running.record.until_accepted(&balancer.listener).await;
    assert_eq!(banner((bind.address, bind.port).into()).await.expect("connects"), "here");
}

#[tokio::test]
async fn a_listener_moves_to_a_new_cluster_without_a_failed_connection() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.open();
    let envoy = Envoy::start(&[running.address]);
    let bind = tcp(&own_address(), 8443);
    let address = (bind.address, bind.port).into();
    let backend = backend("here").await;
    let mut old = LoadBalancer::of(&listener(bind, "v0"), &cluster("v0"), &endpoints("v0", &[backend]));
    store.apply(old.added());
    running.record.until_accepted(&old.listener).await;
    for version in 1..20 {
        let name = format!("v{version}");
        let new = LoadBalancer::of(&listener(bind, &name), &cluster(&name), &endpoints(&name, &[backend]));
        store.apply(Change { upsert: new.added().upsert, remove: vec![old.cluster.key(), old.endpoints.key()] });
        while !crate::support::server::accepted(&running.record.events(), &new.listener) {
            assert_eq!(banner(address).await.expect("connects"), "here", "during {name}");
        }
        old = new;
    }
    assert_eq!(banner(address).await.expect("connects"), "here");
    assert_eq!(envoy.failures().await, BTreeMap::new());
}

#[tokio::test]
async fn a_change_of_endpoints_leaves_open_connections_alone() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.open();
    let envoy = Envoy::start(&[running.address]);
    let bind = tcp(&own_address(), 8443);
    let old = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let balancer = LoadBalancer::new(bind, &[old.local_addr().expect("an address")]);
    store.apply(balancer.added());
    running.record.until_accepted(&balancer.listener).await;
    let mut client = TcpStream::connect((bind.address, bind.port)).await.expect("connects");
    let (mut served, _) = old.accept().await.expect("accepts");
    tokio::spawn(greet(old, "old"));

    let new = translate::endpoints(&endpoints(balancer.endpoints.name(), &[backend("new").await]));
    store.apply(Change { upsert: vec![new.clone()], remove: Vec::new() });
    until_all_are_answered_by((bind.address, bind.port).into(), "new", "old").await;

    served.write_all(b"still here").await.expect("writes");
    let mut heard = [0; 10];
    client.read_exact(&mut heard).await.expect("reads");
    assert_eq!(&heard, b"still here");
    assert_eq!(envoy.failures().await, BTreeMap::new());
}

#[tokio::test]
async fn a_connection_that_is_opened_while_endpoints_change_is_answered() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.open();
    let envoy = Envoy::start(&[running.address]);
    let bind = tcp(&own_address(), 8443);
    let address = (bind.address, bind.port).into();
    let names = ["even", "odd"];
    let backends = [backend(names[0]).await, backend(names[1]).await];
    let balancer = LoadBalancer::new(bind, &[backends[0]]);
    store.apply(balancer.added());
    running.record.until_accepted(&balancer.listener).await;
    for change in 1..=50 {
        let new = translate::endpoints(&endpoints(balancer.endpoints.name(), &[backends[change % 2]]));
        store.apply(Change { upsert: vec![new], remove: Vec::new() });
        let (now, before) = (names[change % 2], names[(change + 1) % 2]);
        let clients = (0..4).map(|_| tokio::spawn(until_all_are_answered_by(address, now, before)));
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("each connection is answered");
        }
    }
    assert_eq!(envoy.failures().await, BTreeMap::new());
}

#[tokio::test]
async fn a_connection_to_an_endpoint_that_is_removed_before_it_answers_goes_to_another() {
    let (hole, _waiting, _full) = black_hole().await;
    let model = listener(tcp(&own_address(), 8443), "shop");
    let served = serve(&model, &cluster("shop"), &endpoints("shop", &[hole])).await;
    let client = tokio::spawn(banner(served.address));
    eventually("the connection is being opened", || async {
        served.envoy.stats().await["cluster.shop.upstream_cx_total"] == 1
    })
    .await;
    let new = translate::endpoints(&endpoints("shop", &[backend("new").await]));
    served.running.server.fleet("default").apply(Change { upsert: vec![new], remove: Vec::new() });
    assert_eq!(client.await.expect("ends").expect("is answered"), "new");
}
