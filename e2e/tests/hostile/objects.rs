//! Objects in the attacker's own room that speak of the victim: whether the managers believe them. Knows the objects; knows
//! nothing of rights.

use nave_api::ConditionType::{Accepted, Allocated};
use serde_json::{Value, json};

use super::attempt::{Attempt, Expect, OWN, VICTIM, balancer, intents};

/// The victim as an attacker who had seen everything would know it.
pub struct Target<'a> {
    /// The name of its load balancer.
    pub name: &'a str,
    /// The uid of that.
    pub uid: &'a str,
    /// Its address.
    pub address: &'a str,
    /// The uid of the IPAllocation of that.
    pub allocation: &'a str,
    /// Its address in the pool `shared`.
    pub shared: &'a str,
    /// A node of the attacker's own.
    pub node: &'a str,
}

/// All of them. The pool `closed` is the victim's alone, the pool `shared` is open to all, with `ByPortAcrossTenants`.
pub fn attempts(target: &Target<'_>) -> Vec<Attempt> {
    let mut all = forged(target);
    all.extend(of_metadata_without_bounds());
    all.extend(addresses(target));
    all.extend(refused_by_the_schema());
    all.push(Attempt::balancer(
        "name a backend by name",
        balancer("named", "localhost"),
        Expect::Says(Accepted, "BackendsRefused"),
    ));
    all
}

fn forged(target: &Target<'_>) -> Vec<Attempt> {
    let Target { name, uid, address, allocation, shared: _, node } = target;
    let owner = |kind: &str, name: &str, uid: &str| json!([{"apiVersion": "nave.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    let origin = json!({"kind": "Service", "namespace": "default", "name": "web", "uid": uid});
    let status = json!({"addresses": [{"value": address, "pool": "public", "family": "IPv4", "ports": []}]});
    let cases = [
        (
            "wear the victim's labels",
            "labels",
            "/metadata/labels",
            json!({"nave.dev/tenant": "spoke-1", "nave.dev/origin-uid": uid}),
        ),
        (
            "wear the annotations of an owner",
            "annotations",
            "/metadata/annotations",
            json!({"nave.dev/owner": format!("{VICTIM}/{name}"), "nave.dev/owner-uid": uid}),
        ),
        ("bring the victim's uid", "uid", "/metadata/uid", json!(uid)),
        (
            "be owned by the victim's load balancer",
            "owned",
            "/metadata/ownerReferences",
            owner("TCPLoadBalancer", name, uid),
        ),
        (
            "be owned by the victim's allocation",
            "owned-2",
            "/metadata/ownerReferences",
            owner("IPAllocation", address, allocation),
        ),
        ("stand for the victim's Service", "origin", "/spec/origin", origin),
        ("bring a status with the victim's address", "status", "/status", status),
        ("bear the name of the victim's load balancer", name, "/spec/ports/0/name", json!("web")),
    ];
    let cases = cases.into_iter().map(|(what, name, place, value)| {
        Attempt::balancer(what, with(balancer(name, node), place, value), Expect::Harmless)
    });
    cases.collect()
}

/// What the policy nave-agents-objects refuses, on each kind that an agent writes.
fn of_metadata_without_bounds() -> Vec<Attempt> {
    let kinds = [
        ("tcploadbalancers", balancer("meta", "203.0.113.9")),
        ("httploadbalancers", object("HTTPLoadBalancer", json!({"hostnames": ["a.example.com"], "rules": [{}]}))),
        ("nodesets", object("NodeSet", json!({"nodes": []}))),
    ];
    let own = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|at| json!({"apiVersion": "v1", "kind": "Secret", "name": "x", "uid": format!("u{at}")}))
            .collect()
    };
    let mut blocking = own(1);
    blocking[0]["blockOwnerDeletion"] = json!(true);
    let entries = |count: usize| -> Value { (0..count).map(|at| (format!("example.com/{at}"), json!("x"))).collect() };
    let changes = [
        ("a finalizer of its own", "/metadata/finalizers", json!(["example.com/own"])),
        ("the manager's finalizers", "/metadata/finalizers", json!(["nave.dev/release", "nave.dev/tenant"])),
        ("an owner that waits for it", "/metadata/ownerReferences", json!(blocking)),
        ("nine owners", "/metadata/ownerReferences", json!(own(9))),
        ("65 annotations", "/metadata/annotations", entries(65)),
        ("65 labels", "/metadata/labels", entries(65)),
    ];
    let mut attempts = Vec::new();
    for (plural, object) in &kinds {
        for (what, place, value) in &changes {
            let object = with(object.clone(), place, value.clone());
            let path = format!("/apis/nave.dev/v1alpha1/namespaces/{OWN}/{plural}");
            attempts.push(Attempt::post(&format!("give one of its {plural} {what}"), &path, object));
        }
    }
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{OWN}/leases/agent");
    let held = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "agent", "finalizers": ["example.com/own"]},
    });
    attempts.push(Attempt::apply("hold its Lease by a finalizer", &lease, held));
    attempts
}

fn object(kind: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "nave.dev/v1alpha1", "metadata": {"name": "meta", "namespace": OWN}});
    object["kind"] = json!(kind);
    object["spec"] = spec;
    object
}

fn addresses(target: &Target<'_>) -> Vec<Attempt> {
    let Target { address, shared, node, .. } = target;
    let asks = |name: &str, address: Value| with(balancer(name, node), "/spec/address", address);

    vec![
        Attempt::balancer(
            "ask for the victim's address",
            asks("ask", json!({"requested": [address]})),
            Expect::Says(Allocated, "AddressTaken"),
        ),
        Attempt::balancer(
            "ask for the victim's address in its mapped form",
            asks("ask-mapped", json!({"requested": [format!("::ffff:{address}")]})),
            Expect::Refused(&[422]),
        ),
        Attempt::balancer(
            "ask for an address of no pool",
            asks("ask-none", json!({"requested": ["192.0.2.77"]})),
            Expect::Says(Allocated, "AddressNotOffered"),
        ),
        Attempt::balancer(
            "ask for a pool of the victim's",
            asks("ask-closed", json!({"pool": "closed"})),
            Expect::Says(Allocated, "PoolNotOpen"),
        ),
        Attempt::balancer(
            "ask for a pool that is none",
            asks("ask-unknown", json!({"pool": "unknown"})),
            Expect::Says(Allocated, "PoolNotOpen"),
        ),
        Attempt::balancer(
            "ask for the victim's port of a shared address",
            asks("ask-port", json!({"pool": "shared", "requested": [shared]})),
            Expect::Says(Allocated, "PortTaken"),
        ),
        Attempt::balancer(
            "ask for a pool by a path",
            asks("ask-path", json!({"pool": "../closed"})),
            Expect::Refused(&[422]),
        ),
    ]
}

fn refused_by_the_schema() -> Vec<Attempt> {
    let ports: Vec<Value> = (1..=101).map(|port| json!({"port": port, "backendPort": 1})).collect();
    let addresses = |groups: usize, each: usize| json!({"endpoints": vec![json!({"addresses": vec!["203.0.113.9"; each]}); groups]});
    let changed = |name: &str, place: &str, value: Value| with(balancer(name, "203.0.113.9"), place, value);
    let deep = format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    let schema = || Expect::Refused(&[400, 422]);
    let elsewhere = changed("elsewhere", "/metadata/namespace", json!(VICTIM));
    let mut large = balancer("large", "203.0.113.9");
    large = with(large, "/metadata/annotations", json!({"large": "x".repeat(1_400_000)}));
    let mut huge = balancer("huge", "203.0.113.9");
    huge = with(huge, "/metadata/annotations", json!({"huge": "x".repeat(4_000_000)}));
    vec![
        Attempt::post("name the victim's namespace in the body", &intents(OWN), elsewhere).expecting(schema()),
        Attempt::balancer(
            "choose a name that leaves its path",
            balancer("../../tenant-spoke-1/web", "203.0.113.9"),
            schema(),
        ),
        Attempt::balancer("choose a name with Envoy's separators", balancer("a/b", "203.0.113.9"), schema()),
        Attempt::balancer("open 101 ports", changed("ports", "/spec/ports", json!(ports)), schema()),
        Attempt::balancer(
            "open port 0",
            changed("zero", "/spec/ports", json!([{"port": 0, "backendPort": 1}])),
            schema(),
        ),
        Attempt::balancer(
            "open port 65536",
            changed("above", "/spec/ports", json!([{"port": 65_536, "backendPort": 1}])),
            schema(),
        ),
        Attempt::balancer(
            "name 1001 groups of endpoints",
            changed("groups", "/spec/backends", addresses(1001, 1)),
            schema(),
        ),
        Attempt::balancer(
            "name 1001 addresses in a group",
            changed("addresses", "/spec/backends", addresses(1, 1001)),
            schema(),
        ),
        Attempt::balancer("send 1.4 MB of annotations", large, Expect::Refused(&[413, 422])),
        Attempt::balancer("send 4 MB", huge, Expect::Refused(&[413, 422])),
        Attempt::balancer("nest 20000 deep", Value::Null, schema()).saying(deep),
    ]
}

/// The object with a value at a place, made on the way.
pub fn with(mut object: Value, place: &str, value: Value) -> Value {
    let mut at = &mut object;
    for key in place.split('/').skip(1) {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key],
        };
    }
    *at = value;
    object
}
