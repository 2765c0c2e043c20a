//! Whole Services as JSON. Knows the hub's limits on an intent; knows no cluster.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use nave_agent_core::backends::{Mode, Ways};
use nave_agent_core::intent::{intent, subject};
use nave_agent_core::places::Places;
use nave_api::names::intent_name;
use nave_api::{TCPLoadBalancer, TCPLoadBalancerSpec};

/// A Service becomes an intent that the hub's schema takes, or none; and its name is a DNS label.
pub fn hold(input: &[u8]) {
    let Ok(service) = serde_json::from_slice::<Service>(input) else { return };
    let ways = Ways { slices: Vec::new(), resolved: None, given: Places::default() };
    for mode in [Mode::NodePort, Mode::PodIp, Mode::Provider] {
        if let (Some(intent), _) = intent(&service, mode, &ways, None) {
            accepted(&intent);
            drop(subject(&intent));
        }
    }
}

fn accepted(intent: &TCPLoadBalancer) {
    let TCPLoadBalancerSpec { origin, ports, backends: _, address, traffic } = &intent.spec;
    assert!((1..=100).contains(&ports.len()), "{} ports", ports.len());
    assert!(ports.iter().all(|port| port.port > 0 && port.backend_port > 0), "a port of zero");
    let distinct: BTreeSet<_> = ports.iter().map(|port| (port.protocol, port.port)).collect();
    assert_eq!(distinct.len(), ports.len(), "a port is there twice");
    if let Some(address) = address {
        assert!(address.requested.len() <= 2 && address.families.len() <= 2, "too many addresses: {address:?}");
        assert!(address.families.len() < 2 || address.families[0] != address.families[1], "a family is there twice");
    }
    if let Some(traffic) = traffic {
        assert!(traffic.source_ranges.len() <= 200, "too many source ranges");
    }
    let Some(origin) = origin else { panic!("an intent without an origin") };
    if is_label(&origin.namespace) && !origin.name.is_empty() {
        let name = intent_name(&origin.kind, &origin.namespace, &origin.name);
        assert!(is_label(&name), "{name:?} is no DNS label");
    }
}

/// As the API server has it of a namespace's name.
fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}
