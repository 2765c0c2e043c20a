//! What a load balancer sends traffic to, port by port. Knows backends and what a tenant may reach; knows no Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nave_api::tcp_load_balancer::{
    Backends, Endpoint, EndpointPort, EndpointState, IpFamily, NodeBackends, Port, Protocol, TCPLoadBalancerSpec,
};

use crate::backends::{Policy, Reach, Refused};

/// What a load balancer sends traffic to, before it has an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Backends that the spoke names, and those that get traffic.
    pub total: u32,
    pub ready: u32,
    /// Where the traffic of each port goes.
    pub by_port: BTreeMap<(Protocol, u16), Sockets>,
    pub refused: Vec<Refused>,
    /// The families that were asked for, where nodes have no address of them.
    pub missing: Vec<IpFamily>,
    /// Nothing is known of its backends: what Envoys have of them stays.
    pub unknown: bool,
}

/// Where the traffic of one port goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub ready: BTreeSet<SocketAddr>,
    /// Those that still serve while they end; none of them is ready.
    pub terminating: BTreeSet<SocketAddr>,
}

impl Sockets {
    fn len(&self) -> usize {
        self.ready.len() + self.terminating.len()
    }

    fn add(&mut self, state: EndpointState, socket: SocketAddr) {
        match state {
            EndpointState::Ready => self.ready.insert(socket),
            EndpointState::Terminating => self.terminating.insert(socket),
        };
    }

    /// What is ready does not terminate.
    fn settle(&mut self) {
        let Self { ready, terminating } = self;
        terminating.retain(|socket| !ready.contains(socket));
    }

    /// Leaves so many: ready ones first, the lowest addresses first.
    fn limit(&mut self, most: usize) {
        let Self { ready, terminating } = self;
        *ready = std::mem::take(ready).into_iter().take(most).collect();
        *terminating = std::mem::take(terminating).into_iter().take(most - ready.len()).collect();
    }
}

impl Targets {
    /// How many backend addresses the port has that has most.
    pub fn backends(&self) -> u32 {
        let most = self.by_port.values().map(Sockets::len).max().unwrap_or(0);
        if self.unknown { self.ready } else { count(most) }
    }

    /// Leaves so many backends: the lowest addresses, on every port the same.
    pub fn limit(&mut self, backends: u32) {
        self.by_port.values_mut().for_each(|sockets| sockets.limit(backends as usize));
        self.ready = self.ready.min(backends);
    }

    fn on(ports: &[Port]) -> Self {
        let by_port = ports.iter().map(|port| ((port.protocol, port.port), Sockets::default())).collect();
        Self { by_port, ..Self::default() }
    }

    fn add(&mut self, port: &Port, state: EndpointState, socket: SocketAddr) {
        self.by_port.entry((port.protocol, port.port)).or_default().add(state, socket);
    }

    /// `states`: of every backend that serves a port, the best.
    fn settle<K>(mut self, states: &BTreeMap<K, EndpointState>) -> Self {
        self.by_port.values_mut().for_each(Sockets::settle);
        let ready = states.values().filter(|state| **state == EndpointState::Ready).count();
        // Where nothing is ready, those that terminate get the traffic.
        self.ready = count(if ready == 0 { states.len() } else { ready });
        self
    }
}

/// The targets of a spec. `reach` is the NodeSet that it names, where that exists; one that names addresses asks for the policy.
pub(crate) fn targets<'a>(
    spec: &TCPLoadBalancerSpec,
    reach: Option<&Reach>,
    policy: impl FnOnce() -> Policy<'a>,
) -> Targets {
    match &spec.backends {
        Backends::Nodes(nodes) => reach.map_or_else(Targets::default, |reach| on_nodes(&spec.ports, nodes, reach)),
        Backends::Endpoints(endpoints) => on_endpoints(&spec.ports, endpoints, &policy()),
    }
}

/// Which families a spec that names none uses, in order.
const FAMILIES: [IpFamily; 2] = [IpFamily::IPv4, IpFamily::IPv6];

fn on_nodes(ports: &[Port], nodes: &NodeBackends, reach: &Reach) -> Targets {
    let NodeBackends { node_set: _, only, terminating, families } = nodes;
    let families = if families.is_empty() { &FAMILIES[..] } else { families };
    let only: Option<BTreeSet<&str>> = only.as_ref().map(|only| only.iter().map(String::as_str).collect());
    let terminating: BTreeSet<&str> = terminating.iter().map(String::as_str).collect();
    let state = |name: &str| match &only {
        Some(only) if only.contains(name) => Some(EndpointState::Ready),
        Some(_) | None if terminating.contains(name) => Some(EndpointState::Terminating),
        Some(_) => None,
        None => Some(EndpointState::Ready),
    };
    let (mut targets, mut states, mut unreached) = (Targets::on(ports), BTreeMap::new(), BTreeSet::new());
    for (name, addresses) in &reach.nodes {
        let Some(state) = state(name) else { continue };
        targets.total += 1;
        let Some(address) = addresses.first_of(families) else {
            unreached.insert(name.as_str());
            continue;
        };
        states.insert(name.as_str(), state);
        for port in ports {
            targets.add(port, state, SocketAddr::new(address, port.backend_port));
        }
    }
    // A node that is reached at another of its addresses is none that was left out; nor is an address of another family.
    let is_meant = |family: Option<IpFamily>| family.is_none_or(|family| families.contains(&family));
    let refused =
        reach.refused.iter().filter(|(name, family, _)| unreached.contains(name.as_str()) && is_meant(*family));
    targets.refused = refused.map(|(_, _, refused)| refused.clone()).collect();
    targets.missing = if unreached.is_empty() { Vec::new() } else { families.to_vec() };
    targets.settle(&states)
}

fn on_endpoints(ports: &[Port], endpoints: &[Endpoint], policy: &Policy<'_>) -> Targets {
    let mut targets = Targets::on(ports);
    // Of every address that serves a port; and addresses that serve none, which some other entry may list again.
    let mut states: BTreeMap<IpAddr, EndpointState> = BTreeMap::new();
    let mut idle: BTreeSet<IpAddr> = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for Endpoint { addresses, ports: own, state } in endpoints {
        let served: Vec<(&Port, u16)> = ports.iter().filter_map(|port| Some((port, number(port, own)?))).collect();
        for text in addresses {
            let address = match policy.admit(text) {
                Ok(address) if served.is_empty() => {
                    idle.insert(address);
                    continue;
                }
                Ok(address) => address,
                Err(why) => {
                    refused.insert(Refused { text: text.clone(), why });
                    continue;
                }
            };
            let best = states.entry(address).or_insert(*state);
            *best = (*best).min(*state);
            for (port, number) in &served {
                targets.add(port, *state, SocketAddr::new(address, *number));
            }
        }
    }
    idle.retain(|address| !states.contains_key(address));
    targets.total = count(states.len() + idle.len() + refused.len());
    targets.refused = refused.into_iter().collect();
    targets.settle(&states)
}

/// The port of endpoints on which they serve a port of the load balancer. Those that list none serve all at `backendPort`;
/// others serve what they list and nothing else.
fn number(port: &Port, own: &[EndpointPort]) -> Option<u16> {
    if own.is_empty() {
        return Some(port.backend_port);
    }
    own.iter().find(|own| own.name == port.name).map(|own| own.port)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
