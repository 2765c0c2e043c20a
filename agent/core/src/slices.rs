//! Which nodes have endpoints of a Service. Knows EndpointSlices, and keeps of them only what is decided with.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use crate::Key;

const SERVICE: &str = "kubernetes.io/service-name";

/// What an EndpointSlice says about nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The Service it belongs to.
    pub service: Key,
    /// Nodes with ready endpoints.
    pub ready: BTreeSet<String>,
    /// Nodes with endpoints that still serve while they end.
    pub draining: BTreeSet<String>,
}

impl Slice {
    /// Of a slice that belongs to a Service.
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        let service = Key { namespace: slice.namespace()?, name: slice.labels().get(SERVICE)?.clone() };
        let mut this = Self { service, ready: BTreeSet::new(), draining: BTreeSet::new() };
        for endpoint in &slice.endpoints {
            let Some(node) = &endpoint.node_name else { continue };
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            if conditions.ready.unwrap_or(true) {
                this.ready.insert(node.clone());
            } else if conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false) {
                this.draining.insert(node.clone());
            }
        }
        Some(this)
    }
}

/// The nodes that serve by themselves: those with ready endpoints; while there is none, those that still serve.
pub fn local<'a>(slices: impl Iterator<Item = &'a Slice>) -> Vec<String> {
    let (mut ready, mut draining) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        ready.extend(slice.ready.iter().cloned());
        draining.extend(slice.draining.iter().cloned());
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
