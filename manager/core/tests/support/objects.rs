//! Objects of the hub for tests, from JSON as people write it. Knows defaults; knows no test.

use nave_api::{Fleet, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use nave_manager_core::Timestamp;
use serde_json::{Value, json};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

pub fn pool(name: &str, spec: &Value) -> IPPool {
    let mut whole = json!({"source": {"static": {}}, "use": {"default": true}});
    merge(&mut whole, spec);
    read("IPPool", "", name, &whole)
}

pub fn tenant(name: &str, spec: &Value) -> Tenant {
    let mut whole = json!({"backends": {"allow": ["10.0.0.0/8", "fd00::/8"], "sharing": "Shared"}});
    merge(&mut whole, spec);
    read("Tenant", "", name, &whole)
}

pub fn fleet(name: &str) -> Fleet {
    read("Fleet", "", name, &json!({}))
}

pub fn nodes(namespace: &str, name: &str, nodes: &[(&str, &str)]) -> NodeSet {
    let nodes: Vec<Value> = nodes.iter().map(|(name, address)| json!({"name": name, "addresses": [address]})).collect();
    read("NodeSet", namespace, name, &json!({"nodes": nodes}))
}

/// A load balancer of port 80 on the nodes of the NodeSet `default`.
pub fn balancer(namespace: &str, name: &str, spec: &Value) -> TCPLoadBalancer {
    let mut whole = json!({
        "ports": [{"protocol": "TCP", "port": 80, "backendPort": 30080}],
        "backends": {"nodes": {"nodeSet": "default"}},
    });
    merge(&mut whole, spec);
    read("TCPLoadBalancer", namespace, name, &whole)
}

fn read<K: serde::de::DeserializeOwned>(kind: &str, namespace: &str, name: &str, spec: &Value) -> K {
    let namespace = if namespace.is_empty() { Value::Null } else { json!(namespace) };
    let metadata = json!({"namespace": namespace, "name": name});
    serde_json::from_value(json!({"apiVersion": "nave.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}))
        .unwrap_or_else(|e| panic!("{kind} {name}: {e}"))
}

/// Top-level fields of `over` replace those of `base`.
fn merge(base: &mut Value, over: &Value) {
    let (Some(base), Some(over)) = (base.as_object_mut(), over.as_object()) else { return };
    base.extend(over.clone());
}
