//! What Envoy refuses harms nobody else.

use nave_xds::store::Change;

use crate::support::envoy::{Envoy, backend, banner};
use crate::support::server::{
    LoadBalancer, Running, cluster, endpoints, listener, own_address, own_socket, refused, tcp,
};

#[tokio::test]
async fn a_port_that_cannot_be_bound_harms_nobody_else_and_is_not_tried_again_until_it_changes() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.open();
    let envoy = Envoy::start(&[running.address]);
    let backend = backend("here").await;
    let taken = own_socket().await;
    let taken_at = taken.local_addr().expect("an address");
    let taken_bind = tcp(&taken_at.ip().to_string(), taken_at.port());
    let bad = LoadBalancer::new(taken_bind, &[backend]);
    let before = LoadBalancer::new(tcp(&own_address(), 8443), &[backend]);
    let after = LoadBalancer::new(tcp(&own_address(), 8443), &[backend]);

    let together = [&bad, &before].into_iter().flat_map(|balancer| balancer.added().upsert).collect();
    store.apply(Change { upsert: together, remove: Vec::new() });
    running.record.until("the bad one is refused", |events| refused(events, bad.listener.name())).await;
    running.record.until_accepted(&before.listener).await;
    store.apply(after.added());
    running.record.until_accepted(&after.listener).await;
    assert_eq!(envoy.stats().await["listener_manager.lds.update_rejected"], 1);

    drop(taken);
    let name = bad.cluster.name();
    let mut mended = listener(taken_bind, name);
    mended.idle_timeout *= 2;
    let mended = LoadBalancer::of(&mended, &cluster(name), &endpoints(name, &[backend]));
    store.apply(mended.added());
    running.record.until_accepted(&mended.listener).await;
    assert_eq!(banner((taken_bind.address, taken_bind.port).into()).await.expect("connects"), "here");
    assert_eq!(envoy.stats().await["listener_manager.lds.update_rejected"], 1);
}

#[tokio::test]
async fn content_that_envoy_cannot_even_read_is_found_by_halving() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    let mut resources = Vec::new();
    for number in 0..9 {
        let mut model = cluster(&format!("c{number}"));
        if number == 4 {
            // Envoy wants more than zero, and its complaint does not say of whom.
            model.connect_timeout = std::time::Duration::ZERO;
        }
        resources.push(nave_xds::translate::cluster(&model));
    }
    store.apply(Change { upsert: resources.clone(), remove: Vec::new() });
    store.open();
    let _envoy = Envoy::start(&[running.address]);
    for (number, resource) in resources.iter().enumerate() {
        if number == 4 {
            let culprit = |events: &[nave_xds::report::Event]| {
                events.iter().any(
                    |event| matches!(event, nave_xds::report::Event::Refused(refusal) if refusal.held.name == *resource.name()),
                )
            };
            running.record.until("the culprit is found", culprit).await;
        } else {
            running.record.until_accepted(resource).await;
        }
    }
}
