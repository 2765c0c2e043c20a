//! Where a Service's traffic goes. Knows the three ways into a spoke; knows nothing of addresses in the hub.

pub mod fit;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use nave_api::names;
use nave_api::tcp_load_balancer::{Backends, Endpoint, EndpointPort, EndpointState, IpFamily, NodeBackends, Port};

use crate::places::Places;
use crate::slices::{self, Numbered, Part, Slice};
use crate::{Problem, ownership, status};
use fit::Fit;

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

/// The backends of a Service for the ports that are served of it, and what of them is not as it should be. `families`: those
/// of the Service in the spoke, none where it does not say.
pub fn backends(
    service: &Service,
    mode: Mode,
    (ports, families): (&[Port], &[IpFamily]),
    ways: &Ways,
) -> (Backends, Vec<Problem>) {
    let parts = slices::parts(ways.slices.iter().copied(), ports, families);
    let (backends, fit) = match mode {
        Mode::NodePort => nodes(is_local(service), families, &parts),
        Mode::PodIp => within(pods(&parts)),
        Mode::Provider => within(provider(service, ways)),
    };
    let short = fit.is_short().then_some(Problem::TooManyBackends { served: fit.written, present: fit.present });
    let unready = unready(service, mode, ports, &parts);
    (backends, short.into_iter().chain(unready).collect())
}

fn within(endpoints: Vec<Endpoint>) -> (Backends, Fit) {
    let (endpoints, fit) = fit::endpoints(endpoints);
    (Backends::Endpoints(endpoints), fit)
}

/// Whether only nodes with endpoints of the Service get its traffic.
pub fn is_local(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.external_traffic_policy.as_deref() == Some("Local"))
}

/// Node ports: of all nodes, or under the policy Local of those with pods. Those whose pods all terminate and still serve are
/// the second choice: kube-proxy sends traffic to such pods while no other is ready on its node.
fn nodes(is_local: bool, families: &[IpFamily], parts: &[Part<'_>]) -> (Backends, Fit) {
    let mut written = NodeBackends {
        node_set: names::DEFAULT_NODE_SET.to_owned(),
        families: answering(is_local, families, parts),
        ..NodeBackends::default()
    };
    if !is_local {
        return (Backends::Nodes(written), Fit::default());
    }
    let nodes = slices::nodes(parts);
    let of = |state| nodes.iter().filter(move |(_, of)| **of == state).map(|(name, _)| (*name).to_owned());
    let (only, ready) = fit::names(of(EndpointState::Ready));
    written.only = Some(only);
    // Where names are left out already, those of nodes that end can be spared: the object has bounds.
    let (terminating, ending) =
        if ready.is_short() { Default::default() } else { fit::names(of(EndpointState::Terminating)) };
    written.terminating = terminating;
    (Backends::Nodes(written), Fit { present: ready.present + ending.present, written: ready.written + ending.written })
}

/// The families in which node ports answer: kube-proxy opens them in the Service's families, and needs endpoints of the same.
/// Under the policy Local, those in which every node with pods has some, where there is such a family.
fn answering(is_local: bool, families: &[IpFamily], parts: &[Part<'_>]) -> Vec<IpFamily> {
    let places = |family: IpFamily| -> BTreeSet<&str> {
        let pods = parts.iter().filter(|part| part.family == family).flat_map(|part| part.pods);
        pods.map(|pod| if is_local { pod.node.as_deref().unwrap_or_default() } else { "" }).collect()
    };
    let all: BTreeSet<&str> = families.iter().flat_map(|family| places(*family)).collect();
    let that = |fits: &dyn Fn(&BTreeSet<&str>) -> bool| -> Vec<IpFamily> {
        families.iter().copied().filter(|family| fits(&places(*family))).collect()
    };
    let (whole, some) = (that(&|places| *places == all), that(&|places| !places.is_empty()));
    [whole, some].into_iter().find(|found| !found.is_empty()).unwrap_or_else(|| families.to_vec())
}

/// Ports that no ready pod serves, where the pods are the spoke's to say: none of a cloud's load balancer, nor of node ports
/// that no selector leads on from.
fn unready(service: &Service, mode: Mode, ports: &[Port], parts: &[Part<'_>]) -> Option<Problem> {
    let selects =
        service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|labels| !labels.is_empty());
    let says = match mode {
        Mode::NodePort => selects,
        Mode::PodIp => true,
        Mode::Provider => false,
    };
    let unready = if says { slices::unready(parts, ports) } else { Vec::new() };
    let all = unready.len() == ports.len();
    let ports = unready.iter().filter(|_| !all).map(|port| port.port).collect();
    (!unready.is_empty()).then_some(Problem::NoReadyEndpoints { ports })
}

/// Names in the status that the spoke's cloud wrote: none that the hub gave, whose addresses would lead traffic round in a
/// circle. Some clouds write an address where a name belongs: that is none.
pub fn hostnames<'service>(service: &'service Service, given: &Places) -> impl Iterator<Item = &'service str> {
    let names = clouds(service).iter().filter_map(|entry| entry.hostname.as_deref());
    names.filter(|name| !name.is_empty() && name.parse::<IpAddr>().is_err() && !given.has(name))
}

/// What the spoke's cloud wrote. Where the class says that no cloud does, nothing of what is there is a backend.
fn clouds(service: &Service) -> &[LoadBalancerIngress] {
    if ownership::is_foreign(service) { status::shown(service) } else { &[] }
}

/// The pods, those with the same ports and of the same state together. Every port is listed: what an endpoint does not list it
/// does not serve.
fn pods(parts: &[Part<'_>]) -> Vec<Endpoint> {
    let is_ready = |pod: &&slices::Pod| pod.state == EndpointState::Ready;
    let ready = parts.iter().flat_map(|part| part.pods).filter(is_ready);
    // An address may be in two slices while it moves, and a new pod may get that of one that ends.
    let ready: BTreeSet<IpAddr> = ready.flat_map(|pod| pod.addresses.iter().copied()).collect();
    let mut grouped: BTreeMap<(EndpointState, &[Numbered]), BTreeSet<IpAddr>> = BTreeMap::new();
    for part in parts {
        for pod in part.pods {
            let counts = |address: &IpAddr| pod.state == EndpointState::Ready || !ready.contains(address);
            let addresses = pod.addresses.iter().copied().filter(counts);
            grouped.entry((pod.state, &part.ports)).or_default().extend(addresses);
        }
    }
    let port = |(name, port): &Numbered| EndpointPort { name: name.clone(), port: *port };
    let mut endpoints = Vec::new();
    for ((state, ports), addresses) in grouped {
        let addresses = addresses.iter().map(IpAddr::to_string).collect();
        endpoints.push(Endpoint { addresses, ports: ports.iter().map(port).collect(), state });
    }
    endpoints
}

/// The addresses of the cloud's load balancer, its names resolved; never one that the hub gave.
fn provider(service: &Service, ways: &Ways) -> Vec<Endpoint> {
    let texts = clouds(service).iter().flat_map(|entry| [entry.ip.as_deref(), entry.hostname.as_deref()]);
    let written = texts.flatten().filter_map(|text| text.parse::<IpAddr>().ok());
    let resolved = hostnames(service, &ways.given)
        .flat_map(|name| ways.resolved.and_then(|all| all.get(name)).into_iter().flatten());
    let addresses: BTreeSet<IpAddr> =
        written.chain(resolved.copied()).filter(|a| !ways.given.has_address(*a)).collect();
    let addresses = addresses.iter().map(IpAddr::to_string).collect();
    vec![Endpoint { addresses, ..Endpoint::default() }]
}
