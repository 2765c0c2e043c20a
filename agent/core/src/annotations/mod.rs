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
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> (Asked, Vec<Problem>) {
        read(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn every_annotation_is_read() {
        let (asked, problems) = asked(&[
            ("nave.dev/addresses", "203.0.113.7, 2001:db8::7"),
            ("nave.dev/backends", "PodIP"),
            ("nave.dev/balancing", "Maglev"),
            ("nave.dev/connect-timeout", "250ms"),
            ("nave.dev/ejection-base-time", "5s"),
            ("nave.dev/ejection-failures", "0"),
            ("nave.dev/families", "IPv6,IPv4"),
            ("nave.dev/family-policy", "RequireDualStack"),
            ("nave.dev/health-check", "HTTP"),
            ("nave.dev/health-check-interval", "2s"),
            ("nave.dev/health-check-path", "/ready"),
            ("nave.dev/health-check-port", "8080"),
            ("nave.dev/health-check-timeout", "1s"),
            ("nave.dev/healthy-after", "2"),
            ("nave.dev/idle-timeout", "0s"),
            ("nave.dev/max-connections", "100"),
            ("nave.dev/node-subset", "0"),
            ("nave.dev/pool", "public"),
            ("nave.dev/proxy-protocol", "V2"),
            ("nave.dev/source-ranges", "198.51.100.0/24,2001:db8::/32"),
            ("nave.dev/udp-session-timeout", "1m"),
            ("nave.dev/unhealthy-after", "3"),
            ("example.com/pool", "theirs"),
        ]);
        assert_eq!((problems, asked.unreadable_request), (vec![], false));
        assert_eq!(asked.families, Some(vec![IpFamily::IPv6, IpFamily::IPv4]));
        assert_eq!((asked.health_check, asked.proxy_protocol), (Some(Check::Http), Some(ProxyProtocol::V2)));
        let unset = format!("{asked:?}").matches("None").count();
        assert_eq!(unset, 0, "{asked:?}");
    }

    #[test]
    fn the_table_is_sorted_and_names_each_field_once() {
        assert!(TABLE.windows(2).all(|pair| pair[0].field < pair[1].field));
    }

    #[test]
    fn a_bad_value_is_a_problem_that_names_what_is_accepted_and_changes_nothing() {
        let bad = [
            ("nave.dev/backends", "Pods"),
            ("nave.dev/balancing", "roundrobin"),
            ("nave.dev/connect-timeout", "0s"),
            ("nave.dev/health-check-port", "0"),
            ("nave.dev/health-check-path", "ready"),
            ("nave.dev/healthy-after", "101"),
            ("nave.dev/idle-timeout", "1 hour"),
            ("nave.dev/max-connections", "0"),
        ];
        for pair in bad {
            let (asked, problems) = asked(&[pair]);
            assert_eq!(asked, Asked::default(), "{pair:?}");
            assert!(problems[0].message().contains("accepted: "), "{problems:?}");
        }
    }

    #[test]
    fn kind_m_an_address_a_pool_or_a_family_that_cannot_be_read_is_not_no_request() {
        let bad = [
            ("nave.dev/addresses", "203.0.113.7,203.0.113.8"),
            ("nave.dev/addresses", "203.0.113.7,::ffff:203.0.113.8"),
            ("nave.dev/addresses", ""),
            ("nave.dev/families", "IPv4,IPv4"),
            ("nave.dev/family-policy", "DualStack"),
            ("nave.dev/pool", "Public"),
            ("loadbalancer/pool", "a pool"),
            ("lb.paperlb.com/config-name", "-"),
        ];
        for pair in bad {
            let (asked, problems) = asked(&[pair]);
            assert_eq!(asked, Asked { unreadable_request: true, ..Asked::default() }, "{pair:?}");
            assert!(matches!(&problems[..], [Problem::UnreadableRequest { .. }]), "{problems:?}");
        }
        let ours = ("nave.dev/pool", "ours");
        let (first, problems) = asked(&[ours, ("loadbalancer/pool", "a pool")]);
        assert!(!first.unreadable_request && first.pool.as_deref() == Some("ours"), "{first:?}");
        assert!(matches!(&problems[..], [Problem::InvalidAnnotation { .. }]), "{problems:?}");
        let (second, _) = asked(&[("loadbalancer/pool", "a pool"), ("lb.paperlb.com/config-name", "theirs")]);
        assert!(second.unreadable_request, "the first that is there counts");
    }

    #[test]
    fn kind_k_an_ipv4_address_or_network_within_ipv6_is_written_as_the_hub_takes_it() {
        let (wrapped, problems) = asked(&[
            ("nave.dev/addresses", "::ffff:203.0.113.7, 2001:db8::7"),
            ("nave.dev/source-ranges", "::ffff:198.51.100.9/120, ::ffff:198.51.100.9/90, 2001:db8::/32"),
        ]);
        assert_eq!(problems, []);
        let texts: Vec<String> = wrapped.addresses.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["203.0.113.7", "2001:db8::7"]);
        let texts: Vec<String> = wrapped.source_ranges.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["198.51.100.0/24", "::ffc0:0:0/90", "2001:db8::/32"]);
    }

    #[test]
    fn g1_a_value_beyond_a_bound_becomes_the_nearest_one_and_the_event_names_it() {
        let beyond = [
            ("nave.dev/health-check-interval", "250ms", "1s"),
            ("nave.dev/health-check-interval", "2h", "3600s"),
            ("nave.dev/health-check-timeout", "1h", "60s"),
            ("nave.dev/udp-session-timeout", "8760h", "3600s"),
            ("nave.dev/udp-session-timeout", "1ms", "1s"),
            ("nave.dev/max-connections", "200001", "200000"),
            ("nave.dev/max-connections", "4294967296", "200000"),
            ("nave.dev/max-connections", "99999999999999999999999999999999", "200000"),
        ];
        for (name, value, used) in beyond {
            let (asked, problems) = asked(&[(name, value)]);
            assert!(format!("{asked:?}").contains(used), "{name}: {value} became {asked:?}");
            assert_eq!(problems.len(), 1);
            assert_eq!(problems[0].reason(), "InvalidAnnotation");
            assert!(problems[0].message().contains(&format!("{used} is in force")), "{problems:?}");
        }
        let within = [
            ("nave.dev/udp-session-timeout", "1h"),
            ("nave.dev/health-check-interval", "1s"),
            ("nave.dev/max-connections", "200000"),
        ];
        assert_eq!(asked(&within).1, []);
        assert_eq!(
            asked(&[("nave.dev/idle-timeout", "8760h")]).1,
            [],
            "connections have a budget, however long they last"
        );
    }

    #[test]
    fn a_bad_source_range_is_left_out_and_opens_nothing() {
        let (half, problems) = asked(&[("nave.dev/source-ranges", "198.51.100.0/33,198.51.100.7/24")]);
        assert_eq!(half.source_ranges, Some(vec!["198.51.100.0/24".parse().unwrap()]));
        assert_eq!(problems.len(), 1);
        let (none, _) = asked(&[("nave.dev/source-ranges", "nobody")]);
        assert_eq!(none.source_ranges, Some(Vec::new()));
    }

    #[test]
    fn an_unknown_annotation_with_our_prefix_is_a_problem() {
        let (_, problems) = asked(&[("nave.dev/pol", "public")]);
        assert_eq!(problems, [Problem::UnknownAnnotation { name: "nave.dev/pol".into() }]);
        assert!(problems[0].message().contains("pool"));
    }
}
