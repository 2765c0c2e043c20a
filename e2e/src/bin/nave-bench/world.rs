//! What an engine is shown in benches: one tenant, one pool, as many load balancers and records as asked for. Knows objects;
//! measures nothing.

use std::collections::BTreeSet;

use nave_api::names::allocation_name;
use nave_api::{IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use nave_manager_core::{Engine, Role, Seen, Settings, Sight, Step, Timestamp};
use serde_json::{Value, json};

/// Where the load balancers are.
pub(crate) const NAMESPACE: &str = "tenant-shop";

/// How much there is.
#[derive(Default)]
pub(crate) struct World {
    /// The network that the pool includes.
    pub(crate) pool: &'static str,
    /// Load balancers, each with an address.
    pub(crate) balancers: usize,
    /// Records of owners that the engine does not look after: they take addresses, and nothing else.
    pub(crate) strangers: usize,
    /// What the tenant may have; null: what a Tenant without a quota may.
    pub(crate) quota: Value,
}

/// An engine that has settled everything in such a world.
pub(crate) fn engine(world: &World) -> Engine {
    let mut engine = Engine::new(Settings::default());
    for seen in lists(world) {
        engine.observe(seen);
    }
    engine.settle(Role::Leader, Timestamp::UNIX_EPOCH);
    engine
}

/// Everything there is, one list per kind.
pub(crate) fn lists(world: &World) -> Vec<Seen> {
    let World { pool, balancers, strangers, quota } = world;
    let spec = json!({"backends": {"allow": ["192.168.0.0/16"]}, "quota": quota});
    let tenant: Tenant = object("Tenant", "", "shop", 1, &spec);
    let tenant = Tenant { status: Some(status()), ..tenant };
    let nodes = (1..=10).map(|n| json!({"name": format!("n{n}"), "addresses": [format!("192.168.0.{n}")]}));
    let nodes = self::nodes(&nodes.collect::<Vec<Value>>(), 1);
    let pool = self::pool("public", pool, 1);
    let names: Vec<String> = (0..*balancers).map(|n| format!("lb-{n}")).collect();
    let own = names.iter().map(|name| ("TCPLoadBalancer", name.clone()));
    let owners = own.chain((0..*strangers).map(|n| ("Other", format!("other-{n}"))));
    let allocations = owners.enumerate().map(|(n, (kind, name))| allocation(world.pool, n, kind, &name)).collect();
    vec![
        Seen::Fleets(Sight::all(Vec::new())),
        Seen::Tenants(Sight::all(vec![tenant])),
        Seen::NodeSets(Sight::all(vec![nodes])),
        Seen::Pools(Sight::all(vec![pool])),
        Seen::HubNodes(Vec::new()),
        Seen::HubNetworks(Vec::new()),
        Seen::Deliveries { all: Vec::new(), unreadable: BTreeSet::new() },
        Seen::LoadBalancers(Sight::all(names.iter().map(|name| balancer(name, 2)).collect())),
        Seen::Allocations(Sight::all(allocations)),
    ]
}

fn status() -> nave_api::TenantStatus {
    nave_api::TenantStatus { namespace: Some(NAMESPACE.to_owned()), ..nave_api::TenantStatus::default() }
}

/// A default pool of one network.
pub(crate) fn pool(name: &str, include: &str, revision: usize) -> IPPool {
    let spec = json!({"source": {"static": {}}, "use": {"default": true}, "addresses": {"include": [include]}});
    object("IPPool", "", name, revision, &spec)
}

/// The tenant's nodes.
pub(crate) fn nodes(nodes: &[Value], revision: usize) -> NodeSet {
    object("NodeSet", NAMESPACE, "default", revision, &json!({"nodes": nodes}))
}

/// A load balancer of one port on the tenant's nodes.
pub(crate) fn balancer(name: &str, revision: usize) -> TCPLoadBalancer {
    let spec = json!({"ports": [{"port": 80, "backendPort": 30080}], "backends": {"nodes": {"nodeSet": "default"}}});
    balancer_of(name, revision, &spec)
}

/// A load balancer.
pub(crate) fn balancer_of(name: &str, revision: usize, spec: &Value) -> TCPLoadBalancer {
    object("TCPLoadBalancer", NAMESPACE, name, revision, spec)
}

/// The record of the pool's n-th address.
fn allocation(pool: &str, n: usize, kind: &str, name: &str) -> IPAllocation {
    let network: ipnet::IpNet = pool.parse().unwrap_or_default();
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    let address = match network.network() {
        std::net::IpAddr::V4(first) => std::net::IpAddr::V4((u32::from(first) + n).into()),
        std::net::IpAddr::V6(first) => std::net::IpAddr::V6((u128::from(first) + u128::from(n)).into()),
    };
    let ports = json!([{"protocol": "TCP", "port": 80}]);
    let owner =
        json!({"namespace": NAMESPACE, "kind": kind, "name": name, "uid": format!("uid-{name}"), "ports": ports});
    let spec = json!({"address": address, "pool": "public", "owners": [owner]});
    object("IPAllocation", "", &allocation_name(address), 3, &spec)
}

/// The allocation that a step creates, as the API answers.
pub(crate) fn recorded(step: Step, revision: usize) -> Option<IPAllocation> {
    let Step::CreateAllocation(mut object) = step else { return None };
    object.metadata.uid = Some(format!("uid-{revision}"));
    object.metadata.resource_version = Some(revision.to_string());
    Some(object)
}

fn object<K: serde::de::DeserializeOwned>(kind: &str, namespace: &str, name: &str, revision: usize, spec: &Value) -> K {
    let namespace = if namespace.is_empty() { Value::Null } else { json!(namespace) };
    let metadata = json!({
        "namespace": namespace, "name": name, "uid": format!("uid-{name}"), "resourceVersion": revision.to_string(),
        "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let whole = json!({"apiVersion": "nave.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    serde_json::from_value(whole).unwrap_or_else(|error| unreachable!("{kind} {name}: {error}"))
}
