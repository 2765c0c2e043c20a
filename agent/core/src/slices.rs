//! Endpoints of Services. Knows EndpointSlices, and keeps of them only what is decided with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use kube::Resource;
use kube::core::ObjectMeta;
use nave_api::tcp_load_balancer::{EndpointState, IpFamily, Port as Served, Protocol};

use crate::Key;

const SERVICE: &str = "kubernetes.io/service-name";

/// What an EndpointSlice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The Service it belongs to.
    pub service: Key,
    /// The family of its addresses. Absent: they are names, which kube-proxy does not use, either.
    pub family: Option<IpFamily>,
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
    /// TCP or UDP.
    pub protocol: Protocol,
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
    /// Whether it still serves while it ends.
    pub state: EndpointState,
}

impl Slice {
    /// Of a slice that belongs to a Service.
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        let service = service(slice.meta())?;
        let family = match slice.address_type.as_str() {
            "IPv4" => Some(IpFamily::IPv4),
            "IPv6" => Some(IpFamily::IPv6),
            _ => None,
        };
        let mut ports: Vec<Port> = slice.ports.iter().flatten().filter_map(port).collect();
        ports.sort();
        let pods = slice.endpoints.iter().filter_map(|endpoint| pod(endpoint, family?)).collect();
        Some(Self { service, family, ports, pods })
    }
}

/// The Service that a slice with these metadata belongs to.
pub fn service(metadata: &ObjectMeta) -> Option<Key> {
    let name = metadata.labels.as_ref()?.get(SERVICE)?.clone();
    Some(Key { namespace: metadata.namespace.clone()?, name })
}

/// A port without a number would mean all ports; kube-proxy ignores it, and so do we.
fn port(port: &EndpointPort) -> Option<Port> {
    let name = port.name.clone().filter(|name| !name.is_empty());
    let number = u16::try_from(port.port?).ok().filter(|port| *port > 0)?;
    Some(Port { name, protocol: Protocol::of_service(port.protocol.as_deref())?, port: number })
}

/// As kube-proxy reads it: what is not said is ready, serves and does not terminate.
fn pod(endpoint: &Endpoint, family: IpFamily) -> Option<Pod> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(true);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    let state = match (ready, serving && terminating) {
        (true, _) => EndpointState::Ready,
        (false, true) => EndpointState::Terminating,
        (false, false) => return None,
    };
    let parsed = endpoint.addresses.iter().filter_map(|text| text.parse().ok());
    let addresses: Vec<IpAddr> = parsed.filter(|address| IpFamily::of(*address) == family).collect();
    (!addresses.is_empty()).then(|| Pod { addresses, node: endpoint.node_name.clone(), state })
}

/// A port of a Service by its name, and the number on which pods serve it.
pub type Numbered = (Option<String>, u16);

/// What a slice serves of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'world> {
    /// The family of its addresses.
    pub family: IpFamily,
    /// The Service's ports that the pods serve; sorted, at least one.
    pub ports: Vec<Numbered>,
    /// The pods.
    pub pods: &'world [Pod],
}

/// What the slices of a Service serve of these ports, in these families; no family: any. A slice that lists none of the ports
/// serves nothing, as for kube-proxy.
pub fn parts<'world>(
    slices: impl Iterator<Item = &'world Slice>,
    served: &[Served],
    families: &[IpFamily],
) -> Vec<Part<'world>> {
    let part = |slice: &'world Slice| {
        let family = slice.family.filter(|family| families.is_empty() || families.contains(family))?;
        let same = |own: &&Port, port: &Served| (&own.name, own.protocol) == (&port.name, port.protocol);
        let of = |port| slice.ports.iter().find(|own| same(own, port)).map(|own| (own.name.clone(), own.port));
        let mut ports: Vec<_> = served.iter().filter_map(of).collect();
        ports.sort();
        (!ports.is_empty()).then_some(Part { family, ports, pods: &slice.pods })
    };
    slices.filter_map(part).collect()
}

/// The nodes on which pods run: whether one of these is ready, or all of them terminate.
pub fn nodes<'a>(parts: &'a [Part<'a>]) -> BTreeMap<&'a str, EndpointState> {
    let mut nodes: BTreeMap<&str, EndpointState> = BTreeMap::new();
    for pod in parts.iter().flat_map(|part| part.pods) {
        let Some(node) = &pod.node else { continue };
        let best = nodes.entry(node).or_insert(pod.state);
        *best = (*best).min(pod.state);
    }
    nodes
}

/// The names of ports that no ready pod serves.
pub fn unready<'a>(parts: &[Part<'_>], served: &'a [Served]) -> Vec<&'a Served> {
    let is_ready = |part: &&Part<'_>| part.pods.iter().any(|pod| pod.state == EndpointState::Ready);
    let ready: BTreeSet<&Option<String>> =
        parts.iter().filter(is_ready).flat_map(|part| &part.ports).map(|(name, _)| name).collect();
    served.iter().filter(|port| !ready.contains(&port.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slice(kind: &str, ports: &Value, endpoints: &Value) -> Slice {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": kind, "ports": ports, "endpoints": endpoints,
        }))
        .unwrap();
        Slice::of(&slice).unwrap()
    }

    fn served(name: Option<&str>, protocol: Protocol) -> Served {
        Served { name: name.map(str::to_owned), protocol, port: 80, backend_port: 80 }
    }

    fn endpoint(node: &str, conditions: &Value) -> Value {
        json!({"addresses": ["10.0.0.9"], "nodeName": node, "conditions": conditions})
    }

    #[test]
    fn kind_o_a_node_is_ready_while_one_of_its_pods_is_and_terminates_while_the_others_still_serve() {
        let ending = json!({"ready": false, "serving": true, "terminating": true});
        let ended = json!({"ready": false, "serving": false, "terminating": true});
        let unsaid = json!({"ready": false, "terminating": true});
        let endpoints = json!([
            endpoint("n1", &json!({})),
            endpoint("n1", &ending),
            endpoint("n2", &ending),
            endpoint("n3", &ended),
            endpoint("n4", &unsaid),
            endpoint("n5", &json!({"ready": false})),
        ]);
        let slice = slice("IPv4", &json!([{"name": "", "port": 8080}]), &endpoints);
        let ports = [served(None, Protocol::Tcp)];
        let (ready, terminating) = (EndpointState::Ready, EndpointState::Terminating);
        let parts = parts([&slice].into_iter(), &ports, &[]);
        assert_eq!(nodes(&parts), [("n1", ready), ("n2", terminating), ("n4", terminating)].into());
    }

    #[test]
    fn kind_j_a_slice_serves_the_ports_that_it_lists_by_name_and_protocol_and_no_others() {
        let ports = [served(Some("dns"), Protocol::Tcp), served(Some("web"), Protocol::Tcp)];
        let of = |listed: &Value| {
            let slice = slice("IPv4", listed, &json!([endpoint("n1", &json!({}))]));
            parts([&slice].into_iter(), &ports, &[]).into_iter().flat_map(|part| part.ports).collect::<Vec<_>>()
        };
        let (dns, web) = ((Some("dns".to_owned()), 5353), (Some("web".to_owned()), 8080));
        assert_eq!(of(&json!([{"name": "web", "port": 8080}, {"name": "dns", "port": 5353}])), [dns, web.clone()]);
        assert_eq!(
            of(&json!([{"name": "web", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}])),
            [web]
        );
        for nothing in [
            json!(null),
            json!([]),
            json!([{"name": "web"}]),
            json!([{"name": "web", "port": 0}]),
            json!([{"port": 80}]),
        ] {
            assert_eq!(of(&nothing), [], "{nothing}");
        }
    }

    #[test]
    fn kind_l_a_slice_of_another_family_or_of_names_serves_nothing() {
        use IpFamily::{IPv4, IPv6};
        let of = |kind: &str, address: &str, families: &[IpFamily]| {
            let ports = json!([{"name": "", "port": 8080}]);
            let slice = slice(kind, &ports, &json!([{"addresses": [address], "nodeName": "n1"}]));
            let served = [served(None, Protocol::Tcp)];
            nodes(&parts([&slice].into_iter(), &served, families)).len()
        };
        assert_eq!((of("IPv4", "10.0.0.1", &[IPv4]), of("IPv4", "10.0.0.1", &[])), (1, 1));
        assert_eq!((of("IPv6", "fd00::1", &[IPv4]), of("IPv6", "fd00::1", &[IPv4, IPv6])), (0, 1));
        assert_eq!((of("FQDN", "10.0.0.1", &[]), of("IPv6", "10.0.0.1", &[])), (0, 0));
    }
}
