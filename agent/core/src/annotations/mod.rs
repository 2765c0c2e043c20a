//! The annotations `nave.dev/<field>` of a Service: one table, each value parsed once. Knows what each may say; knows
//! nothing of what the rest of the Service says.

mod elsewhere;
mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use nave_api::Duration;
use nave_api::limits::NODES;
use nave_api::tcp_load_balancer::{BalancingPolicy, FamilyPolicy, IpFamily, ProxyProtocol, bounds};

use crate::Problem;
use crate::backends::Mode;
pub(crate) use elsewhere::known as known_elsewhere;
pub use elsewhere::opts_in;
pub(crate) use values::plain;
use values::{
    Taken, addresses, any_duration, bounded, count, duration, families, health_check, is_label, named, number, set,
    source_ranges,
};

const PREFIX: &str = "nave.dev/";

/// What the annotations of a Service ask for. `None`: they do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The way to its backends.
    pub backends: Option<Mode>,
    /// The pool by name.
    pub pool: Option<String>,
    /// Exactly these addresses, at most one of a family.
    pub addresses: Option<Vec<IpAddr>>,
    /// The families in order of preference.
    pub families: Option<Vec<IpFamily>>,
    /// How many nodes are used under the policy Cluster; 0: all.
    pub node_subset: Option<u32>,
    /// One address or one of each family.
    pub family_policy: Option<FamilyPolicy>,
    /// One of these four is there and cannot be read.
    pub unreadable_request: bool,
    /// Who may connect.
    pub source_ranges: Option<Vec<IpNet>>,
    /// Which backend gets a connection.
    pub balancing: Option<BalancingPolicy>,
    /// PROXY protocol towards the backend.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Whether to check backends, and how.
    pub health_check: Option<Check>,
    /// The path of an HTTP check.
    pub health_check_path: Option<String>,
    /// The port of an HTTP check.
    pub health_check_port: Option<u16>,
    /// Time between checks.
    pub health_check_interval: Option<Duration>,
    /// Time for an answer.
    pub health_check_timeout: Option<Duration>,
    /// Failures that take a backend out.
    pub unhealthy_after: Option<u32>,
    /// Successes that take it in again.
    pub healthy_after: Option<u32>,
    /// Failed connections in a row that eject a backend.
    pub ejection_failures: Option<u32>,
    /// How long it is ejected the first time.
    pub ejection_base_time: Option<Duration>,
    /// Time to connect to a backend.
    pub connect_timeout: Option<Duration>,
    /// Time without a byte before a connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Time without a datagram before a session is forgotten.
    pub udp_session_timeout: Option<Duration>,
    /// Connections at once.
    pub max_connections: Option<u32>,
}

/// How backends are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Not at all.
    None,
    /// By connecting.
    Tcp,
    /// By a GET.
    Http,
}

/// One annotation: what it is called behind the prefix, what it accepts, how it is read.
pub struct Row {
    /// The name behind `nave.dev/`.
    pub field: &'static str,
    /// What it accepts, for people.
    pub accepted: &'static str,
    read: fn(&mut Asked, &str) -> Option<Taken>,
}

/// What says which addresses are wanted: where one of these cannot be read, no other address is good enough.
const REQUEST: [&str; 4] = ["addresses", "families", "family-policy", "pool"];

const DURATION: &str = "a duration such as 250ms, 5s or 1h, longer than 0s";
/// Beyond these a value counts as the nearest one.
const FROM_A_SECOND: &str = "a duration from 1s to 1h, such as 5s or 1m";
const UP_TO_A_MINUTE: &str = "a duration from 1ms to 1m, such as 250ms or 5s";
const CONNECTIONS: &str = "a whole number from 1 to 200000";

/// Every annotation there is, sorted.
pub const TABLE: &[Row] = &[
    Row { field: "addresses", accepted: "one IPv4 and one IPv6 address at most, separated by commas", read: addresses },
    Row {
        field: "backends",
        accepted: "NodePort, PodIP, Provider",
        read: |asked, text| set(&mut asked.backends, text.parse().ok()),
    },
    Row {
        field: "balancing",
        accepted: "RoundRobin, LeastRequest, Random, Maglev",
        read: |asked, text| named(&mut asked.balancing, text),
    },
    Row {
        field: "connect-timeout",
        accepted: DURATION,
        read: |asked, text| duration(&mut asked.connect_timeout, text),
    },
    Row {
        field: "ejection-base-time",
        accepted: DURATION,
        read: |asked, text| duration(&mut asked.ejection_base_time, text),
    },
    Row {
        field: "ejection-failures",
        accepted: "a whole number; 0 turns ejection off",
        read: |asked, text| set(&mut asked.ejection_failures, text.parse().ok()),
    },
    Row { field: "families", accepted: "IPv4, IPv6, or both separated by a comma", read: families },
    Row {
        field: "family-policy",
        accepted: "SingleStack, PreferDualStack, RequireDualStack",
        read: |asked, text| named(&mut asked.family_policy, text),
    },
    Row { field: "health-check", accepted: "None, TCP, HTTP", read: health_check },
    Row {
        field: "health-check-interval",
        accepted: FROM_A_SECOND,
        read: |asked, text| bounded(&mut asked.health_check_interval, text, bounds::CHECK_INTERVAL),
    },
    Row {
        field: "health-check-path",
        accepted: "a path that begins with / and has at most 1024 characters",
        read: |asked, text| {
            let good = text.starts_with('/') && text.len() <= 1024 && text.chars().all(|c| c.is_ascii_graphic());
            set(&mut asked.health_check_path, good.then(|| text.to_owned()))
        },
    },
    Row {
        field: "health-check-port",
        accepted: "a port, 1 to 65535",
        read: |asked, text| set(&mut asked.health_check_port, text.parse().ok().filter(|port| *port > 0)),
    },
    Row {
        field: "health-check-timeout",
        accepted: UP_TO_A_MINUTE,
        read: |asked, text| bounded(&mut asked.health_check_timeout, text, bounds::CHECK_TIMEOUT),
    },
    Row {
        field: "healthy-after",
        accepted: "a whole number, 1 to 100",
        read: |asked, text| count(&mut asked.healthy_after, text, 100),
    },
    Row {
        field: "idle-timeout",
        accepted: "a duration such as 5m or 1h; 0s: never",
        read: |asked, text| any_duration(&mut asked.idle_timeout, text),
    },
    Row {
        field: "max-connections",
        accepted: CONNECTIONS,
        read: |asked, text| number(&mut asked.max_connections, text, bounds::CONNECTIONS_AT_MOST),
    },
    Row {
        field: "node-subset",
        accepted: "a whole number up to 5000: so many nodes are used under the policy Cluster; 0: all",
        read: |asked, text| {
            let within = |size: &u32| usize::try_from(*size).is_ok_and(|size| size <= NODES);
            set(&mut asked.node_subset, text.parse().ok().filter(within))
        },
    },
    Row {
        field: "pool",
        accepted: "the name of an IPPool of the hub",
        read: |asked, text| set(&mut asked.pool, is_label(text).then(|| text.to_owned())),
    },
    Row {
        field: "proxy-protocol",
        accepted: "None, V1, V2",
        read: |asked, text| named(&mut asked.proxy_protocol, text),
    },
    Row {
        field: "source-ranges",
        accepted: "networks in CIDR notation, separated by commas, at most 200; others are left out, and when none remains nobody may connect",
        read: source_ranges,
    },
    Row {
        field: "udp-session-timeout",
        accepted: FROM_A_SECOND,
        read: |asked, text| bounded(&mut asked.udp_session_timeout, text, bounds::UDP_SESSION),
    },
    Row {
        field: "unhealthy-after",
        accepted: "a whole number, 1 to 100",
        read: |asked, text| count(&mut asked.unhealthy_after, text, 100),
    },
];

/// The way to backends that a Service asks for.
pub fn backends(annotations: &BTreeMap<String, String>) -> Option<Mode> {
    annotations.get("nave.dev/backends").and_then(|text| text.trim().parse().ok())
}

/// Reads all annotations, those of other systems where ours are silent. What does not parse is a problem, and what holds
/// without it stays in force; not so for what says which addresses are wanted.
pub fn read(annotations: &BTreeMap<String, String>) -> (Asked, Vec<Problem>) {
    let mut asked = Asked::default();
    let mut problems = Vec::new();
    for (name, value) in annotations {
        let Some(field) = name.strip_prefix(PREFIX) else { continue };
        match TABLE.iter().find(|row| row.field == field) {
            None => problems.push(Problem::UnknownAnnotation { name: name.clone() }),
            Some(row) => {
                let (name, short, accepted) = (name.clone(), excerpt(value), row.accepted.to_owned());
                let of_request = REQUEST.contains(&field);
                problems.extend(match (row.read)(&mut asked, value.trim()) {
                    Some(Taken::Whole) => None,
                    Some(Taken::Nearest(used)) => Some(Problem::BeyondBound { name, value: short, used, accepted }),
                    None if of_request => {
                        asked.unreadable_request = true;
                        Some(Problem::UnreadableRequest { name, value: short, accepted })
                    }
                    None => Some(Problem::InvalidAnnotation { name, value: short, accepted }),
                });
            }
        }
    }
    elsewhere::read(annotations, &mut asked, &mut problems);
    (asked, problems)
}

/// The tables as a document shows them: ours, and those of other systems.
pub fn documents() -> [(&'static str, String); 2] {
    [("annotations", document()), ("elsewhere", elsewhere::document())]
}

fn document() -> String {
    let rows = TABLE.iter().map(|Row { field, accepted, read: _ }| format!("| `{PREFIX}{field}` | {accepted} |\n"));
    format!("| annotation | accepts |\n|---|---|\n{}", rows.collect::<String>())
}

/// The names of our annotations, for a message.
pub fn known() -> String {
    TABLE.iter().map(|row| row.field).collect::<Vec<_>>().join(", ")
}

/// Enough of a value to find it again.
pub(crate) fn excerpt(value: &str) -> String {
    value.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
