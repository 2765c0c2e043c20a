//! Silent losses: the path between a program of ours and an API server (a NAT, a load balancer, a firewall) forgets the
//! connections that it has. They pass nothing and end nothing; new ones work. What is changed then is shown within ten
//! seconds and written once, and a program that was quiet meanwhile pays nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use nave_api::{IPAllocation, names};
use nave_e2e::Protocol::Tcp;
use nave_e2e::control_plane::ControlPlane;
use nave_e2e::lab::{Spoke, Weight, addresses_of, heaviest};
use nave_e2e::network::Namespace;
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Lab, wait};
use serde_json::Value;

/// A loss delays a change by less than this.
const DELAY: Duration = Duration::from_secs(10);
/// The user of a connection that was lost waits longer than this: the kernel gives it up after five seconds.
const UNPAID: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn silent_losses_of_an_agents_connections_delay_a_change_by_less_than_ten_seconds() {
    let Some(lab) = lab().await else { return };
    let spoke = &lab.spokes[0];
    let agent = spoke.agent().unwrap().namespace().unwrap();
    let (hub, own) = (lab.hub.plane.address(), spoke.plane.address());
    let undisturbed = shown(spoke, "undisturbed").await;

    lose(agent, &[hub]);
    let hub_lost = shown(spoke, "hub-lost").await;
    lose(agent, &[own]);
    let spoke_lost = shown(spoke, "spoke-lost").await;
    lose(agent, &[hub, own]);
    let both_lost = shown(spoke, "both-lost").await;
    let lost = lose(agent, &[hub, own]);
    given_up(agent, &[hub, own], &lost).await;
    let later = shown(spoke, "later").await;

    eprintln!(
        "undisturbed {undisturbed:?}, hub {hub_lost:?}, spoke {spoke_lost:?}, both {both_lost:?}, later {later:?}"
    );
    // A machine that is slow is so without a loss, too.
    for time in [hub_lost, spoke_lost, both_lost] {
        assert!(time < undisturbed + DELAY, "{time:?}");
    }
    assert!(later < undisturbed + UNPAID, "the connections were given up before: {later:?}");
    written_once(&lab, &["hub-lost", "spoke-lost", "both-lost", "later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_losses_of_a_managers_connections_delay_a_change_by_less_than_ten_seconds() {
    let Some(lab) = lab().await else { return };
    let spoke = &lab.spokes[0];
    let manager = lab.hub.managers[0].namespace().unwrap();
    let hub = lab.hub.plane.address();
    let undisturbed = shown(spoke, "undisturbed").await;

    lose(manager, &[hub]);
    let made = shown(spoke, "lost").await;
    lose(manager, &[hub]);
    let freed = freed(&lab, "undisturbed").await;
    let lost = lose(manager, &[hub]);
    given_up(manager, &[hub], &lost).await;
    let later = shown(spoke, "later").await;

    eprintln!("undisturbed {undisturbed:?}, made {made:?}, freed {freed:?}, later {later:?}");
    for time in [made, freed] {
        assert!(time < undisturbed + DELAY, "{time:?}");
    }
    assert!(later < undisturbed + UNPAID, "the connections were given up before: {later:?}");
    written_once(&lab, &["lost", "later"]);
}

/// A lab whose programs have paths of their own. What backends there are does not matter: there are none.
async fn lab() -> Option<Lab> {
    let (weight, why) = heaviest();
    match weight {
        Weight::Light => {
            eprintln!("not tried: {why}");
            None
        }
        Weight::Full => Some(Lab::full().nodes(0).apart().audit().start().await.unwrap()),
    }
}

/// The path forgets all connections to these servers; their ports.
fn lose(namespace: &Namespace, servers: &[SocketAddr]) -> Vec<u16> {
    let ports: Vec<u16> = servers.iter().flat_map(|server| namespace.connections(*server).unwrap()).collect();
    assert!(!ports.is_empty(), "there is nothing to lose");
    namespace.forget(&ports).unwrap();
    ports
}

/// Waits until the kernel has given these connections up.
async fn given_up(namespace: &Namespace, servers: &[SocketAddr], lost: &[u16]) {
    wait::until("the lost connections are given up", PATIENCE, || async {
        let open = servers.iter().flat_map(|server| namespace.connections(*server).unwrap());
        let left: Vec<u16> = open.filter(|port| lost.contains(port)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await
    .unwrap();
}

/// Makes a Service and waits until it shows an address; how long that takes.
async fn shown(spoke: &Spoke, name: &str) -> Duration {
    let begun = Instant::now();
    spoke.sample(name, &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    begun.elapsed()
}

/// Deletes a Service and waits until its address is free; how long that takes.
async fn freed(lab: &Lab, name: &str) -> Duration {
    let services: Api<Service> = Api::namespaced(lab.spokes[0].client(), "default");
    let allocations: Api<IPAllocation> = Api::all(lab.hub.client());
    let owned = addresses_of(&services.get(name).await.unwrap());
    let begun = Instant::now();
    services.delete(name, &DeleteParams::default()).await.unwrap();
    wait::until("the address is free", PATIENCE, || async {
        let all = allocations.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let left =
            all.iter().any(|allocation| owned.iter().any(|address| allocation.name_any() == address.to_string()));
        if left { Err(format!("{owned:?} is allocated")) } else { Ok(()) }
    })
    .await
    .unwrap();
    begun.elapsed()
}

/// Nothing was written twice: no finalizer, no load balancer, no allocation, and no status with the same content.
fn written_once(lab: &Lab, services: &[&str]) {
    let (spoke, hub) = (writes(&lab.spokes[0].plane), writes(&lab.hub.plane));
    for Write { what, content, count } in spoke.iter().chain(&hub) {
        assert_eq!(*count, 1, "{what:?}: {content}");
    }
    let count = |writes: &[Write], verb: &str, resource: &str, name: &str| {
        writes.iter().filter(|write| write.what == [verb, resource, name]).count()
    };
    for service in services {
        let intent = names::intent_name("Service", "default", service);
        assert_eq!(count(&spoke, "patch", "services/", service), 1, "the finalizer of {service}");
        assert_eq!(count(&hub, "patch", "tcploadbalancers/", &intent), 1, "{intent}");
    }
    let allocated = hub.iter().filter(|write| write.what[..2] == ["create", "ipallocations/"]).count();
    assert_eq!(allocated, services.len() + 1, "one for each Service");
}

/// Successful writes of our programs to Services, load balancers and allocations.
struct Write {
    /// Verb, resource with subresource, name.
    what: [String; 3],
    content: String,
    count: u32,
}

fn writes(plane: &ControlPlane) -> Vec<Write> {
    let mut writes: BTreeMap<([String; 3], String), u32> = BTreeMap::new();
    for line in plane.audit().unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
        let ours = text("/user/username").starts_with("system:serviceaccount:");
        if let Some(content) = event.get("requestObject").filter(|_| ours && (200..300).contains(&code)) {
            let resource = [text("/objectRef/resource"), text("/objectRef/subresource")].join("/");
            let what = [text("/verb"), resource, text("/objectRef/name")];
            *writes.entry((what, content.to_string())).or_default() += 1;
        }
    }
    writes.into_iter().map(|((what, content), count)| Write { what, content, count }).collect()
}
