//! From an intent to the Envoy resources that serve it. Knows ports, traffic settings and names; knows not who else exists.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use nave_api::tcp_load_balancer::{
    Balancing, BalancingPolicy, Ejection, HealthCheck, Protocol, ProxyProtocol, TCPLoadBalancerSpec, Timeouts, Traffic,
    bounds,
};
use nave_xds::model;
use nave_xds::resource::{Key as ResourceKey, Resource};
use nave_xds::translate;

use crate::Key;
use crate::pool::is_everywhere;
use crate::problem::Problem;
use crate::targets::{Sockets, Targets};

/// The settings of a load balancer's traffic, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    source_ranges: Vec<IpNet>,
    balancing: model::Balancing,
    proxy_protocol: Option<model::ProxyProtocol>,
    health_check: Option<model::HealthCheck>,
    health_port: Option<u16>,
    ejection: Option<model::Ejection>,
    connect: Duration,
    idle: Duration,
    udp_session: Duration,
    max_connections: u32,
    pub max_sessions: u32,
}

/// What a spec says of its traffic, and what of that is wrong.
pub(crate) fn traffic(spec: &TCPLoadBalancerSpec) -> (Settled, Vec<Problem>) {
    let mut problems = Vec::new();
    let none = Traffic::default();
    let said = spec.traffic.as_ref().unwrap_or(&none);
    let Traffic { source_ranges, balancing, proxy_protocol, health_check, ejection, timeouts, max_connections } = said;
    let Timeouts { connect, idle, udp_session } = timeouts.clone().unwrap_or_default();
    let mut read = |field, value: Option<&nave_api::Duration>, default| length(field, value, default, &mut problems);
    let settled = Settled {
        connect: read("timeouts.connect", connect.as_ref(), CONNECT).max(SHORTEST),
        idle: read("timeouts.idle", idle.as_ref(), IDLE),
        udp_session: bounds::UDP_SESSION.nearest(read("timeouts.udpSession", udp_session.as_ref(), UDP_SESSION)),
        ejection: ejected(ejection.as_ref(), &mut read),
        health_check: health_check.as_ref().map(|check| checked(check, &mut read)),
        health_port: health_check.as_ref().and_then(|check| check.http.as_ref()).and_then(|http| http.port),
        source_ranges: networks(source_ranges, &mut problems),
        balancing: policy(balancing.unwrap_or_default()),
        proxy_protocol: match proxy_protocol {
            ProxyProtocol::None => None,
            ProxyProtocol::V1 => Some(model::ProxyProtocol::V1),
            ProxyProtocol::V2 => Some(model::ProxyProtocol::V2),
        },
        max_connections: max_connections.unwrap_or(bounds::CONNECTIONS).clamp(1, bounds::CONNECTIONS_AT_MOST),
        max_sessions: max_connections.unwrap_or(bounds::SESSIONS).clamp(1, bounds::CONNECTIONS_AT_MOST),
    };
    let udp: Vec<u16> = spec.ports.iter().filter(|p| p.protocol == Protocol::Udp).map(|p| p.port).collect();
    if settled.proxy_protocol.is_some() && !udp.is_empty() {
        problems.push(Problem::ProxyProtocolOnUdp { ports: udp });
    }
    problems.sort();
    (settled, problems)
}

const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_hours(1);
const UDP_SESSION: Duration = Duration::from_mins(1);
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
const EJECTION: Duration = Duration::from_secs(1);
const EJECTED_AFTER: u32 = 3;
/// Where Envoy wants more than nothing.
const SHORTEST: Duration = Duration::from_millis(1);

fn length(
    field: &'static str,
    value: Option<&nave_api::Duration>,
    default: Duration,
    problems: &mut Vec<Problem>,
) -> Duration {
    let Some(value) = value else { return default };
    value.parse().unwrap_or_else(|_| {
        problems.push(Problem::InvalidDuration { field, value: value.0.clone() });
        default
    })
}

type Read<'a> = dyn FnMut(&'static str, Option<&nave_api::Duration>, Duration) -> Duration + 'a;

fn ejected(said: Option<&Ejection>, read: &mut Read<'_>) -> Option<model::Ejection> {
    let none = Ejection::default();
    let Ejection { consecutive_failures, base_time } = said.unwrap_or(&none);
    let consecutive_failures = consecutive_failures.unwrap_or(EJECTED_AFTER);
    let base_time = read("ejection.baseTime", base_time.as_ref(), EJECTION).max(SHORTEST);
    (consecutive_failures > 0).then_some(model::Ejection { consecutive_failures, base_time })
}

fn checked(said: &HealthCheck, read: &mut Read<'_>) -> model::HealthCheck {
    let HealthCheck { tcp: _, http, interval, timeout, unhealthy_after, healthy_after } = said;
    let probe = http.as_ref().map_or(model::Probe::Tcp, |http| {
        let path = http.path.as_deref().unwrap_or("/healthz");
        model::Probe::Http { path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") } }
    });
    model::HealthCheck {
        probe,
        interval: bounds::CHECK_INTERVAL.nearest(read("healthCheck.interval", interval.as_ref(), CHECK_INTERVAL)),
        timeout: bounds::CHECK_TIMEOUT.nearest(read("healthCheck.timeout", timeout.as_ref(), CHECK_TIMEOUT)),
        unhealthy_after: unhealthy_after.unwrap_or(3),
        healthy_after: healthy_after.unwrap_or(1),
    }
}

fn networks(texts: &[String], problems: &mut Vec<Problem>) -> Vec<IpNet> {
    let mut networks = BTreeSet::new();
    let mut bad = Vec::new();
    for text in texts {
        match text.trim().parse::<IpNet>() {
            Ok(network) => {
                networks.insert(network.trunc());
            }
            Err(_) => bad.push(text.clone()),
        }
    }
    let none_left = networks.is_empty();
    problems.extend(bad.into_iter().map(|value| Problem::InvalidSourceRange { value, none_left }));
    networks.into_iter().collect()
}

fn policy(said: Balancing) -> model::Balancing {
    match said.policy {
        BalancingPolicy::RoundRobin => model::Balancing::RoundRobin,
        BalancingPolicy::LeastRequest => model::Balancing::LeastRequest,
        BalancingPolicy::Random => model::Balancing::Random,
        BalancingPolicy::Maglev => model::Balancing::Maglev,
    }
}

/// A port as clients reach it on one address: (address, protocol, port there) and the port of the spec that it stands for.
pub(crate) type Opening = (IpAddr, (Protocol, u16), u16);

/// The fragment: one cluster and its endpoints per port that is open somewhere, one listener per opening. Sorted.
/// `elsewhere` are networks in which the nodes have addresses for others: who listens on every address does not answer there.
/// `sessions` is what each UDP port may have, where that is not what the spec asks for.
pub(crate) fn fragment(
    key: &Key,
    settled: &Settled,
    targets: &Targets,
    openings: &[Opening],
    elsewhere: &[IpNet],
    sessions: &BTreeMap<u16, u32>,
) -> Vec<Resource> {
    let mut fragment: BTreeMap<ResourceKey, Resource> = BTreeMap::new();
    let mut put = |resource: Resource| fragment.insert(resource.key(), resource);
    for (address, (protocol, port), public) in openings {
        let name = cluster_name(key, *protocol, *port);
        put(translate::listener(&listener(key, settled, &name, (*address, *protocol, *public), elsewhere)));
        if !targets.unknown {
            let Sockets { ready, terminating } = targets.sockets((*protocol, *port));
            let endpoints = model::Endpoints {
                cluster: name.clone(),
                addresses: ready.into_iter().collect(),
                fallback: terminating.into_iter().collect(),
                is_checked: settled.health_check.is_some(),
                health_port: settled.health_port,
            };
            put(translate::endpoints(&endpoints));
        }
        put(translate::cluster(&cluster(settled, name, *protocol, sessions.get(port).copied())));
    }
    fragment.into_values().collect()
}

fn listener(
    key: &Key,
    settled: &Settled,
    cluster: &str,
    at: (IpAddr, Protocol, u16),
    elsewhere: &[IpNet],
) -> model::Listener {
    let (address, protocol, port) = at;
    model::Listener {
        bind: model::Bind { protocol: transport(protocol), address, port },
        cluster: cluster.to_owned(),
        stat_prefix: stat_prefix(key),
        idle_timeout: match protocol {
            Protocol::Tcp => settled.idle,
            Protocol::Udp => settled.udp_session,
        },
        source_ranges: settled.source_ranges.clone(),
        not_on: if address.is_unspecified() { elsewhere.to_vec() } else { Vec::new() },
    }
}

fn cluster(settled: &Settled, name: String, protocol: Protocol, sessions: Option<u32>) -> model::Cluster {
    model::Cluster {
        name,
        connect_timeout: settled.connect,
        balancing: settled.balancing,
        max_connections: match protocol {
            Protocol::Tcp => settled.max_connections,
            Protocol::Udp => sessions.unwrap_or(settled.max_sessions),
        },
        proxy_protocol: match protocol {
            Protocol::Tcp => settled.proxy_protocol,
            Protocol::Udp => None,
        },
        health_check: settled.health_check.clone(),
        ejection: settled.ejection,
    }
}

fn transport(protocol: Protocol) -> model::Protocol {
    match protocol {
        Protocol::Tcp => model::Protocol::Tcp,
        Protocol::Udp => model::Protocol::Udp,
    }
}

/// The name of the cluster, and of the endpoints, of a port.
pub(crate) fn cluster_name(key: &Key, protocol: Protocol, port: u16) -> String {
    format!("{}{}/{port}", cluster_prefix(key), transport(protocol))
}

/// What the names of a load balancer's clusters, and of their endpoints, begin with.
pub(crate) fn cluster_prefix(key: &Key) -> String {
    format!("{key}/")
}

/// The name of the listener that is bound for a port of an address that is recorded; on every address of the nodes it is one of all.
pub(crate) fn listener_name(address: IpAddr, protocol: Protocol, port: u16) -> String {
    let address = if is_everywhere(address) { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { address };
    model::Bind { protocol: transport(protocol), address, port }.to_string()
}

/// What the names of all listeners of a protocol on an address that is recorded begin with.
pub(crate) fn listener_prefix(address: IpAddr, protocol: Protocol) -> String {
    let mut name = listener_name(address, protocol, 0);
    name.pop();
    name
}

/// The prefix of the statistics that Envoy keeps for a load balancer: its namespace and name.
pub fn stat_prefix(key: &Key) -> String {
    key.to_string()
}

/// The load balancer that a prefix of statistics, or a cluster's name, belongs to.
pub fn of_stat_prefix(prefix: &str) -> Option<Key> {
    let mut parts = prefix.split('/');
    let (namespace, name) = (parts.next()?, parts.next()?);
    (!namespace.is_empty() && !name.is_empty()).then(|| Key::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_xds::resource::ResourceType;
    use serde_json::json;

    fn fragment_of(traffic: &serde_json::Value) -> Vec<Resource> {
        let spec: TCPLoadBalancerSpec = serde_json::from_value(json!({
            "ports": [{"port": 80, "backendPort": 30080}, {"port": 53, "protocol": "UDP", "backendPort": 30053}],
            "backends": {"nodes": {"nodeSet": "default"}}, "traffic": traffic,
        }))
        .unwrap();
        let address = "203.0.113.7".parse().unwrap();
        let openings = [(address, (Protocol::Tcp, 80), 80), (address, (Protocol::Udp, 53), 53)];
        fragment(
            &Key::new("tenant-shop", "web"),
            &traffic_of(&spec),
            &Targets::default(),
            &openings,
            &[],
            &BTreeMap::new(),
        )
    }

    fn traffic_of(spec: &TCPLoadBalancerSpec) -> Settled {
        super::traffic(spec).0
    }

    /// What is stored may be older than the bounds, or written where no schema looked.
    #[test]
    fn g1_what_is_stored_beyond_a_bound_goes_on_with_the_nearest_one() {
        let settled = |traffic: serde_json::Value| {
            let spec =
                json!({"ports": [{"port": 80, "backendPort": 1}], "backends": {"endpoints": []}, "traffic": traffic});
            super::traffic(&serde_json::from_value(spec).unwrap())
        };
        let (wild, problems) = settled(json!({
            "timeouts": {"udpSession": "8760h", "idle": "0s"}, "maxConnections": u32::MAX,
            "healthCheck": {"tcp": {}, "interval": "1ms", "timeout": "8760h"},
        }));
        let check = wild.health_check.unwrap();
        assert_eq!((wild.udp_session, wild.idle), (Duration::from_hours(1), Duration::ZERO));
        assert_eq!((wild.max_connections, wild.max_sessions), (200_000, 200_000));
        assert_eq!((check.interval, check.timeout), (Duration::from_secs(1), Duration::from_mins(1)));
        assert_eq!(problems, []);
        let (plain, _) = settled(json!({}));
        assert_eq!((plain.max_connections, plain.max_sessions), (10_000, 1_000));
    }

    /// A listener that changes ends connections; a cluster that changes does not.
    #[test]
    fn n_session_affinity_and_all_that_concerns_backends_change_no_listener() {
        let edits = [
            json!({"balancing": {"policy": "Maglev"}}),
            json!({"maxConnections": 7}),
            json!({"timeouts": {"connect": "1s"}}),
            json!({"healthCheck": {"tcp": {}}}),
            json!({"ejection": {"consecutiveFailures": 0}}),
            json!({"proxyProtocol": "V2"}),
        ];
        let before = fragment_of(&json!({}));
        for edit in edits {
            let after = fragment_of(&edit);
            let changed: Vec<ResourceType> =
                before.iter().zip(&after).filter(|(b, a)| b != a).map(|(b, _)| b.kind()).collect();
            assert!(
                !changed.is_empty() && changed.iter().all(|kind| *kind == ResourceType::Cluster),
                "{edit}: {changed:?}"
            );
        }
    }
}
