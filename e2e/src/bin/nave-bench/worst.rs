//! The worst objects that a tenant can write with the quota of docs/tenants.md. Knows the schemas' limits; sends nothing.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use nave_api::limits;
use serde_json::{Value, json};

/// Load balancers that the quota admits.
pub(crate) const BALANCERS: usize = 100;
/// Small edits between two large ones.
const EDITS: usize = 4;
/// As many addresses as an object of 1.5 MB holds.
pub(crate) const ADDRESSES: usize = 60_000;
const NAMESPACE: &str = "tenant-spoke-2";

/// One request: server-side apply, as an agent does it.
pub(crate) struct Write {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// Writes of which each changes what the one before of the same object said: all nodes of the largest NodeSet, the most endpoints,
/// the most ports, and edits of other load balancers, with some beyond the quota.
pub(crate) fn writes(network: IpNet) -> Vec<Write> {
    let mut writes = Vec::new();
    for round in 0..BALANCERS {
        let large = match round % 3 {
            0 => node_set(network, round),
            1 => endpoints(network, round),
            _ => ports(round),
        };
        writes.push(large);
        writes.extend((0..EDITS).map(|edit| edited(round * EDITS + edit, round)));
    }
    writes
}

fn node_set(network: IpNet, round: usize) -> Write {
    let node = |n: usize| {
        let addresses: Vec<IpAddr> =
            (0..limits::NODE_ADDRESSES).map(|a| address(network, n * limits::NODE_ADDRESSES + a + round)).collect();
        json!({"name": format!("node-{n}"), "addresses": addresses, "zone": format!("zone-{}", n % 3)})
    };
    let nodes: Vec<Value> = (0..limits::NODES).map(node).collect();
    write("NodeSet", "nodesets", "default", &json!({"nodes": nodes}))
}

/// On as many ports as have room in the object.
fn endpoints(network: IpNet, round: usize) -> Write {
    let addresses: Vec<IpAddr> = (0..ADDRESSES).map(|n| address(network, n + round)).collect();
    let endpoints: Vec<Value> =
        addresses.chunks(limits::ENDPOINT_ADDRESSES).map(|some| json!({"addresses": some, "ports": []})).collect();
    write(
        "TCPLoadBalancer",
        "tcploadbalancers",
        "lb-0",
        &json!({"ports": some_ports(10, round), "backends": {"endpoints": endpoints}}),
    )
}

fn ports(round: usize) -> Write {
    let nodes = json!({"nodes": {"nodeSet": "default", "subset": 0}});
    write(
        "TCPLoadBalancer",
        "tcploadbalancers",
        "lb-1",
        &json!({"ports": some_ports(limits::PORTS, round), "backends": nodes}),
    )
}

/// One load balancer of twice as many as the quota admits gets other ports.
fn edited(number: usize, round: usize) -> Write {
    let name = format!("lb-{}", 2 + number % (2 * BALANCERS));
    let nodes = json!({"nodes": {"nodeSet": "default"}});
    write("TCPLoadBalancer", "tcploadbalancers", &name, &json!({"ports": some_ports(2, round), "backends": nodes}))
}

fn some_ports(count: usize, round: usize) -> Vec<Value> {
    let port = |n: usize| json!({"name": format!("port-{n}"), "port": 1 + n + round * 7, "backendPort": 30_000 + n});
    (0..count).map(port).collect()
}

/// The n-th address of the network, around its end.
fn address(network: IpNet, n: usize) -> IpAddr {
    let IpAddr::V4(first) = network.network() else { return network.network() };
    let size = 1_u32.checked_shl(u32::from(32 - network.prefix_len().min(32))).unwrap_or(u32::MAX);
    Ipv4Addr::from(u32::from(first) + u32::try_from(n).unwrap_or(u32::MAX) % size).into()
}

fn write(kind: &str, kinds: &str, name: &str, spec: &Value) -> Write {
    let path =
        format!("/apis/nave.dev/v1alpha1/namespaces/{NAMESPACE}/{kinds}/{name}?fieldManager=nave-agent&force=true");
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    let object = json!({"apiVersion": "nave.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    Write { path, body: object.to_string().into_bytes() }
}
