//! Which nodes a fleet chooses: by labels among the hub's nodes, or by name. Knows no Envoy.

use std::collections::BTreeSet;
use std::sync::Arc;

use nave_api::FleetSpec;
use nave_api::names::FLEET_LABEL;

use crate::seen::HubNode;

/// The names of the nodes of a fleet. A fleet without a Fleet has those with its label.
pub(crate) fn chosen(fleet: &str, spec: Option<&FleetSpec>, nodes: &[HubNode]) -> BTreeSet<Arc<str>> {
    let selection = spec.and_then(|spec| spec.nodes.as_ref());
    let selector = selection.map(|selection| &selection.selector).filter(|selector| !selector.is_empty());
    let is_selected = |node: &&HubNode| match selector {
        Some(selector) => selector.iter().all(|(key, value)| node.labels.get(key) == Some(value)),
        None => node.labels.get(FLEET_LABEL).is_some_and(|label| label == fleet),
    };
    let named = selection.into_iter().flat_map(|selection| &selection.names).map(|name| Arc::from(name.as_str()));
    nodes.iter().filter(is_selected).map(|node| Arc::clone(&node.name)).chain(named).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nave_api::fleet::NodeSelection;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn names(fleet: &str, nodes: Option<NodeSelection>) -> Vec<String> {
        let hub = [
            ("edge-1", labels(&[(FLEET_LABEL, "default"), ("zone", "a")])),
            ("edge-2", labels(&[(FLEET_LABEL, "other"), ("zone", "a")])),
            ("worker", labels(&[("zone", "b")])),
        ];
        let hub = hub.map(|(name, labels)| HubNode { name: name.into(), labels });
        let spec = FleetSpec { nodes, ..FleetSpec::default() };
        chosen(fleet, Some(&spec), &hub).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_fleet_has_the_nodes_with_its_label_unless_it_selects_others() {
        assert_eq!(names("default", None), ["edge-1"]);
        assert_eq!(names("none", None), Vec::<String>::new());
        let selector = labels(&[("zone", "a")]);
        assert_eq!(names("default", Some(NodeSelection { selector, names: Vec::new() })), ["edge-1", "edge-2"]);
        let selector = labels(&[("zone", "a"), (FLEET_LABEL, "other")]);
        assert_eq!(names("default", Some(NodeSelection { selector, names: Vec::new() })), ["edge-2"]);
    }

    #[test]
    fn names_add_to_what_labels_choose_and_an_empty_selector_chooses_by_the_fleets_label() {
        let names_only = NodeSelection { selector: BTreeMap::new(), names: vec!["edge-out-1".into()] };
        assert_eq!(names("default", Some(names_only)), ["edge-1", "edge-out-1"]);
    }
}
