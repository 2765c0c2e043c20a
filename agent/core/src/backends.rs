//! Where a Service's traffic goes. Knows the three ways into a spoke; knows nothing of addresses in the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use nave_api::names;
use nave_api::tcp_load_balancer::{Backends, Endpoint, EndpointPort, NodeBackends};

use crate::places::Places;
use crate::slices::{self, Slice};
use crate::{ownership, status};

/// An endpoint has at most so many addresses; more are further endpoints.
const ADDRESSES: usize = 1000;
/// A load balancer has at most so many endpoints.
const ENDPOINTS: usize = 1000;

/// The ways into a spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Node ports of ready nodes.
    #[default]
    NodePort,
    /// The pods themselves: the hub reaches the pod network.
    PodIp,
    /// The load balancer that the spoke's own cloud gave the Service.
    Provider,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NodePort, Self::PodIp, Self::Provider];

    /// As flags and annotations write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodePort => "NodePort",
            Self::PodIp => "PodIP",
            Self::Provider => "Provider",
        }
    }
}

/// A text that is no way into a spoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMode(pub String);

impl std::fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" is no way to backends: write NodePort, PodIP or Provider", self.0)
    }
}

impl std::error::Error for UnknownMode {}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// What is known of the ways into a spoke for one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways<'world> {
    /// Its `EndpointSlices`.
    pub slices: Vec<&'world Slice>,
    /// What names resolved to.
    pub resolved: Option<&'world BTreeMap<String, BTreeSet<IpAddr>>>,
    /// What the hub gave it: never its backends.
    pub given: Places,
}

/// The backends of a Service.
pub fn backends(service: &Service, mode: Mode, is_local: bool, ways: &Ways) -> Backends {
    match mode {
        Mode::NodePort => {
            let only = is_local.then(|| slices::local(ways.slices.iter().copied()));
            Backends::Nodes(NodeBackends {
                node_set: names::DEFAULT_NODE_SET.to_owned(),
                only,
                ..NodeBackends::default()
            })
        }
        Mode::PodIp => Backends::Endpoints(pods(&ways.slices)),
        Mode::Provider => Backends::Endpoints(provider(service, ways)),
    }
}

/// Names in the status that the spoke's cloud wrote: none that the hub gave, whose addresses would lead traffic round in a
/// circle. Some clouds write an address where a name belongs: that is none.
pub fn hostnames<'service>(service: &'service Service, given: &Places) -> impl Iterator<Item = &'service str> {
    let names = clouds(service).iter().filter_map(|entry| entry.hostname.as_deref());
    names.filter(|name| !name.is_empty() && name.parse::<IpAddr>().is_err() && !given.has(name))
}

/// What the spoke's cloud wrote. Where the class says that no cloud does, whatever is there is nobody's backend.
fn clouds(service: &Service) -> &[LoadBalancerIngress] {
    if ownership::is_foreign(service) { status::shown(service) } else { &[] }
}

/// The pods, those with the same ports together; while none is ready, those that still serve.
fn pods(slices: &[&Slice]) -> Vec<Endpoint> {
    let any_ready = slices.iter().any(|slice| slice.pods.iter().any(|pod| pod.ready));
    let mut grouped: BTreeMap<&[slices::Port], BTreeSet<IpAddr>> = BTreeMap::new();
    for slice in slices {
        let serving = slice.pods.iter().filter(|pod| pod.ready == any_ready);
        let addresses = serving.flat_map(|pod| pod.addresses.iter().copied());
        grouped.entry(&slice.ports).or_default().extend(addresses);
    }
    let mut endpoints = Vec::new();
    for (ports, addresses) in grouped {
        // The hub knows a port by its name; TCP and UDP ports of one Service differ in theirs.
        let known = |port: &slices::Port| port.protocol.is_some();
        let ports: Vec<EndpointPort> = ports.iter().filter(|port| known(port)).map(port).collect();
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        endpoints.extend(addresses.chunks(ADDRESSES).map(|part| Endpoint {
            addresses: part.to_vec(),
            ports: ports.clone(),
            ..Endpoint::default()
        }));
    }
    endpoints.truncate(ENDPOINTS);
    endpoints
}

fn port(slices::Port { name, protocol: _, port }: &slices::Port) -> EndpointPort {
    EndpointPort { name: name.clone(), port: *port }
}

/// The addresses of the cloud's load balancer, its names resolved; never one that the hub gave.
fn provider(service: &Service, ways: &Ways) -> Vec<Endpoint> {
    let texts = clouds(service).iter().flat_map(|entry| [entry.ip.as_deref(), entry.hostname.as_deref()]);
    let written = texts.flatten().filter_map(|text| text.parse::<IpAddr>().ok());
    let resolved = hostnames(service, &ways.given)
        .flat_map(|name| ways.resolved.and_then(|all| all.get(name)).into_iter().flatten());
    let addresses: BTreeSet<IpAddr> =
        written.chain(resolved.copied()).filter(|a| !ways.given.has_address(*a)).collect();
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).take(ADDRESSES).collect();
    if addresses.is_empty() { Vec::new() } else { vec![Endpoint { addresses, ..Endpoint::default() }] }
}
