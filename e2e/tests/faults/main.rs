//! What happens to a Service when parts of the hub or the spoke die. Each test breaks a lab of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod clusters;
mod outages;
mod sizes;
mod stream;
mod unreadable;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use nave_api::{IPAllocation, TCPLoadBalancer, names};
use nave_e2e::Protocol::Tcp;
use nave_e2e::lab::{Spoke, addresses_of};
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Lab, wait};
use stream::Echo;

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_killed_and_restarted_breaks_no_stream_and_moves_no_address() {
    let lab = Lab::light().start().await.unwrap();
    let spoke = &lab.spokes[0];
    let samples =
        [spoke.sample("one", &[(Tcp, 8080)]).await.unwrap(), spoke.sample("two", &[(Tcp, 8080)]).await.unwrap()];
    let address = samples[0].address().await.unwrap();
    samples[1].address().await.unwrap();
    settled(&lab, 2).await;
    let before = (versions(&lab, spoke).await, allocations(&lab).await);
    let echo = Echo::start(SocketAddr::new(address, 8080)).await.unwrap();

    let manager = &lab.hub.managers[0];
    manager.process().kill();
    // Envoy has noticed: what follows happens without a manager.
    eventually("Envoy lost the manager", async || connected(&lab, 0).await).await;
    echo.moves_on().await;
    assert!(lab.ask(address, 8080).await.is_ok(), "new connections work without a manager");
    manager.restart().await.unwrap();
    eventually("Envoy found the manager", async || connected(&lab, 1).await).await;
    // A Service made now has gone all the way round: whatever the restarted manager had to write, it has written.
    let third = spoke.sample("three", &[(Tcp, 8080)]).await.unwrap();
    third.address().await.unwrap();
    third.delete().await.unwrap();

    echo.moves_on().await;
    let bytes = echo.stop().await.unwrap();
    assert!(bytes > 0);
    eventually("the third is forgotten", async || {
        let now = allocations(&lab).await;
        if now == before.1 { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert_eq!(versions(&lab, spoke).await, before.0, "a restart writes nothing to a Service or a load balancer");
    // The broken stream itself counts as a failed update; nothing was rejected.
    let stats = lab.hub.edges[0].admin("/stats").await.unwrap();
    let rejected: Vec<&str> = stats.lines().filter(|l| l.contains(".update_rejected") && !l.ends_with(": 0")).collect();
    assert!(rejected.is_empty(), "{rejected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_deleted_while_its_agent_is_dead_is_cleaned_up_at_its_return() {
    let lab = Lab::light().start().await.unwrap();
    let spoke = &lab.spokes[0];
    spoke.sample("orphan", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    spoke.agent().unwrap().process().kill();
    let services: Api<Service> = Api::namespaced(spoke.client(), "default");
    services.delete("orphan", &DeleteParams::default()).await.unwrap();
    let waiting = services.get("orphan").await.unwrap();
    assert!(waiting.metadata.deletion_timestamp.is_some(), "the finalizer keeps it while the agent is dead");
    assert_eq!(allocations(&lab).await.len(), 1);
    spoke.agent().unwrap().restart().await.unwrap();
    eventually("the Service is gone", async || {
        let left = services.get_opt("orphan").await.map_err(|e| e.to_string())?;
        left.map_or(Ok(()), |service| Err(format!("finalizers {:?}", service.metadata.finalizers)))
    })
    .await;
    eventually("the address is free", async || {
        let left = allocations(&lab).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_followed_by_the_other_manager() {
    let lab = Lab::light().managers(2).start().await.unwrap();
    let spoke = &lab.spokes[0];
    let before = spoke.sample("before", &[(Tcp, 8080)]).await.unwrap();
    let address = before.address().await.unwrap();
    let echo = Echo::start(SocketAddr::new(address, 8080)).await.unwrap();
    let leader = leader(&lab).await;
    lab.hub.managers[leader].process().kill();
    let after = spoke.sample("after", &[(Tcp, 8080)]).await.unwrap();
    let second = after.address().await.unwrap();
    assert_ne!(second, address);
    assert!(lab.ask(second, 8080).await.unwrap().starts_with("spoke-1/after "));
    assert_eq!(before.address().await.unwrap(), address);
    assert!(echo.stop().await.unwrap() > 0, "the stream went on");
    assert_eq!(allocations(&lab).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_that_cannot_be_bound_harms_nobody_else_and_its_service_says_why() {
    let lab = Lab::light().start().await.unwrap();
    let spoke = &lab.spokes[0];
    // The pool's first address goes to the first Service: something else sits on one of its ports.
    let first = lab.plan().pool().hosts().next().unwrap();
    let zeroth = lab.plan().pool().network();
    let squatters = [first, zeroth].map(|at| std::net::TcpListener::bind((at, 9999)).unwrap());
    let bad = spoke.sample("bad", &[(Tcp, 9999)]).await.unwrap();
    let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    eventually("the load balancer says who refuses it", async || {
        let intent = intents.get(&names::intent_name("Service", "default", "bad")).await.map_err(|e| e.to_string())?;
        let conditions = intent.status.unwrap_or_default().conditions;
        match nave_api::condition::find(&conditions, nave_api::ConditionType::Programmed) {
            Some(c) if c.status == "False" && c.message.contains("edge-1") && c.message.contains("9999") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let good = spoke.sample("good", &[(Tcp, 8080)]).await.unwrap();
    let address = good.address().await.unwrap();
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("spoke-1/good "));
    eventually("an Event on the Service says why", async || {
        let events: Api<Event> = Api::namespaced(spoke.client(), "default");
        let events = events.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        let notes: Vec<_> = events
            .into_iter()
            .filter(|event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some("bad"))
            .filter_map(|event| event.note)
            .collect();
        if notes.iter().any(|note| note.contains("edge-1")) { Ok(()) } else { Err(format!("{notes:?}")) }
    })
    .await;
    let service: Api<Service> = Api::namespaced(spoke.client(), "default");
    assert!(addresses_of(&service.get("bad").await.unwrap()).is_empty(), "a refused address is not shown");
    drop(squatters);
    bad.delete().await.unwrap();
    assert!(lab.ask(address, 8080).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hubs_api_may_be_away_for_a_minute() {
    let lab = Lab::light().start().await.unwrap();
    let spoke = &lab.spokes[0];
    let sample = spoke.sample("steady", &[(Tcp, 8080)]).await.unwrap();
    let address = sample.address().await.unwrap();
    let before = allocations(&lab).await;
    let echo = Echo::start(SocketAddr::new(address, 8080)).await.unwrap();
    lab.hub.plane.stop_api();
    let meanwhile = spoke.sample("meanwhile", &[(Tcp, 8080)]).await.unwrap();
    // The minute is what is tested: traffic moves all the time, and new connections are served.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        echo.moves_on().await;
        lab.ask(address, 8080).await.unwrap();
    }
    assert!(echo.stop().await.unwrap() > 0);
    lab.hub.plane.start_api().await.unwrap();
    let second = meanwhile.address().await.unwrap();
    assert!(lab.ask(second, 8080).await.unwrap().starts_with("spoke-1/meanwhile "));
    assert_eq!(sample.address().await.unwrap(), address);
    let after = allocations(&lab).await;
    assert!(before.iter().all(|(name, owner)| after.get(name) == Some(owner)), "{before:?} {after:?}");
}

/// Looks until it is so; the panic says what was seen last.
async fn eventually(what: &str, look: impl AsyncFn() -> Result<(), String>) {
    wait::until(what, PATIENCE, || look()).await.unwrap_or_else(|error| panic!("{error:?}"));
}

/// Whether Envoy is connected to a manager: its own gauge.
async fn connected(lab: &Lab, wanted: u64) -> Result<(), String> {
    let state = lab.hub.edges[0].stat("control_plane.connected_state").await.map_err(|e| format!("{e:?}"))?;
    if state == wanted { Ok(()) } else { Err(format!("connected_state {state}")) }
}

/// Waits until every load balancer has said its last word for now.
async fn settled(lab: &Lab, count: usize) {
    let intents: Api<TCPLoadBalancer> = Api::all(lab.hub.client());
    eventually("all load balancers are programmed", async || {
        let all = intents.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        let done = all.iter().filter(|intent| {
            intent
                .status
                .as_ref()
                .is_some_and(|s| nave_api::condition::is_true(&s.conditions, nave_api::ConditionType::Programmed))
        });
        let done = done.count();
        if done == count { Ok(()) } else { Err(format!("{done} of {count}")) }
    })
    .await;
}

/// The resourceVersions of all Services and load balancers.
async fn versions(lab: &Lab, spoke: &Spoke) -> BTreeMap<String, Option<String>> {
    let services: Api<Service> = Api::namespaced(spoke.client(), "default");
    let intents: Api<TCPLoadBalancer> = Api::all(lab.hub.client());
    let services = services.list(&ListParams::default()).await.unwrap().items;
    let intents = intents.list(&ListParams::default()).await.unwrap().items;
    let services = services.iter().map(|s| (format!("service {}", s.name_any()), s.resource_version()));
    services.chain(intents.iter().map(|i| (format!("intent {}", i.name_any()), i.resource_version()))).collect()
}

/// Who has which address.
async fn allocations(lab: &Lab) -> BTreeMap<String, Vec<String>> {
    let all: Api<IPAllocation> = Api::all(lab.hub.client());
    let all = all.list(&ListParams::default()).await.unwrap().items;
    all.iter().map(|a| (a.name_any(), a.spec.owners.iter().map(|owner| owner.name.clone()).collect())).collect()
}

/// Which manager leads, by its Lease: the holder's name ends with, or its endpoint is, that of a replica.
async fn leader(lab: &Lab) -> usize {
    let leases: Api<Lease> = Api::namespaced(lab.hub.client(), nave_e2e::manager::NAMESPACE);
    let lease = leases.get("nave-manager").await.unwrap();
    let said = serde_json::to_string(&lease).unwrap();
    let named = |manager: &nave_e2e::manager::Manager| said.contains(&manager.xds().to_string());
    lab.hub.managers.iter().position(named).expect("the Lease names the leader's endpoint")
}
