//! Backends that no tenant may have, asked for as addresses and by NodeSets. Knows the addresses; the managers judge them.

use nave_api::ConditionType::Accepted;
use serde_json::{Value, json};

use super::attempt::{Attempt, Expect, OWN, balancer};

/// The path of the attacker's NodeSets.
pub fn sets() -> String {
    format!("/apis/nave.dev/v1alpha1/namespaces/{OWN}/nodesets")
}

/// What no tenant may reach, even if its Tenant allows everything. `10.30.0.0/16` is the victim's.
const ADDRESSES: [(&str, &str); 37] = [
    ("loopback", "127.0.0.1"),
    ("the end of loopback", "127.255.255.254"),
    ("IPv6 loopback", "::1"),
    ("the unspecified address", "0.0.0.0"),
    ("this network", "0.1.2.3"),
    ("the unspecified IPv6 address", "::"),
    ("a cloud's metadata", "169.254.169.254"),
    ("a cloud's metadata by IPv6", "fd00:ec2::254"),
    ("Azure's host agent", "168.63.129.16"),
    ("Google's metadata by IPv6", "fd20:ce::254"),
    ("link-local", "169.254.1.1"),
    ("IPv6 link-local", "fe80::1"),
    ("site-local", "fec0::1"),
    ("multicast", "224.0.0.1"),
    ("IPv6 multicast", "ff02::1"),
    ("broadcast", "255.255.255.255"),
    ("a Service of the hub", "10.96.0.1"),
    ("a pod of the hub", "10.244.7.7"),
    ("a node of the hub", "192.168.77.7"),
    ("an address of a pool", "198.51.100.9"),
    ("a node of the victim", "10.30.0.10"),
    ("loopback, mapped", "::ffff:127.0.0.1"),
    ("loopback, mapped in hexadecimal", "::ffff:7f00:1"),
    ("loopback, compatible", "::7f00:1"),
    ("loopback by 6to4", "2002:7f00:1::"),
    ("loopback by NAT64", "64:ff9b::7f00:1"),
    ("metadata by 6to4", "2002:a9fe:a9fe::"),
    ("metadata by NAT64", "64:ff9b::a9fe:a9fe"),
    ("Azure's host agent, IPv4-translated", "::ffff:0:168.63.129.16"),
    ("a pod of the hub by ISATAP", "2001:db8::200:5efe:10.244.7.7"),
    ("a Service of the hub, mapped", "::ffff:10.96.0.1"),
    ("a node of the victim, mapped", "::ffff:10.30.0.10"),
    ("loopback with zeros", "127.000.000.001"),
    ("loopback in octal", "0177.0.0.1"),
    ("loopback in hexadecimal", "0x7f000001"),
    ("loopback as one number", "2130706433"),
    ("link-local with a zone", "fe80::1%lo"),
];

/// Each as an endpoint.
pub fn as_endpoints() -> Vec<Attempt> {
    let each = ADDRESSES.iter().zip(0..).map(|((what, address), number)| {
        let name = format!("endpoint-{number}");
        Attempt::balancer(
            &format!("send traffic to {what}, {address}"),
            balancer(&name, address),
            Expect::Says(Accepted, "BackendsRefused"),
        )
    });
    each.collect()
}

/// A NodeSet for each, to be made before what uses them.
pub fn node_sets() -> Vec<Value> {
    let each = ADDRESSES.iter().zip(0..).map(|((_, address), number)| {
        json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "NodeSet", "metadata": {"name": format!("nodes-{number}"), "namespace": OWN},
            "spec": {"nodes": [{"name": "node-1", "addresses": [address]}]},
        })
    });
    each.collect()
}

/// Each as the node of a NodeSet.
pub fn as_nodes() -> Vec<Attempt> {
    let each = ADDRESSES.iter().zip(0..).map(|((what, address), number)| {
        let mut object = balancer(&format!("by-nodes-{number}"), "");
        object["spec"]["backends"] = json!({"nodes": {"nodeSet": format!("nodes-{number}")}});
        let expect = Expect::Says(Accepted, "BackendsRefused");
        Attempt::balancer(&format!("call {what}, {address}, a node"), object, expect)
    });
    each.collect()
}
