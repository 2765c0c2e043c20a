//! The server against the real Envoy, with traffic over real connections. Needs Envoy's path in ENVOY.

#[cfg(test)]
mod support;

use std::collections::BTreeMap;

use support::envoy::{Envoy, backend, banner, free_port};
use support::server::{LoadBalancer, Running, tcp};

#[tokio::test]
async fn a_listener_serves_once_it_is_acknowledged_and_refuses_once_it_is_removed() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.open();
    let envoy = Envoy::start(&[running.address]);
    let bind = tcp("127.0.0.1", free_port().await);
    let one = LoadBalancer::new(bind, &[backend("one").await]);
    store.apply(one.added());
    running.record.until_accepted(&one.listener).await;
    assert_eq!(banner((bind.address, bind.port).into()).await.expect("connects"), "one");

    let two = LoadBalancer::new(bind, &[backend("two").await]);
    store.apply(two.added());
    running.record.until_accepted(&two.endpoints).await;
    assert_eq!(banner((bind.address, bind.port).into()).await.expect("connects"), "two");

    store.apply(two.removed());
    running
        .record
        .until("the cluster is gone", |events| {
            events.iter().any(
                |event| matches!(event, nave_xds::report::Event::Removed(keys) if keys.contains(&two.cluster.key())),
            )
        })
        .await;
    assert!(banner((bind.address, bind.port).into()).await.is_err());
    assert_eq!(envoy.failures().await, BTreeMap::new());
}
