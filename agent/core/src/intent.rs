//! A Service as an intent of the hub. Knows Services, their annotations and the nodes that serve by themselves; knows
//! nothing of what the hub makes of it.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;
use nave_api::limits::SOURCE_RANGES;
use nave_api::tcp_load_balancer::{
    AddressRequest, Backends, Balancing, BalancingPolicy, Ejection, HealthCheck, HttpCheck, Origin, TcpCheck, Timeouts,
    Traffic,
};
use nave_api::{TCPLoadBalancer, TCPLoadBalancerSpec, names};

use crate::annotations::{self, Asked, Check};
use crate::backends::{self, Mode, Ways};
use crate::{Key, Problem, ownership, ports, request};

/// The kind of the origin, and the first part of what an intent's name is made of.
pub const KIND: &str = "Service";
/// Where kube-proxy answers whether a node has ready endpoints of a Service.
const LOCAL_CHECK: &str = "/healthz";
/// A network in which nobody is: what stays of source ranges that are all bad.
const NOBODY: &str = "255.255.255.255/32";

/// The intent of a Service, or `None` when nothing of it can be served; and what of it cannot. `present`: what stands for it in
/// the hub now. Its addresses stay while the Service's own request cannot be read.
pub fn intent(
    service: &Service,
    mode: Mode,
    ways: &Ways,
    present: Option<&TCPLoadBalancerSpec>,
) -> (Option<TCPLoadBalancer>, Vec<Problem>) {
    let (ports, mut problems) = ports::ports(service, mode);
    let (asked, more) = annotations::read(service.annotations());
    problems.extend(more);
    let Some(spec) = &service.spec else { return (None, problems) };
    let readable = request::request(spec, &asked, &mut problems);
    let traffic = traffic(spec, mode, &asked, &mut problems);
    let kept = || present.map(|present| present.address.clone().unwrap_or_default());
    let Some(address) = readable.or_else(kept).filter(|_| !ports.is_empty()) else { return (None, problems) };
    if mode == Mode::Provider && !ownership::is_foreign(service) {
        problems.push(Problem::NoCloud);
    }
    let families = request::known_families(spec);
    let (mut backends, more) = backends::backends(service, mode, (&ports, &families), ways);
    if let Backends::Nodes(nodes) = &mut backends {
        nodes.subset = asked.node_subset;
    }
    problems.extend(more);
    let wanted = TCPLoadBalancerSpec {
        origin: Some(origin(service)),
        ports,
        backends,
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

fn origin(service: &Service) -> Origin {
    let Key { namespace, name } = Key::of(service);
    Origin { kind: KIND.to_owned(), namespace, name, uid: service.uid().unwrap_or_default() }
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
            Ok(network) => ranges.push(annotations::plain(network)),
            Err(_) => problems.push(Problem::InvalidSourceRange { value: annotations::excerpt(text) }),
        }
    }
    if ranges.len() > SOURCE_RANGES {
        problems.push(Problem::TooManySourceRanges { served: SOURCE_RANGES, present: ranges.len() });
        ranges.truncate(SOURCE_RANGES);
    }
    ranges
}

/// What the annotations ask for; without them, under the policy Local, kube-proxy's own answer on `healthCheckNodePort`.
fn health_check(spec: &ServiceSpec, mode: Mode, asked: &Asked, problems: &mut Vec<Problem>) -> Option<HealthCheck> {
    let local_port = || {
        let local = mode == Mode::NodePort && spec.external_traffic_policy.as_deref() == Some("Local");
        spec.health_check_node_port.filter(|_| local).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    };
    let by_kube_proxy = asked.health_check.is_none();
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
        // kube-proxy knows at once and for sure: one answer is enough.
        healthy_after: asked.healthy_after.or(by_kube_proxy.then_some(1)),
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
