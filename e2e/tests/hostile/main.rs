//! A hostile tenant: it has its own credential of the hub and speaks to the API server as it likes. Whatever it tries, another
//! tenant keeps its objects, its addresses, its listeners and its traffic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod attempt;
mod backends;
mod canary;
mod flood;
mod objects;
mod rights;
mod secrets;
mod victim;

use std::net::IpAddr;
use std::time::Instant;

use attempt::{Attempt, OWN, VICTIM, bytes, send};
use http::Method;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use nave_api::ConditionType::Programmed;
use nave_api::tcp_load_balancer::TCPLoadBalancerStatus;
use nave_api::{IPAllocation, TCPLoadBalancer, condition};
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Lab, Protocol, control_plane, wait};
use objects::Target;
use serde_json::{Value, json};
use victim::{Traffic, belongings};

/// So many attempts there are at least.
const ATTEMPTS: usize = 40;
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_tenant_asks_of_the_api_moves_another() {
    let mut lab = Lab::light().spokes(2).start().await.unwrap();
    lab.spokes[1].agent = None; // its credential is in other hands now
    let sample = lab.spokes[0].sample("web", &[(Protocol::Tcp, 8080)]).await.unwrap();
    let address = sample.address().await.unwrap();
    pools(&lab).await; // after the address was given: a pool that is reserved for a tenant comes first
    lab.spokes[0].apply(&shared_service()).await.unwrap();
    sample.answers(address).await.unwrap();
    let shared = lab.spokes[0].addresses("default", "shared").await.unwrap()[0];
    let (attacker, names) = (credential(&lab).await, names(&lab).await);
    let before = belongings(&lab, &names).await;
    let traffic = Traffic::start(address, 8080);

    lab.hub.apply(&others()).await.unwrap();
    let attempts = attempts(&lab, address, shared).await;
    assert!(attempts.len() >= ATTEMPTS, "only {} attempts", attempts.len());
    assert_eq!(failed(&attempts, &attacker, &lab.hub.client()).await, Vec::<String>::new());
    let shown = decided(&lab).await;
    assert!(!shown.contains(&address) && !shown.contains(&shared), "{shown:?}");

    println!("{} attempts, {} answers to the victim's client", attempts.len(), traffic.end().await);
    assert_eq!(belongings(&lab, &names).await, before);
    assert_eq!(lab.hub.edges[0].refusals().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_objects_ends_at_the_quota_and_delays_nobody() {
    let mut lab = Lab::light().spokes(2).start().await.unwrap();
    lab.spokes[1].agent = None;
    let sample = lab.spokes[0].sample("web", &[(Protocol::Tcp, 8080)]).await.unwrap();
    let address = sample.address().await.unwrap();
    sample.answers(address).await.unwrap();
    flood::limit(&lab).await;
    let names = names(&lab).await;
    let before = belongings(&lab, &names).await;
    let traffic = Traffic::start(address, 8080);

    let begun = Instant::now();
    let flood = tokio::spawn(flood::pour(credential(&lab).await, lab.plan().node(2, 0).to_string()));
    let asked = Instant::now();
    let later = lab.spokes[0].sample("later", &[(Protocol::Tcp, 8081)]).await.unwrap();
    let new = later.address().await.unwrap();
    println!("a new Service of the victim has its address after {:?}", asked.elapsed());
    assert!(!flood.is_finished(), "that was during the flood");
    later.answers(new).await.unwrap();
    let outcome = flood.await.unwrap();
    println!("{} taken and {} refused in {:?}", outcome.taken, outcome.refused, begun.elapsed());
    assert_eq!((outcome.taken, outcome.refused), (flood::TAKEN, flood::TRIED - flood::TAKEN), "{:?}", outcome.others);
    assert!(decided(&lab).await.len() <= 10, "the Tenant's quota of addresses holds");

    println!("{} answers to the victim's client", traffic.end().await);
    assert_eq!(belongings(&lab, &names).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_backend_leads_where_a_tenant_must_not_go() {
    let lab = Lab::light().spokes(0).edges(1).strict().start().await.unwrap();
    for (number, nodes) in [(1, "10.30.0.0/16"), (2, "0.0.0.0/0")] {
        let (name, allow) = (format!("spoke-{number}"), json!([nodes, "::/0"]));
        let allow = if number == 1 { json!([nodes]) } else { allow };
        apply(&lab, "Tenant", &name, json!({"backends": {"allow": allow}})).await;
    }
    let attacker = credential(&lab).await;
    lab.hub.pool("documentation", "198.51.100.0/24").await.unwrap();
    let (node, pods) = ("pods-1", json!({"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"]}));
    lab.hub
        .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": pods}))
        .await
        .unwrap();
    let address = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.168.77.7"}]}});
    let merge = [("content-type", "application/merge-patch+json".to_owned())];
    send(&lab.hub.client(), &Method::PATCH, "/api/v1/nodes/pods-1/status", &merge, &bytes(&address)).await.unwrap();
    for set in backends::node_sets() {
        send(&attacker, &Method::POST, &backends::sets(), &[], &bytes(&set)).await.unwrap();
    }
    let attempts: Vec<Attempt> = backends::as_endpoints().into_iter().chain(backends::as_nodes()).collect();
    assert_eq!(failed(&attempts, &attacker, &lab.hub.client()).await, Vec::<String>::new());
    let clusters = lab.hub.edges[0].admin("/clusters").await.unwrap();
    let hosts: Vec<&str> =
        clusters.lines().filter(|line| line.contains("spoke-2/") && line.contains("::cx_")).collect();
    assert_eq!(hosts, Vec::<&str>::new(), "Envoy knows a backend of them");
}

/// A pool that is the victim's alone, and one whose addresses all share by port.
async fn pools(lab: &Lab) {
    let IpAddr::V4(first) = lab.plan().pool().network() else { panic!("the lab's pool is IPv4") };
    let [a, b, ..] = first.octets();
    let only = json!({"tenants": {"names": ["spoke-1"]}});
    for (name, third, open, sharing) in
        [("closed", 201, only, "Exclusive"), ("shared", 202, json!({}), "ByPortAcrossTenants")]
    {
        let addresses = json!({"include": [format!("{a}.{b}.{third}.0/28")]});
        let spec = json!({"source": {"static": {}}, "addresses": addresses, "use": open, "sharing": sharing});
        apply(lab, "IPPool", name, spec).await;
    }
}

async fn apply(lab: &Lab, kind: &str, name: &str, spec: Value) {
    let object = json!({"apiVersion": "nave.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    lab.hub.apply(&object).await.unwrap();
}

/// A Service of the victim's in the pool `shared`.
fn shared_service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "shared", "annotations": {"nave.dev/pool": "shared"}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 8080}]},
    })
}

/// A certificate that an administrator keeps in the attacker's namespace.
fn others() -> Value {
    secrets::secret("others", "kubernetes.io/tls", &["tls.crt", "tls.key"])
}

/// All that one who had seen everything of the victim could try.
async fn attempts(lab: &Lab, address: IpAddr, shared: IpAddr) -> Vec<Attempt> {
    let admin = lab.hub.client();
    let name = names(lab).await.into_iter().find(|name| name.starts_with("default-web")).unwrap();
    let intents: Api<TCPLoadBalancer> = Api::namespaced(admin.clone(), VICTIM);
    let allocations: Api<IPAllocation> = Api::all(admin);
    let uid = intents.get(&name).await.unwrap().metadata.uid.unwrap();
    let allocation = allocations.get(&address.to_string()).await.unwrap().metadata.uid.unwrap();
    let (address, shared) = (address.to_string(), shared.to_string());
    let node = lab.plan().node(2, 0).to_string();
    let target =
        Target { name: &name, uid: &uid, address: &address, allocation: &allocation, shared: &shared, node: &node };
    rights::attempts(&name, &address).into_iter().chain(objects::attempts(&target)).chain(secrets::attempts()).collect()
}

/// Waits until the managers have judged all that the attacker has, and says which addresses that shows.
async fn decided(lab: &Lab) -> Vec<IpAddr> {
    let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), OWN);
    wait::until("everything is judged", PATIENCE, || async {
        let intents = intents.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let statuses: Vec<_> = intents.into_iter().map(|intent| intent.status.unwrap_or_default()).collect();
        let judged = |status: &TCPLoadBalancerStatus| condition::find(&status.conditions, Programmed).is_some();
        match statuses.iter().find(|status| !judged(status)) {
            Some(waiting) => Err(format!("{waiting:?}")),
            None => Ok(statuses.into_iter().flat_map(|status| status.addresses).collect::<Vec<_>>()),
        }
    })
    .await
    .unwrap()
    .iter()
    .filter_map(|address| address.value.parse().ok())
    .collect()
}

/// A client with what the agent of spoke-2 was given.
async fn credential(lab: &Lab) -> Client {
    control_plane::connect(&lab.hub.credential("spoke-2").await.unwrap()).await.unwrap()
}

/// The names of the victim's load balancers.
async fn names(lab: &Lab) -> Vec<String> {
    let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), VICTIM);
    intents.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect()
}

/// Runs them all, prints what came of each, and returns those that came out otherwise.
async fn failed(attempts: &[Attempt], attacker: &Client, admin: &Client) -> Vec<String> {
    let mut failed = Vec::new();
    for attempt in attempts {
        match attempt.run(attacker, admin).await {
            Ok(outcome) => println!("held    {}: {outcome}", attempt.name()),
            Err(outcome) => {
                println!("BROKEN  {}: {outcome}", attempt.name());
                failed.push(format!("{}: {outcome}", attempt.name()));
            }
        }
    }
    failed
}
