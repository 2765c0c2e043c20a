//! Nodes of a spoke as the hub sees them: which may get traffic, and at which addresses. Knows conditions, labels and
//! taints; knows no Service.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use nave_api::limits::NODE_ADDRESSES;
use nave_api::node_set;

use crate::Policy;

/// Says that external load balancers leave the node out.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The autoscaler is about to take the node away.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A type of a node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressType {
    /// Reachable within the spoke's network.
    InternalIp,
    /// Reachable from outside.
    ExternalIp,
}

impl AddressType {
    /// As a Node's status writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InternalIp => "InternalIP",
            Self::ExternalIp => "ExternalIP",
        }
    }
}

/// A text that is no address type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAddressType(pub String);

impl std::fmt::Display for UnknownAddressType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" is no type of a node's addresses: write InternalIP or ExternalIP", self.0)
    }
}

impl std::error::Error for UnknownAddressType {}

impl FromStr for AddressType {
    type Err = UnknownAddressType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::InternalIp, Self::ExternalIp]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownAddressType(text.to_owned()))
    }
}

/// A label that nodes must have: `key`, or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRule {
    key: String,
    value: Option<String>,
}

impl LabelRule {
    fn fits(&self, node: &Node) -> bool {
        let Self { key, value } = self;
        node.labels().get(key).is_some_and(|present| value.as_ref().is_none_or(|value| value == present))
    }
}

/// A text that is no rule about a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLabelRule;

impl std::fmt::Display for InvalidLabelRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("write KEY or KEY=VALUE")
    }
}

impl std::error::Error for InvalidLabelRule {}

impl FromStr for LabelRule {
    type Err = InvalidLabelRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        let good = !key.is_empty() && value.is_none_or(|value| !value.contains('='));
        good.then(|| Self { key: key.to_owned(), value: value.map(str::to_owned) }).ok_or(InvalidLabelRule)
    }
}

/// A node that may get traffic, if it is ready or none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As the hub sees it.
    pub node: node_set::Node,
    /// Whether its kubelet says that it is ready.
    pub ready: bool,
}

/// The node as a backend; `None` when it may get no traffic, ready or not. A cordon alone changes nothing: what runs there runs
/// on.
pub fn candidate(node: &Node, policy: &Policy) -> Option<Candidate> {
    let excluded = node.labels().contains_key(EXCLUDED) || !policy.node_selector.iter().all(|rule| rule.fits(node));
    let leaving =
        node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| taint.key == TO_BE_DELETED);
    if excluded || leaving {
        return None;
    }
    let addresses = addresses(node, &policy.address_types);
    let zone = node.labels().get(ZONE).filter(|zone| !zone.is_empty()).cloned();
    let named = node_set::Node { name: node.name_any(), addresses, zone };
    (!named.addresses.is_empty()).then(|| Candidate { node: named, ready: is_ready(node) })
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// IP addresses alone, the preferred types first; the hub takes the first of each family. Where there are more than fit, those
/// of one family do not displace the other.
fn addresses(node: &Node, types: &[AddressType]) -> Vec<String> {
    let all = || node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let mut known = BTreeSet::new();
    let preferred = types.iter().flat_map(|kind| all().filter(move |address| address.type_ == kind.as_str()));
    let parsed = preferred.filter_map(|address| address.address.parse::<IpAddr>().ok());
    let mut addresses: Vec<IpAddr> = parsed.filter(|address| known.insert(*address)).collect();
    while addresses.len() > NODE_ADDRESSES {
        let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
        let crowd = v4 > addresses.len() - v4;
        let last = addresses.iter().rposition(|address| address.is_ipv4() == crowd);
        last.map(|last| addresses.remove(last));
    }
    addresses.iter().map(IpAddr::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use AddressType::{ExternalIp, InternalIp};
    use serde_json::{Value, json};

    fn node(change: &Value) -> Node {
        let mut node = json!({
            "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [
                    {"type": "Hostname", "address": "n1"},
                    {"type": "ExternalIP", "address": "198.51.100.1"},
                    {"type": "InternalIP", "address": "10.0.0.1"},
                    {"type": "InternalIP", "address": "fd00::1"},
                ],
            },
        });
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            node.pointer_mut(parent).unwrap()[last] = value.clone();
        }
        serde_json::from_value(node).unwrap()
    }

    fn addresses_of(change: &Value, types: &[AddressType]) -> Option<Vec<String>> {
        let policy = Policy { address_types: types.to_vec(), ..Policy::default() };
        candidate(&node(change), &policy).map(|candidate| candidate.node.addresses)
    }

    #[test]
    fn addresses_come_in_order_of_preference_with_fallback() {
        let both = &[InternalIp, ExternalIp];
        assert_eq!(addresses_of(&json!({}), both).unwrap(), ["10.0.0.1", "fd00::1", "198.51.100.1"]);
        assert_eq!(addresses_of(&json!({}), &[ExternalIp]).unwrap(), ["198.51.100.1"]);
        let outside = json!({"/status/addresses": [{"type": "ExternalIP", "address": "198.51.100.1"}]});
        assert_eq!(addresses_of(&outside, both).unwrap(), ["198.51.100.1"]);
        assert_eq!(addresses_of(&outside, &[InternalIp]), None, "a node without an address is none");
    }

    #[test]
    fn a_node_that_is_excluded_or_leaving_is_left_out() {
        let excluded = json!({"/metadata/labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}});
        let leaving = json!({"/spec/taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]});
        for change in [excluded, leaving] {
            assert_eq!(addresses_of(&change, &[InternalIp]), None, "{change}");
        }
    }

    #[test]
    fn kind_i_a_node_that_is_not_ready_is_a_candidate_for_when_no_node_is_ready() {
        let ready = |change: &Value| candidate(&node(change), &Policy::default()).map(|candidate| candidate.ready);
        assert_eq!(ready(&json!({})), Some(true));
        for status in ["False", "Unknown"] {
            assert_eq!(ready(&json!({"/status/conditions": [{"type": "Ready", "status": status}]})), Some(false));
        }
        assert_eq!(ready(&json!({"/status/conditions": []})), Some(false));
    }

    #[test]
    fn kind_k_addresses_beyond_the_schemas_count_are_left_out_and_both_families_stay() {
        let many: Vec<Value> =
            (1..=20).map(|n| json!({"type": "InternalIP", "address": format!("10.0.0.{n}")})).collect();
        let six = (1..=3).map(|n| json!({"type": "InternalIP", "address": format!("fd00::{n}")}));
        let all: Vec<Value> = many.into_iter().chain(six).collect();
        let kept = addresses_of(&json!({"/status/addresses": all}), &[InternalIp]).unwrap();
        let expected = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "fd00::1", "fd00::2", "fd00::3"];
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_cordon_alone_changes_nothing() {
        let cordoned = json!({"/spec/unschedulable": true,
            "/spec/taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]});
        let policy = Policy::default();
        assert_eq!(candidate(&node(&cordoned), &policy), candidate(&node(&json!({})), &policy));
    }

    #[test]
    fn a_selector_leaves_the_other_nodes_out() {
        let fits = |rules: &[&str]| {
            let node_selector = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            candidate(&node(&json!({})), &Policy { node_selector, ..Policy::default() }).is_some()
        };
        assert!(fits(&["topology.kubernetes.io/zone"]) && fits(&["topology.kubernetes.io/zone=a"]));
        assert!(!fits(&["topology.kubernetes.io/zone=b"]) && !fits(&["topology.kubernetes.io/zone", "edge"]));
        assert!(["", "=a", "a=b=c"].iter().all(|text| text.parse::<LabelRule>().is_err()));
    }
}
