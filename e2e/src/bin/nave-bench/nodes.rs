//! What nodes cost: one that comes or goes among many load balancers, and the worst objects that the schemas admit. Knows
//! observations and what is published; nothing is sent to an Envoy.

use std::time::Instant;

use nave_api::{NodeSet, TCPLoadBalancer, limits};
use nave_manager_core::{Engine, Role, Seen, Sight, Timestamp};
use nave_xds::resource::ResourceType;
use serde::Serialize;
use serde_json::{Value, json};

use crate::world::{self, World};
use crate::worst::ADDRESSES;

/// One node that goes, among so many, used by so many load balancers under the policy Cluster.
#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "the field is named as readers of the JSON know it")]
pub(crate) struct Nodes {
    pub(crate) load_balancers: usize,
    pub(crate) nodes: usize,
    pub(crate) changed_load_balancers: usize,
    pub(crate) xds_bytes: usize,
    pub(crate) manager_ms: f64,
}

/// What one write of a tenant costs at the schema's limits, with the quota that docs/tenants.md shows: milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct WorstWrite {
    /// A NodeSet of which no address may be used, under 100 load balancers.
    pub(crate) node_set: f64,
    /// As many endpoint addresses as fit into an object, on 100 ports.
    pub(crate) endpoints: f64,
    /// 100 ports on every node of the largest NodeSet.
    pub(crate) ports: f64,
}

const SIZES: [(usize, usize); 2] = [(1000, 100), (1000, 1000)];

/// Measures one node that goes; `say` hears what is measured now.
pub(crate) fn measure(say: impl Fn(&str)) -> Vec<Nodes> {
    SIZES
        .into_iter()
        .map(|(load_balancers, nodes)| {
            say(&format!("a node of {nodes} that goes, among {load_balancers} load balancers"));
            one_node_goes(load_balancers, nodes)
        })
        .collect()
}

fn one_node_goes(load_balancers: usize, nodes: usize) -> Nodes {
    let mut engine = world::engine(&World { pool: "10.0.0.0/8", balancers: load_balancers, ..World::default() });
    write_nodes(&mut engine, world::nodes(&good(nodes), 10));
    let begun = Instant::now();
    engine.observe(Seen::NodeSets(Sight::One(world::nodes(&good(nodes - 1), 11))));
    let (mut changed_load_balancers, mut xds_bytes) = (0, 0);
    loop {
        let outcome = engine.settle(Role::Leader, Timestamp::UNIX_EPOCH);
        let changed = outcome.publish.values().flat_map(|change| &change.upsert);
        for resource in changed.filter(|resource| resource.kind() == ResourceType::Endpoints) {
            changed_load_balancers += 1;
            xds_bytes += resource.wire().len();
        }
        if !engine.has_turns() {
            break;
        }
    }
    let manager_ms = begun.elapsed().as_secs_f64() * 1e3;
    Nodes { load_balancers, nodes, changed_load_balancers, xds_bytes, manager_ms }
}

/// Nodes that may be used, in three zones.
fn good(nodes: usize) -> Vec<Value> {
    let node = |n: usize| {
        let address = format!("192.168.{}.{}", n / 250, n % 250 + 1);
        json!({"name": format!("node-{n}"), "addresses": [address], "zone": format!("zone-{}", n % 3)})
    };
    (0..nodes).map(node).collect()
}

/// Measures the worst writes.
pub(crate) fn worst_write(say: impl Fn(&str)) -> WorstWrite {
    say("the worst writes that the schemas admit");
    let quota = json!({"loadBalancers": 100, "addresses": 110, "ports": 500, "endpoints": 5000});
    let mut engine = world::engine(&World { pool: "10.0.0.0/8", balancers: 100, quota, ..World::default() });
    let bad = |text: &str| {
        let node = |n: usize| json!({"name": format!("node-{n}"), "addresses": vec![text; limits::NODE_ADDRESSES]});
        (0..limits::NODES).map(node).collect::<Vec<_>>()
    };
    let node_set = (0..3).map(|n| write_nodes(&mut engine, world::nodes(&bad(&format!("none-{n}")), 10 + n)));
    let node_set = node_set.fold(0.0, f64::max);

    let ports: Vec<Value> = (1..=limits::PORTS).map(port).collect();
    let address = |n: usize| format!("192.168.{}.{}", n / 250, n % 250 + 1);
    let addresses: Vec<String> = (0..ADDRESSES).map(address).collect();
    let endpoints: Vec<Value> = addresses
        .chunks(limits::ENDPOINT_ADDRESSES)
        .map(|addresses| json!({"addresses": addresses, "ports": []}))
        .collect();
    let spec = json!({"ports": ports, "backends": {"endpoints": endpoints}});
    let endpoints = write(&mut engine, world::balancer_of("lb-0", 20, &spec));

    let all: Vec<Value> = good(limits::NODES);
    write_nodes(&mut engine, world::nodes(&all, 30));
    let spec = json!({"ports": ports, "backends": {"nodes": {"nodeSet": "default", "subset": 0}}});
    let ports = write(&mut engine, world::balancer_of("lb-1", 40, &spec));
    WorstWrite { node_set, endpoints, ports }
}

fn port(number: usize) -> Value {
    json!({"name": format!("port-{number}"), "port": number, "backendPort": 30_000 + number})
}

/// Takes in a load balancer and settles: milliseconds.
fn write(engine: &mut Engine, balancer: TCPLoadBalancer) -> f64 {
    settle(engine, Seen::LoadBalancers(Sight::One(balancer)))
}

/// The same of nodes.
fn write_nodes(engine: &mut Engine, nodes: NodeSet) -> f64 {
    settle(engine, Seen::NodeSets(Sight::One(nodes)))
}

/// What the write costs in the settlement that costs most.
fn settle(engine: &mut Engine, seen: Seen) -> f64 {
    let (mut begun, mut worst) = (Instant::now(), 0.0_f64);
    engine.observe(seen);
    loop {
        engine.settle(Role::Leader, Timestamp::UNIX_EPOCH);
        worst = worst.max(begun.elapsed().as_secs_f64() * 1e3);
        if !engine.has_turns() {
            return worst;
        }
        begun = Instant::now();
    }
}
