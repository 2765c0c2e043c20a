//! Why a load balancer is not, or not wholly, what it asks for. Knows the words for people; knows no condition.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::tcp_load_balancer::IpFamily;

use crate::backends::{LeftOut, Refused};
use crate::lacking::Lacking;
use crate::ports::Door;

/// What is wrong with what an intent says, or with whom it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Problem {
    NoTenant,
    Suspended {
        tenant: String,
    },
    OtherFleet {
        pool: String,
        tenant: String,
        fleet: String,
    },
    Quota {
        tenant: String,
        field: &'static str,
        limit: u32,
    },
    PortsWithheld {
        tenant: String,
        limit: u32,
        ports: Vec<Door>,
    },
    BackendsLimited {
        tenant: String,
        limit: u32,
        served: u32,
    },
    NodeSetMissing {
        name: String,
    },
    /// It says something that this manager cannot read: what it said last stays in force.
    Unreadable {
        why: String,
    },
    /// So does an object that it depends on, and nothing is known of that object: what is served stays as it is.
    DependsOnUnreadable {
        kind: &'static str,
        name: String,
        why: String,
    },
    /// `families`: those in which nodes were to be reached and have no address.
    NoBackends {
        families: Vec<IpFamily>,
    },
    /// `beyond`: so many backends are left out.
    TooManyBackends {
        beyond: u32,
    },
    BackendsRefused {
        left_out: LeftOut,
        tenant: String,
        all: bool,
    },
    InvalidDuration {
        field: &'static str,
        value: String,
    },
    InvalidSourceRange {
        value: String,
        none_left: bool,
    },
    ProxyProtocolOnUdp {
        ports: Vec<u16>,
    },
    SessionsLimited {
        fleet: String,
        ports: Vec<PortShare>,
        all_closed: bool,
    },
}

/// What a UDP port has of the sessions that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortShare {
    pub port: u16,
    pub has: u32,
    pub wants: u32,
}

impl Problem {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoTenant => "NoTenant",
            Self::Suspended { .. } => "TenantSuspended",
            Self::OtherFleet { .. } => "OtherFleet",
            Self::Quota { .. } | Self::PortsWithheld { .. } | Self::BackendsLimited { .. } => "QuotaExceeded",
            Self::NodeSetMissing { .. } => "NodeSetMissing",
            Self::Unreadable { .. } => "Unreadable",
            Self::DependsOnUnreadable { .. } => "DependsOnUnreadable",
            Self::NoBackends { .. } => "NoBackends",
            Self::TooManyBackends { .. } => "TooManyBackends",
            Self::BackendsRefused { .. } => "BackendsRefused",
            Self::InvalidDuration { .. } => "InvalidDuration",
            Self::InvalidSourceRange { .. } => "InvalidSourceRange",
            Self::ProxyProtocolOnUdp { .. } => "ProxyProtocolOnUDP",
            Self::SessionsLimited { .. } => "SessionsLimited",
        }
    }

    /// Whether nothing is served because of it. What is allocated stays so.
    pub fn stops_service(&self) -> bool {
        match self {
            Self::NoTenant | Self::Suspended { .. } | Self::OtherFleet { .. } | Self::Quota { .. } => true,
            Self::InvalidSourceRange { none_left, value: _ } => *none_left,
            Self::SessionsLimited { all_closed, .. } => *all_closed,
            Self::PortsWithheld { .. }
            | Self::BackendsLimited { .. }
            | Self::NodeSetMissing { .. }
            | Self::Unreadable { .. }
            | Self::DependsOnUnreadable { .. }
            | Self::NoBackends { .. }
            | Self::TooManyBackends { .. }
            | Self::BackendsRefused { .. }
            | Self::InvalidDuration { .. }
            | Self::ProxyProtocolOnUdp { .. } => false,
        }
    }

    /// Whether the intent is not accepted because of it.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::BackendsRefused { all, .. } => *all,
            Self::NodeSetMissing { .. } | Self::Unreadable { .. } => true,
            Self::NoTenant
            | Self::Suspended { .. }
            | Self::OtherFleet { .. }
            | Self::Quota { .. }
            | Self::PortsWithheld { .. }
            | Self::BackendsLimited { .. }
            | Self::DependsOnUnreadable { .. }
            | Self::NoBackends { .. }
            | Self::TooManyBackends { .. }
            | Self::InvalidDuration { .. }
            | Self::InvalidSourceRange { .. }
            | Self::SessionsLimited { .. }
            | Self::ProxyProtocolOnUdp { .. } => self.stops_service(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTenant => f.write_str("no Tenant has this namespace, so nothing in it is served: create the Tenant, or see the condition Ready of the Tenant with this name"),
            Self::Suspended { tenant } => {
                write!(f, "Tenant {tenant} is suspended (spec.state): addresses are kept, nothing is served")
            }
            Self::OtherFleet { pool, tenant, fleet } => {
                write!(
                    f,
                    "its address is from pool {pool}, which belongs to another fleet than {fleet}, the fleet of Tenant {tenant}: set spec.fleet of the \
                     Tenant back, or delete this load balancer and create it again"
                )
            }
            Self::Quota { tenant, field, limit } => {
                write!(
                    f,
                    "with this load balancer Tenant {tenant} would exceed its limit of {limit} (spec.quota.{field}, or the manager's default): delete \
                     a load balancer, or ask the hub's administrators for a higher quota"
                )
            }
            Self::PortsWithheld { tenant, limit, ports } => {
                let ports: Vec<String> =
                    ports.iter().map(|(protocol, port)| format!("{port}/{}", protocol.as_str())).collect();
                write!(
                    f,
                    "Tenant {tenant} has reached its limit of {limit} ports (spec.quota.ports): {} stay closed. Remove ports, or ask the hub's \
                     administrators for a higher quota",
                    ports.join(", ")
                )
            }
            Self::BackendsLimited { tenant, limit, served } => {
                write!(
                    f,
                    "Tenant {tenant} has reached its limit of {limit} endpoints (spec.quota.endpoints, or the manager's default): {served} backends get \
                     traffic. Use fewer, or ask the hub's administrators for a higher quota"
                )
            }
            Self::NodeSetMissing { name } => write!(f, "NodeSet {name} does not exist: the agent writes it, see the agent's log and the Tenant's condition AgentConnected"),
            Self::Unreadable { why } => f.write_str(&unreadable(why)),
            Self::DependsOnUnreadable { kind, name, why } => {
                write!(
                    f,
                    "this manager cannot read {kind} {name}: {why}. What is served stays as it is. Fix that field, or run a manager that knows it"
                )
            }
            Self::NoBackends { families } if families.is_empty() => {
                f.write_str("no backend is ready, so connections are refused: check the pods and nodes of the spoke")
            }
            Self::NoBackends { families } => {
                write!(f, "no ready node has an {} address, so connections are refused: check the addresses of the nodes", any(families))
            }
            Self::TooManyBackends { beyond } => write!(
                f,
                "{beyond} backends are left out: a load balancer has at most {} pairs of a port and a backend",
                nave_api::limits::SOCKETS
            ),
            Self::BackendsRefused { left_out, tenant, all: _ } => refusals(f, left_out, tenant),
            Self::InvalidDuration { field, value } => {
                write!(f, "spec.traffic.{field} \"{value}\" is no duration (250ms, 5s, 1h): the default is in force")
            }
            Self::InvalidSourceRange { value, none_left: false } => {
                write!(f, "\"{value}\" in spec.traffic.sourceRanges is no network in CIDR notation: it is left out")
            }
            Self::InvalidSourceRange { value, none_left: true } => {
                write!(
                    f,
                    "\"{value}\" in spec.traffic.sourceRanges is no network in CIDR notation, and no other is left: no client may connect"
                )
            }
            Self::ProxyProtocolOnUdp { ports } => {
                write!(f, "spec.traffic.proxyProtocol does not apply to UDP: the UDP ports {ports:?} go without it")
            }
            Self::SessionsLimited { fleet, ports, all_closed: _ } => shares(f, fleet, ports),
        }
    }
}

/// What the condition of an object says that this manager cannot read.
pub(crate) fn unreadable(why: &str) -> String {
    format!(
        "this manager cannot read the object: {why}. Fix that field, or run a manager that knows it; what the object was last stays in force"
    )
}

fn shares(f: &mut fmt::Formatter<'_>, fleet: &str, ports: &[PortShare]) -> fmt::Result {
    let says = |PortShare { port, has, wants }: &PortShare| match has {
        0 => format!("UDP port {port} stays closed, it asks for {wants} sessions"),
        has => format!("UDP port {port} has {has} sessions of {wants}"),
    };
    let named: Vec<String> = ports.iter().take(NAMED).map(says).collect();
    let more = ports.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more ports") } else { String::new() };
    write!(
        f,
        "{}{more}: what the Envoys of fleet {fleet} can open, or the tenant's share of it, is promised to other ports. Lower \
         nave.dev/max-connections on the Service (spec.traffic.maxConnections here), or ask the hub's administrators",
        named.join(", ")
    )
}

/// So many ports are named.
const NAMED: usize = 3;

fn refusals(f: &mut fmt::Formatter<'_>, left_out: &LeftOut, tenant: &str) -> fmt::Result {
    let LeftOut { count, first } = left_out;
    f.write_str("backends left out: ")?;
    for (i, Refused { text, why }) in first.iter().enumerate() {
        write!(f, "{}{text} {}", if i == 0 { "" } else { ", " }, why.says(tenant))?;
    }
    let named = u32::try_from(first.len()).unwrap_or(u32::MAX);
    if *count > named { write!(f, ", and {} more", count - named) } else { Ok(()) }
}

/// Why an intent has not all the addresses that it asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shortage {
    /// They are being recorded.
    Pending,
    /// The hub's cloud has yet to give them.
    AwaitsCloud {
        pool: String,
    },
    /// Something else is wrong with it.
    NotAccepted,
    InvalidAddress {
        text: String,
    },
    /// What it asks for is not there: what was found out of each pool.
    Lacking(Lacking),
    PortTaken {
        address: IpAddr,
        protocol: &'static str,
        port: u16,
    },
    NoPort {
        pools: Vec<Arc<str>>,
    },
    Quota {
        tenant: String,
        limit: u32,
    },
}

impl Shortage {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::AwaitsCloud { .. } => "AwaitsCloud",
            Self::NotAccepted => "NotAccepted",
            Self::InvalidAddress { .. } => "InvalidAddress",
            Self::Lacking(lacking) => lacking.reason(),
            Self::PortTaken { .. } => "PortTaken",
            Self::NoPort { .. } => "PortsOutOfRange",
            Self::Quota { .. } => "QuotaExceeded",
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("its addresses are being recorded"),
            Self::AwaitsCloud { pool } => write!(
                f,
                "waits for the hub's cloud to give an address with its ports; where that lasts, the condition Ready of IPPool {pool} says more"
            ),
            Self::NotAccepted => f.write_str("waits until the load balancer is accepted: see the condition Accepted"),
            Self::InvalidAddress { text } => write!(f, "\"{text}\" in spec.address.requested is no IP address"),
            Self::Lacking(lacking) => lacking.fmt(f),
            Self::PortTaken { address, protocol, port } => {
                write!(
                    f,
                    "{protocol} port {port} of {address} is taken by another load balancer: ask for another port or address"
                )
            }
            Self::NoPort { pools } => {
                write!(
                    f,
                    "{} has fewer ports in its spec.portRange than the load balancer asks for: ask for fewer ports, or name another pool",
                    join(pools)
                )
            }
            Self::Quota { tenant, limit } => {
                write!(
                    f,
                    "Tenant {tenant} has reached its limit of {limit} addresses (spec.quota.addresses): delete a load balancer, or ask the hub's \
                     administrators for a higher quota"
                )
            }
        }
    }
}

pub(crate) fn any(families: &[IpFamily]) -> String {
    families.iter().map(|family| format!("{family:?}")).collect::<Vec<_>>().join(" or ")
}

pub(crate) fn join(pools: &[Arc<str>]) -> String {
    let noun = if pools.len() == 1 { "pool" } else { "pools" };
    format!("{noun} {}", pools.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "))
}
