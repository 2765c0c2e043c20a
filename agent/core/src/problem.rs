//! Why not, for the user: what becomes a Warning Event on his Service. Knows reasons and words; stops nothing.

use nave_api::names;

/// Something in a Service that we cannot do, or do differently than it says. The rest of the Service is done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// An annotation of ours whose value does not parse; what holds without it stays in force.
    InvalidAnnotation {
        /// Its full name.
        name: String,
        /// What it says.
        value: String,
        /// What it may say.
        accepted: String,
    },
    /// An annotation of ours whose value lies beyond a bound; the nearest bound is in force.
    BeyondBound {
        /// Its full name.
        name: String,
        /// What it says.
        value: String,
        /// The bound.
        used: String,
        /// What it may say.
        accepted: String,
    },
    /// An annotation with our prefix that means nothing.
    UnknownAnnotation {
        /// Its full name.
        name: String,
    },
    /// An annotation of ours that has nothing to work on.
    NoEffect {
        /// Its name behind the prefix.
        field: &'static str,
        /// What it needs to have one.
        needs: &'static str,
    },
    /// An annotation of another system that asks for something that we do not do.
    NotDone {
        /// Its full name.
        name: String,
        /// What it says.
        value: String,
        /// What to do instead.
        instead: String,
    },
    /// An annotation with the prefix of another system that meant nothing there.
    UnknownElsewhere {
        /// Its full name.
        name: String,
    },
    /// A protocol that is not served.
    UnsupportedProtocol {
        /// As the Service writes it.
        protocol: String,
        /// The port that has it.
        port: i32,
    },
    /// A port without a node port, so that there is nothing to connect to.
    NoNodePort {
        /// The port.
        port: i32,
    },
    /// More ports than a load balancer has.
    TooManyPorts {
        /// How many are served.
        served: usize,
        /// How many there are.
        present: usize,
    },
    /// What a Service says of the addresses that it wants cannot be read. That is not the same as no wish: the Service waits, or
    /// keeps what it has.
    UnreadableRequest {
        /// The field or annotation.
        name: String,
        /// What it says.
        value: String,
        /// What it may say.
        accepted: String,
    },
    /// A second requested address of its family.
    InvalidAddress {
        /// Where it stands.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// More backends than a load balancer holds.
    TooManyBackends {
        /// How many get traffic.
        served: usize,
        /// How many there are.
        present: usize,
    },
    /// More nodes than a NodeSet holds.
    TooManyNodes {
        /// How many get traffic.
        served: usize,
        /// How many there are.
        present: usize,
    },
    /// No pod is ready.
    NoReadyEndpoints {
        /// The ports that none serves; empty: all.
        ports: Vec<u16>,
    },
    /// No node is ready. All of them stay backends.
    NoReadyNodes {
        /// How many nodes there are.
        nodes: usize,
    },
    /// No node may get traffic.
    NoNodes,
    /// Another controller writes the Service's load balancer status.
    ContestedStatus,
    /// A cloud's controller holds the Service, too.
    CloudHolds,
    /// The cloud's load balancer shall be the backend, and there is no cloud that would give one.
    NoCloud,
    /// The hub does not take the intent at all.
    Refused {
        /// The hub's words.
        message: String,
    },
    /// What stands for the Service in the hub cannot be read.
    UnreadableIntent {
        /// The field and what is wrong with it.
        why: String,
    },
    /// The tenant's namespace in the hub belongs to another cluster.
    OtherCluster {
        /// The mark of this cluster.
        own: String,
        /// The mark of the other one.
        owner: String,
    },
    /// A source range that is no network. It is left out; when none remains, no client may connect.
    InvalidSourceRange {
        /// What it says.
        value: String,
    },
    /// More source ranges than a load balancer has.
    TooManySourceRanges {
        /// How many may connect.
        served: usize,
        /// How many there are.
        present: usize,
    },
}

const CONTESTED: &str = "another controller writes the load balancer status of this Service, too: give it a \
    loadBalancerClass, so that one of them leaves it alone";
const CLOUD_HOLDS: &str = "a cloud's controller also serves this Service: delete it and create it with a loadBalancerClass, or use the cloud's load balancer as \
    backend (nave.dev/backends: Provider)";

const NO_NODES: &str = "no node may get traffic, so connections are refused: there is none, or each one is excluded by a label, \
    by a taint or by the agent's --node-selector, or has no address of --node-address-types";

fn no_ready_endpoints(ports: &[u16]) -> String {
    if ports.is_empty() {
        return "no pod behind this Service is ready: check its selector and the readiness of its pods".to_owned();
    }
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("no ready pod serves port {}: check its targetPort and the readiness of the pods", ports.join(", "))
}

impl Problem {
    /// Whether it mostly ends by itself within seconds: a user need not know of it before it has lasted.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoReadyEndpoints { .. } | Self::NoReadyNodes { .. } | Self::NoNodes => true,
            Self::InvalidAnnotation { .. }
            | Self::BeyondBound { .. }
            | Self::UnknownAnnotation { .. }
            | Self::NoEffect { .. }
            | Self::NotDone { .. }
            | Self::UnknownElsewhere { .. }
            | Self::UnsupportedProtocol { .. }
            | Self::NoNodePort { .. }
            | Self::TooManyPorts { .. }
            | Self::UnreadableRequest { .. }
            | Self::InvalidAddress { .. }
            | Self::TooManyBackends { .. }
            | Self::TooManyNodes { .. }
            | Self::ContestedStatus
            | Self::CloudHolds
            | Self::NoCloud
            | Self::Refused { .. }
            | Self::UnreadableIntent { .. }
            | Self::OtherCluster { .. }
            | Self::InvalidSourceRange { .. }
            | Self::TooManySourceRanges { .. } => false,
        }
    }

    /// Whether it hides which addresses are wanted.
    pub fn is_unreadable_request(&self) -> bool {
        matches!(self, Self::UnreadableRequest { .. })
    }

    /// `CamelCase`, for programs: the reason of the Event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnreadableRequest { name, .. } if name.starts_with("spec.") => "InvalidAddress",
            Self::InvalidAnnotation { .. } | Self::UnreadableRequest { .. } | Self::BeyondBound { .. } => {
                "InvalidAnnotation"
            }
            Self::UnknownAnnotation { .. } | Self::UnknownElsewhere { .. } => "UnknownAnnotation",
            Self::NoEffect { .. } => "NoEffect",
            Self::NotDone { .. } => "NotDone",
            Self::UnsupportedProtocol { .. } => "UnsupportedProtocol",
            Self::NoNodePort { .. } => "NoNodePort",
            Self::TooManyPorts { .. } => "TooManyPorts",
            Self::InvalidAddress { .. } => "InvalidAddress",
            Self::TooManyBackends { .. } => "TooManyBackends",
            Self::TooManyNodes { .. } => "TooManyNodes",
            Self::NoReadyEndpoints { .. } => "NoReadyEndpoints",
            Self::NoReadyNodes { .. } => "NoReadyNodes",
            Self::NoNodes => "NoNodes",
            Self::ContestedStatus | Self::CloudHolds => "ContestedStatus",
            Self::NoCloud => "NoCloud",
            Self::Refused { .. } => "RefusedByHub",
            Self::UnreadableIntent { .. } => "Unreadable",
            Self::OtherCluster { .. } => "OtherCluster",
            Self::InvalidSourceRange { .. } => "InvalidSourceRange",
            Self::TooManySourceRanges { .. } => "TooManySourceRanges",
        }
    }

    /// For people: what, where and how to mend it.
    pub fn message(&self) -> String {
        match self {
            Self::InvalidAnnotation { name, value, accepted } => {
                format!("{name}: \"{value}\" is not understood and ignored; accepted: {accepted}")
            }
            Self::BeyondBound { name, value, used, accepted } => {
                format!("{name}: \"{value}\" is beyond the nearest bound, and {used} is in force; accepted: {accepted}")
            }
            Self::UnknownAnnotation { name } => {
                format!("{name} is no annotation of Nave and ignored; known: {}", crate::annotations::known())
            }
            Self::NoEffect { field, needs } => format!("nave.dev/{field} has no effect without {needs}"),
            Self::NotDone { name, value, instead } => format!("{name}: \"{value}\" is not done: {instead}"),
            Self::UnknownElsewhere { name } => {
                format!("{name} is ignored; known: {}", crate::annotations::known_elsewhere())
            }
            Self::UnsupportedProtocol { protocol, port } => {
                format!("port {port} is not served: {protocol} is not supported, only TCP and UDP are")
            }
            Self::NoNodePort { port } => format!(
                "port {port} is not served: it has no node port. Remove allocateLoadBalancerNodePorts: false, or set a nodePort"
            ),
            Self::TooManyPorts { served, present } => {
                format!(
                    "only the first {served} of {present} ports are served: a load balancer of the hub has no more. Use a second Service for the others"
                )
            }
            Self::UnreadableRequest { name, value, accepted } => format!(
                "{name}: \"{value}\" is not understood; accepted: {accepted}. Until this is fixed, a new Service gets no address, \
                and a Service that is served keeps what it has"
            ),
            Self::InvalidAddress { field, value } => {
                format!("{field}: \"{value}\" is ignored: ask for one IPv4 and one IPv6 address at most")
            }
            Self::TooManyBackends { served, present } => {
                format!("only {served} of {present} backends get traffic: a load balancer of the hub holds no more")
            }
            Self::TooManyNodes { served, present } => {
                format!("only {served} of {present} nodes get traffic: a NodeSet of the hub holds no more")
            }
            Self::NoReadyEndpoints { ports } => no_ready_endpoints(ports),
            Self::NoReadyNodes { nodes } => format!(
                "none of the {nodes} nodes is ready: all of them stay backends, since nodes that fail at the same moment mostly \
                serve on. Check the control plane of this cluster, and its kubelets"
            ),
            Self::NoNodes => NO_NODES.to_owned(),
            Self::ContestedStatus => CONTESTED.to_owned(),
            Self::CloudHolds => CLOUD_HOLDS.to_owned(),
            Self::NoCloud => format!(
                "backends are the load balancer of the spoke's own cloud, which gives none to Services of class {}: \
                say nave.dev/backends: NodePort or PodIP, or leave the Service to the cloud's class",
                names::LOAD_BALANCER_CLASS
            ),
            Self::Refused { message } => format!("The hub refuses the load balancer of this Service: {message}"),
            Self::UnreadableIntent { why } => format!(
                "The TCPLoadBalancer of this Service in the hub cannot be read ({why}). It stays as it is until an administrator of the hub fixes or deletes it"
            ),
            Self::OtherCluster { own, owner } => format!(
                "The credential of the hub belongs to cluster {owner}, and this is cluster {own}: nothing of this Service reaches the hub. \
                Give this cluster a Tenant of its own. If it replaces the other one, an administrator of the hub annotates the Tenant: \
                nave.dev/cluster={own}"
            ),
            Self::InvalidSourceRange { value } => format!(
                "source range \"{value}\" is no network in CIDR notation and is left out; when none remains, no client may connect"
            ),
            Self::TooManySourceRanges { served, present } => {
                format!("only the first {served} of {present} source ranges may connect: list fewer, larger networks")
            }
        }
    }
}
