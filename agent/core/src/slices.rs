//! Endpoints of Services. Knows EndpointSlices, and keeps of them only what is decided with.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use kube::Resource;
use kube::core::ObjectMeta;
use nave_api::tcp_load_balancer::Protocol;

use crate::Key;

const SERVICE: &str = "kubernetes.io/service-name";

/// What an EndpointSlice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The Service it belongs to.
    pub service: Key,
    /// The ports of all its pods, sorted.
    pub ports: Vec<Port>,
    /// Those that serve, ready or on their way out.
    pub pods: Vec<Pod>,
}

/// A port of the pods of a slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The Service's port that it belongs to.
    pub name: Option<String>,
    /// Absent: one that we do not serve.
    pub protocol: Option<Protocol>,
    /// The number.
    pub port: u16,
}

/// An endpoint that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it runs.
    pub node: Option<String>,
    /// Otherwise it still serves while it ends.
    pub ready: bool,
}

impl Slice {
    /// Of a slice that belongs to a Service.
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        let service = service(slice.meta())?;
        let mut ports: Vec<Port> = slice.ports.iter().flatten().filter_map(port).collect();
        ports.sort();
        Some(Self { service, ports, pods: slice.endpoints.iter().filter_map(pod).collect() })
    }
}

/// The Service that a slice with these metadata belongs to.
pub fn service(metadata: &ObjectMeta) -> Option<Key> {
    let name = metadata.labels.as_ref()?.get(SERVICE)?.clone();
    Some(Key { namespace: metadata.namespace.clone()?, name })
}

fn port(port: &EndpointPort) -> Option<Port> {
    let name = port.name.clone().filter(|name| !name.is_empty());
    let number = u16::try_from(port.port?).ok().filter(|port| *port > 0)?;
    Some(Port { name, protocol: Protocol::of_service(port.protocol.as_deref()), port: number })
}

fn pod(endpoint: &Endpoint) -> Option<Pod> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let draining = conditions
        .is_some_and(|conditions| conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false));
    let addresses = endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    (ready || draining).then(|| Pod { addresses, node: endpoint.node_name.clone(), ready })
}

/// The nodes that serve by themselves: those with ready endpoints; while there is none, those that still serve.
pub fn local<'a>(slices: impl Iterator<Item = &'a Slice>) -> Vec<String> {
    let (mut ready, mut draining) = (BTreeSet::new(), BTreeSet::new());
    for pod in slices.flat_map(|slice| &slice.pods) {
        let nodes = if pod.ready { &mut ready } else { &mut draining };
        nodes.extend(pod.node.clone());
    }
    if ready.is_empty() { draining.into_iter().collect() } else { ready.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slice(endpoints: &Value) -> Slice {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": endpoints,
        }))
        .unwrap();
        Slice::of(&slice).unwrap()
    }

    fn endpoint(node: &str, ready: Option<bool>, draining: bool) -> Value {
        json!({"addresses": ["10.0.0.9"], "nodeName": node,
            "conditions": {"ready": ready, "serving": draining, "terminating": draining}})
    }

    #[test]
    fn nodes_with_ready_endpoints_serve_and_draining_ones_only_when_none_is_ready() {
        let ready = slice(&json!([endpoint("n1", None, false), endpoint("n2", Some(true), false)]));
        let draining = slice(&json!([endpoint("n3", Some(false), true), endpoint("n4", Some(false), false)]));
        assert_eq!(local([&ready, &draining].into_iter()), ["n1", "n2"]);
        assert_eq!(local([&draining].into_iter()), ["n3"]);
        assert_eq!(local([].into_iter()), Vec::<String>::new());
    }
}
