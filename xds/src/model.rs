//! The words in which a load balancer is described to this crate: what is bound, where it leads, how it is balanced.
//! Knows no protobuf and no protocol; every type is ordered, so that equal input gives equal bytes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

/// The transport protocol of a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams, balanced by session.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What a listener binds. Its text is the listener's name: `tcp/203.0.113.7/443`, `udp/2001:db8::7/53`.
///
/// Two listeners that bind the same are the same listener: an address that passes to another owner is an update in
/// place and never a second listener that cannot bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bind {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The address, bound freely: it need not be present on the machine yet.
    pub address: IpAddr,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, address, port } = self;
        write!(f, "{protocol}/{address}/{port}")
    }
}

/// One address and port, and the cluster that answers on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// What it binds; also its name.
    pub bind: Bind,
    /// The cluster that gets every connection or session.
    pub cluster: String,
    /// The prefix of its statistics, one per load balancer, so that several ports add up.
    pub stat_prefix: String,
    /// How long a connection (TCP) or a session (UDP) may be silent before it is closed. Zero: for ever (TCP only; a
    /// UDP session then keeps Envoy's default of one minute).
    pub idle_timeout: Duration,
    /// Which networks may connect. Empty: every network. TCP: each has a filter chain of its own, as long as there are no more
    /// than [`Self::OWN_CHAINS`], so that an edit of one leaves the connections from the others alone.
    pub source_ranges: Vec<IpNet>,
    /// Destinations at which it does not answer: a listener on a wildcard address is reached at every address of the
    /// machine, also at those that are somebody else's. They come before [`Self::source_ranges`]. Empty: it answers
    /// everywhere. TCP: a filter chain without filters, `filter_chain_match.prefix_ranges`; a change leaves every open
    /// connection alone, also those at these destinations. UDP: the matcher of `UdpProxyConfig`, with
    /// `DestinationIPInput`; a change ends every session, and the next datagram begins a new one.
    pub not_on: Vec<IpNet>,
}

impl Listener {
    /// With more source ranges than this, all share one filter chain, and an edit of one ends the connections from all. A chain
    /// costs an Envoy about 5 KB.
    pub const OWN_CHAINS: usize = 16;
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Balancing {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The less busy of two picked by chance.
    LeastRequest,
    /// By chance.
    Random,
    /// By consistent hashing of the client's address, which every listener passes on.
    Maglev,
}

/// The PROXY protocol's version, towards the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyProtocol {
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

/// How endpoints are probed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// A connection that opens.
    Tcp,
    /// A GET that answers 200.
    Http {
        /// The path, beginning with a slash.
        path: String,
    },
}

/// Active health checking by every Envoy on its own. The port that is probed is the endpoints' affair: see
/// [`Endpoints::health_port`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HealthCheck {
    /// What is tried.
    pub probe: Probe,
    /// The time between two probes, above zero. An endpoint that fails is probed once a second, where this is longer.
    pub interval: Duration,
    /// How long a probe may take, above zero.
    pub timeout: Duration,
    /// So many failures in a row take an endpoint out.
    pub unhealthy_after: u32,
    /// So many successes in a row take it back. The first probe of a new endpoint decides by itself.
    pub healthy_after: u32,
}

/// Passive health checking: an endpoint that cannot be connected to leaves rotation for a while. The last one that is left never
/// does. Where endpoints are actively checked, nothing is ejected: Envoy counts an endpoint that fails its checks among those that
/// are left, and would eject the only one that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ejection {
    /// So many failed connections in a row.
    pub consecutive_failures: u32,
    /// How long the first ejection lasts. The next one lasts longer by as much where the endpoint fails again within a second of its
    /// return; none lasts longer than 30 seconds, or than this.
    pub base_time: Duration,
}

/// A set of endpoints and how to use them. Stable while endpoints come and go: they travel as [`Endpoints`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cluster {
    /// Unique in a fleet; also the name of its [`Endpoints`].
    pub name: String,
    /// How long connecting to an endpoint may take, above zero.
    pub connect_timeout: Duration,
    /// How an endpoint is picked.
    pub balancing: Balancing,
    /// Open connections (UDP: sessions) per Envoy, above which new ones are refused.
    pub max_connections: u32,
    /// Whether endpoints are told the client's address.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Active health checks.
    pub health_check: Option<HealthCheck>,
    /// Passive health checks.
    pub ejection: Option<Ejection>,
}

/// The endpoints of one cluster. None at all makes connections fail fast.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoints {
    /// The cluster's name.
    pub cluster: String,
    /// Where connections go. Order and repetition mean nothing.
    pub addresses: Vec<SocketAddr>,
    /// Where connections go while too few of `addresses` are usable: the next lower priority. An address that is in both
    /// counts as one of `addresses`.
    pub fallback: Vec<SocketAddr>,
    /// Whether the cluster checks endpoints actively. The check is left out for `fallback`: what ends and still serves mostly
    /// answers it with a failure already.
    pub is_checked: bool,
    /// The port that health checks probe instead of the serving one. It lives here, since Envoy takes it from the
    /// endpoint and has not implemented the field in the check.
    pub health_port: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_named_after_what_it_binds() {
        let bind = |protocol, address: &str, port| {
            Bind { protocol, address: address.parse().expect("address"), port }.to_string()
        };
        assert_eq!(bind(Protocol::Tcp, "203.0.113.7", 443), "tcp/203.0.113.7/443");
        assert_eq!(bind(Protocol::Udp, "2001:db8:0::7", 53), "udp/2001:db8::7/53");
    }
}
