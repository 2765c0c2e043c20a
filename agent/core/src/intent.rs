//! A Service as an intent of the hub. Knows Services, their annotations and the nodes that serve by themselves; knows
//! nothing of what the hub makes of it.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;
use nave_api::tcp_load_balancer::{
    AddressRequest, Balancing, BalancingPolicy, Ejection, FamilyPolicy, HealthCheck, HttpCheck, IpFamily, Origin,
    TcpCheck, Timeouts, Traffic,
};
use nave_api::{TCPLoadBalancer, TCPLoadBalancerSpec, names};

use crate::annotations::{self, Asked, Check};
use crate::backends::{self, Mode, Ways};
use crate::{Key, Problem, ownership, ports};

/// The kind of the origin, and the first part of what an intent's name is made of.
pub const KIND: &str = "Service";
/// Where kube-proxy answers whether a node has ready endpoints of a Service.
const LOCAL_CHECK: &str = "/healthz";
/// A network in which nobody is: what stays of source ranges that are all bad.
const NOBODY: &str = "255.255.255.255/32";

/// The intent of a Service, or `None` when nothing of it can be served; and what of it cannot.
pub fn intent(service: &Service, mode: Mode, ways: &Ways) -> (Option<TCPLoadBalancer>, Vec<Problem>) {
    let (ports, mut problems) = ports::ports(service, mode);
    let (asked, more) = annotations::read(service.annotations());
    problems.extend(more);
    let Some(spec) = &service.spec else { return (None, problems) };
    let address = address(spec, &asked, &mut problems);
    let traffic = traffic(spec, mode, &asked, &mut problems);
    if ports.is_empty() {
        return (None, problems);
    }
    if mode == Mode::Provider && !ownership::is_foreign(service) {
        problems.push(Problem::NoCloud);
    }
    let wanted = TCPLoadBalancerSpec {
        origin: Some(origin(service)),
        ports,
        backends: backends::backends(service, mode, is_local(service), ways),
        address: (address != AddressRequest::default()).then_some(address),
        traffic: (traffic != Traffic::default()).then_some(traffic),
    };
    let mut intent = TCPLoadBalancer::new(&name(&Key::of(service)), wanted);
    let uid = service.uid().unwrap_or_default();
    intent.metadata.labels = Some([(names::ORIGIN_UID_LABEL.to_owned(), uid)].into());
    (Some(intent), problems)
}

/// The intent's name in the hub.
pub fn name(service: &Key) -> String {
    names::intent_name(KIND, &service.namespace, &service.name)
}

/// The Service that an object of the hub stands for, when we made it: its name follows from its origin, and it has our
/// label. What people made by hand in the tenant's namespace is left alone.
pub fn subject(intent: &TCPLoadBalancer) -> Option<Key> {
    let Origin { kind, namespace, name, uid: _ } = intent.spec.origin.clone()?;
    let key = Key { namespace, name };
    let ours = kind == KIND && intent.labels().contains_key(names::ORIGIN_UID_LABEL);
    (ours && self::name(&key) == intent.name_any()).then_some(key)
}

/// Whether only nodes with endpoints of the Service get its traffic.
pub fn is_local(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.external_traffic_policy.as_deref() == Some("Local"))
}

fn origin(service: &Service) -> Origin {
    let Key { namespace, name } = Key::of(service);
    Origin { kind: KIND.to_owned(), namespace, name, uid: service.uid().unwrap_or_default() }
}

fn address(spec: &ServiceSpec, asked: &Asked, problems: &mut Vec<Problem>) -> AddressRequest {
    let requested = match &asked.addresses {
        Some(addresses) => addresses.clone(),
        None => requested(spec, problems),
    };
    let written = match spec.ip_family_policy.as_deref() {
        Some("PreferDualStack") => Some(FamilyPolicy::PreferDualStack),
        Some("RequireDualStack") => Some(FamilyPolicy::RequireDualStack),
        Some(_) | None => None,
    };
    AddressRequest {
        pool: asked.pool.clone(),
        requested: requested.iter().map(IpAddr::to_string).collect(),
        families: asked.families.clone().unwrap_or_else(|| families(spec)),
        family_policy: asked.family_policy.or(written),
    }
}

/// Each once: the hub takes no family twice.
fn families(spec: &ServiceSpec) -> Vec<IpFamily> {
    let mut families = Vec::new();
    for family in spec.ip_families.iter().flatten().filter_map(|text| family(text)) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

fn family(text: &str) -> Option<IpFamily> {
    match text {
        "IPv4" => Some(IpFamily::IPv4),
        "IPv6" => Some(IpFamily::IPv6),
        _ => None,
    }
}

/// `loadBalancerIP`, else `externalIPs`: the first of each family.
fn requested(spec: &ServiceSpec, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    let one = spec.load_balancer_ip.iter().filter(|text| !text.is_empty()).map(|text| ("spec.loadBalancerIP", text));
    let many = spec.external_ips.iter().flatten().map(|text| ("spec.externalIPs", text));
    let written: Vec<_> = one.collect();
    let written = if written.is_empty() { many.collect() } else { written };
    let mut taken: Vec<IpAddr> = Vec::new();
    for (field, text) in written {
        match text.parse::<IpAddr>() {
            Ok(address) if taken.iter().all(|other| other.is_ipv4() != address.is_ipv4()) => taken.push(address),
            Ok(_) | Err(_) => problems.push(Problem::InvalidAddress { field, value: text.clone() }),
        }
    }
    taken
}

fn traffic(spec: &ServiceSpec, mode: Mode, asked: &Asked, problems: &mut Vec<Problem>) -> Traffic {
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then_some(BalancingPolicy::Maglev);
    let timeouts = Timeouts {
        connect: asked.connect_timeout.clone(),
        idle: asked.idle_timeout.clone(),
        udp_session: asked.udp_session_timeout.clone(),
    };
    let ejection =
        Ejection { consecutive_failures: asked.ejection_failures, base_time: asked.ejection_base_time.clone() };
    Traffic {
        source_ranges: source_ranges(spec, asked, problems),
        balancing: asked.balancing.or(affinity).map(|policy| Balancing { policy }),
        proxy_protocol: asked.proxy_protocol.unwrap_or_default(),
        health_check: health_check(spec, mode, asked, problems),
        ejection: (ejection != Ejection::default()).then_some(ejection),
        timeouts: (timeouts != Timeouts::default()).then_some(timeouts),
        max_connections: asked.max_connections,
    }
}

/// A range that does not parse is left out. When none remains of those that were asked for, nobody may connect: who
/// meant to close a door and misspelled it does not find it open.
fn source_ranges(spec: &ServiceSpec, asked: &Asked, problems: &mut Vec<Problem>) -> Vec<String> {
    let written: Vec<&String> = spec.load_balancer_source_ranges.iter().flatten().collect();
    let ranges: Vec<IpNet> = match &asked.source_ranges {
        Some(ranges) => ranges.clone(),
        None if written.is_empty() => return Vec::new(),
        None => parse_ranges(&written, problems),
    };
    if ranges.is_empty() { vec![NOBODY.to_owned()] } else { ranges.iter().map(IpNet::to_string).collect() }
}

fn parse_ranges(written: &[&String], problems: &mut Vec<Problem>) -> Vec<IpNet> {
    let mut ranges = Vec::new();
    for text in written {
        match text.trim().parse::<IpNet>() {
            Ok(network) if ranges.len() < annotations::RANGES => ranges.push(network.trunc()),
            Ok(_) | Err(_) => problems.push(Problem::InvalidSourceRange { value: (*text).clone() }),
        }
    }
    ranges
}

/// What the annotations ask for; without them, under the policy Local, kube-proxy's own answer on `healthCheckNodePort`.
fn health_check(spec: &ServiceSpec, mode: Mode, asked: &Asked, problems: &mut Vec<Problem>) -> Option<HealthCheck> {
    let local_port = || {
        let local = mode == Mode::NodePort && spec.external_traffic_policy.as_deref() == Some("Local");
        spec.health_check_node_port.filter(|_| local).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    };
    let (tcp, http) = match (asked.health_check, local_port()) {
        (Some(Check::None), _) => return None,
        (Some(Check::Tcp), _) => (Some(TcpCheck {}), None),
        (Some(Check::Http), _) => {
            (None, Some(HttpCheck { path: asked.health_check_path.clone(), port: asked.health_check_port }))
        }
        (None, Some(port)) => (None, Some(HttpCheck { path: Some(LOCAL_CHECK.to_owned()), port: Some(port) })),
        (None, None) => (None, None),
    };
    let of_http = asked.health_check == Some(Check::Http);
    problems.extend(idle(asked, of_http, tcp.is_some() || http.is_some()));
    if tcp.is_none() && http.is_none() {
        return None;
    }
    Some(HealthCheck {
        tcp,
        http,
        interval: asked.health_check_interval.clone(),
        timeout: asked.health_check_timeout.clone(),
        unhealthy_after: asked.unhealthy_after,
        healthy_after: asked.healthy_after,
    })
}

/// Annotations that say how to check what is not checked, or not so.
fn idle(asked: &Asked, of_http: bool, of_any: bool) -> impl Iterator<Item = Problem> {
    const HTTP: &str = "nave.dev/health-check: HTTP";
    const ANY: &str = "nave.dev/health-check: TCP or HTTP";
    [
        ("health-check-path", asked.health_check_path.is_some() && !of_http, HTTP),
        ("health-check-port", asked.health_check_port.is_some() && !of_http, HTTP),
        ("health-check-interval", asked.health_check_interval.is_some() && !of_any, ANY),
        ("health-check-timeout", asked.health_check_timeout.is_some() && !of_any, ANY),
        ("unhealthy-after", asked.unhealthy_after.is_some() && !of_any, ANY),
        ("healthy-after", asked.healthy_after.is_some() && !of_any, ANY),
    ]
    .into_iter()
    .filter_map(|(field, idle, needs)| idle.then_some(Problem::NoEffect { field, needs }))
}
