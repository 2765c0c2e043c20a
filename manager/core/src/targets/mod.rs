//! What a load balancer sends traffic to, port by port. Knows backends and what a tenant may reach; knows no Envoy.

mod subset;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nave_api::limits;
use nave_api::tcp_load_balancer::{
    Backends, Endpoint, EndpointPort, EndpointState, IpFamily, NodeBackends, Port, Protocol, TCPLoadBalancerSpec,
};

use crate::Key;
use crate::backends::{LeftOut, Policy, Reach};
use subset::Candidate;

/// What a load balancer sends traffic to, before it has an address. Sockets are made port by port when they are needed, after
/// the tenant's limit has cut the addresses: their number is one list times another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Backends that the spoke names and the load balancer uses or would use, and those that get traffic.
    pub total: u32,
    pub ready: u32,
    /// Addresses that have the same ports.
    groups: Vec<Group>,
    pub left_out: LeftOut,
    /// Backends that are left out since a load balancer has no more pairs of a port and a backend.
    pub beyond: u32,
    /// The families that were asked for, where nodes have no address of them.
    pub missing: Vec<IpFamily>,
    /// Nothing is known of its backends: what Envoys have of them stays.
    pub unknown: bool,
}

/// Addresses, and on which port they serve which port of the load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    numbers: BTreeMap<(Protocol, u16), u16>,
    addresses: BTreeMap<IpAddr, EndpointState>,
}

/// Where the traffic of one port goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub ready: BTreeSet<SocketAddr>,
    /// Those that still serve while they end; none of them is ready.
    pub terminating: BTreeSet<SocketAddr>,
}

impl Targets {
    /// Backends of which nothing is known but how many they were.
    pub fn unknown(total: u32, ready: u32) -> Self {
        Self { total, ready, unknown: true, ..Self::default() }
    }

    /// How many backend addresses there are.
    pub fn backends(&self) -> u32 {
        if self.unknown { self.ready } else { count(self.states().len()) }
    }

    /// Leaves so many backends: ready ones first, the lowest addresses first.
    pub fn limit(&mut self, backends: u32) {
        let states = self.states();
        if states.len() <= backends as usize {
            return;
        }
        let mut ranked: Vec<(EndpointState, IpAddr)> =
            states.iter().map(|(address, state)| (*state, *address)).collect();
        ranked.sort_unstable();
        let kept: BTreeMap<IpAddr, EndpointState> =
            ranked.into_iter().take(backends as usize).map(|(state, address)| (address, state)).collect();
        for group in &mut self.groups {
            group.addresses.retain(|address, _| kept.contains_key(address));
        }
        self.ready = ready(&kept);
    }

    /// Where the traffic of a port goes.
    pub fn sockets(&self, door: (Protocol, u16)) -> Sockets {
        let mut sockets = Sockets::default();
        for Group { numbers, addresses } in &self.groups {
            let Some(number) = numbers.get(&door) else { continue };
            for (address, state) in addresses {
                let socket = SocketAddr::new(*address, *number);
                match state {
                    EndpointState::Ready => sockets.ready.insert(socket),
                    EndpointState::Terminating => sockets.terminating.insert(socket),
                };
            }
        }
        // What is ready does not terminate.
        let Sockets { ready, terminating } = &mut sockets;
        terminating.retain(|socket| !ready.contains(socket));
        sockets
    }

    /// Every address that serves a port, and of its states the best.
    fn states(&self) -> BTreeMap<IpAddr, EndpointState> {
        let mut states = BTreeMap::new();
        for (address, state) in self.groups.iter().flat_map(|group| &group.addresses) {
            let best = states.entry(*address).or_insert(*state);
            *best = (*best).min(*state);
        }
        states
    }
}

/// How many get traffic: where nothing is ready, those that terminate do.
fn ready(states: &BTreeMap<IpAddr, EndpointState>) -> u32 {
    let ready = states.values().filter(|state| **state == EndpointState::Ready).count();
    count(if ready == 0 { states.len() } else { ready })
}

/// The targets of a spec. `reach` is the NodeSet that it names, where that exists; one that names addresses asks for the policy.
pub(crate) fn targets<'a>(
    key: &Key,
    spec: &TCPLoadBalancerSpec,
    reach: Option<&Reach>,
    policy: impl FnOnce() -> Policy<'a>,
) -> Targets {
    let mut targets = match &spec.backends {
        Backends::Nodes(nodes) => reach.map_or_else(Targets::default, |reach| on_nodes(key, &spec.ports, nodes, reach)),
        Backends::Endpoints(endpoints) => on_endpoints(&spec.ports, endpoints, &policy()),
    };
    let present = targets.backends();
    let most = limits::SOCKETS / count(spec.ports.len()).max(1);
    targets.limit(most);
    targets.beyond = present.saturating_sub(most);
    targets
}

/// Which families a spec that names none uses, in order.
const FAMILIES: [IpFamily; 2] = [IpFamily::IPv4, IpFamily::IPv6];

fn on_nodes(key: &Key, ports: &[Port], nodes: &NodeBackends, reach: &Reach) -> Targets {
    let NodeBackends { node_set: _, only, terminating, families, subset: _ } = nodes;
    let families = if families.is_empty() { &FAMILIES[..] } else { families };
    let only: Option<BTreeSet<&str>> = only.as_ref().map(|only| only.iter().map(String::as_str).collect());
    let terminating: BTreeSet<&str> = terminating.iter().map(String::as_str).collect();
    let state = |name: &str| match &only {
        Some(only) if only.contains(name) => Some(EndpointState::Ready),
        Some(_) | None if terminating.contains(name) => Some(EndpointState::Terminating),
        Some(_) => None,
        None => Some(EndpointState::Ready),
    };
    let (mut targets, mut total, mut addresses) = (Targets::default(), 0_usize, BTreeMap::new());
    let mut candidates = Vec::new();
    for (name, node) in &reach.nodes {
        let Some(state) = state(name) else { continue };
        total += 1;
        match (node.first_of(families), state) {
            (Some(address), EndpointState::Ready) => {
                candidates.push(Candidate { name, zone: node.zone(), node: address });
            }
            (Some(address), EndpointState::Terminating) => drop(addresses.insert(address, state)),
            // A node that is reached at another of its addresses is none that was left out; nor is an address of another family.
            (None, _) => {
                targets.missing = families.to_vec();
                node.count_left_out(families, &mut targets.left_out);
            }
        }
    }
    let size = size(nodes);
    targets.total = count(total.min(size.saturating_add(addresses.len())));
    let chosen = subset::heaviest(subset::seed(key), size, candidates);
    addresses.extend(chosen.into_iter().map(|address| (address, EndpointState::Ready)));
    targets.ready = ready(&addresses);
    let numbers = ports.iter().map(|port| ((port.protocol, port.port), port.backend_port)).collect();
    targets.groups = vec![Group { numbers, addresses }];
    targets
}

/// How many of the ready nodes are used. All that are named are: under the policy Local only these have endpoints.
fn size(nodes: &NodeBackends) -> usize {
    match (nodes.only.as_ref(), nodes.subset.unwrap_or(limits::SUBSET)) {
        (Some(_), _) | (None, 0) => usize::MAX,
        (None, size) => size as usize,
    }
}

fn on_endpoints(ports: &[Port], endpoints: &[Endpoint], policy: &Policy<'_>) -> Targets {
    let mut targets = Targets::default();
    // Addresses that serve no port, which some other entry may list again; and those that are refused.
    let (mut idle, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for Endpoint { addresses, ports: own, state } in endpoints {
        let mut group = Group { numbers: numbers(ports, own), addresses: BTreeMap::new() };
        for text in addresses {
            match policy.admit(text) {
                Ok(address) if group.numbers.is_empty() => drop(idle.insert(address)),
                Ok(address) => drop(group.addresses.insert(address, *state)),
                Err(why) => {
                    if refused.insert(text.as_str()) {
                        targets.left_out.add(1, text, &why);
                    }
                }
            }
        }
        targets.groups.push(group);
    }
    targets.groups.retain(|group| !group.addresses.is_empty());
    let states = targets.states();
    idle.retain(|address| !states.contains_key(address));
    targets.total = count(states.len() + idle.len() + refused.len());
    targets.ready = ready(&states);
    targets
}

/// On which port endpoints serve each port of the load balancer. Those that list none serve all at `backendPort`; others serve
/// what they list and nothing else, the first of a name.
fn numbers(ports: &[Port], own: &[EndpointPort]) -> BTreeMap<(Protocol, u16), u16> {
    let listed: BTreeMap<_, u16> = own.iter().rev().map(|own| (&own.name, own.port)).collect();
    let number = |port: &Port| if own.is_empty() { Some(port.backend_port) } else { listed.get(&port.name).copied() };
    ports.iter().filter_map(|port| Some(((port.protocol, port.port), number(port)?))).collect()
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
