//! A cluster as Envoy's Cluster: endpoints over ADS, limits always set. Knows no endpoint.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::{
    self as pb, CircuitBreakers, OutlierDetection, circuit_breakers::Thresholds, cluster::ClusterDiscoveryType,
    cluster::CommonLbConfig, cluster::DiscoveryType, cluster::EdsClusterConfig, cluster::LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::{
    self as core, AggregatedConfigSource, ApiVersion, ConfigSource, ProxyProtocolConfig, TransportSocket,
    config_source::ConfigSourceSpecifier, health_check, proxy_protocol_config, transport_socket,
};
use envoy_types::pb::envoy::extensions::transport_sockets::{
    proxy_protocol::v3::ProxyProtocolUpstreamTransport, raw_buffer::v3::RawBuffer,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::BoolValue;
use prost::{Message, Name};

use super::{BUFFER_LIMIT, any, duration, number};
use crate::model::{Balancing, Cluster, Ejection, HealthCheck, Probe, ProxyProtocol};

/// What Envoy would never reach with raw connections; the limit that counts is `max_connections`.
const UNLIMITED: u32 = 1_000_000_000;

pub(super) fn message(cluster: &Cluster) -> pb::Cluster {
    let Cluster { name, connect_timeout, balancing, max_connections, proxy_protocol, health_check, ejection } = cluster;
    pb::Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), service_name: String::new() }),
        connect_timeout: Some(duration(*connect_timeout)),
        per_connection_buffer_limit_bytes: number(BUFFER_LIMIT),
        lb_policy: policy(*balancing).into(),
        health_checks: health_check.iter().map(checked).collect(),
        // Otherwise Envoy goes on with an endpoint that was taken out for as long as its checks succeed. Which endpoint stays until
        // its successor serves is decided where that is known: in the spoke.
        ignore_health_on_host_removal: health_check.is_some(),
        circuit_breakers: Some(CircuitBreakers { thresholds: vec![limits(*max_connections)], ..Default::default() }),
        outlier_detection: ejection.as_ref().filter(|_| health_check.is_none()).map(ejected),
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: Some(panic_below(health_check.as_ref())),
            update_merge_window: Some(duration(MERGED)),
            ..Default::default()
        }),
        transport_socket: proxy_protocol.map(announcing),
        ..Default::default()
    }
}

/// So long Envoy may collect what it learns of endpoints before its workers act on it. By default it takes a second: an endpoint that
/// is ejected soon after its return gets connections for that long.
const MERGED: Duration = Duration::from_millis(10);

/// The share of usable endpoints, in percent, below which Envoy uses all of them. With checks: never, an endpoint that is known to be
/// dead gets no connection, even when most are dead. Without: where none is left at all. Ejection leaves one in a hundred, but when that
/// one is removed, those that were ejected are all there is, and each connection tries them.
fn panic_below(check: Option<&HealthCheck>) -> Percent {
    Percent { value: if check.is_some() { 0.0 } else { 1.0 } }
}

fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn policy(balancing: Balancing) -> LbPolicy {
    match balancing {
        Balancing::RoundRobin => LbPolicy::RoundRobin,
        Balancing::LeastRequest => LbPolicy::LeastRequest,
        Balancing::Random => LbPolicy::Random,
        Balancing::Maglev => LbPolicy::Maglev,
    }
}

fn limits(max_connections: u32) -> Thresholds {
    Thresholds {
        max_connections: number(max_connections),
        max_pending_requests: number(UNLIMITED),
        max_requests: number(UNLIMITED),
        max_retries: number(UNLIMITED),
        ..Default::default()
    }
}

/// Without one Envoy names the cluster, which is no host name: servers that mind answer 400, kube-proxy among them.
const CHECKED_HOST: &str = "health-check.nave.dev";

fn checked(check: &HealthCheck) -> core::HealthCheck {
    let HealthCheck { probe, interval, timeout, unhealthy_after, healthy_after } = check;
    core::HealthCheck {
        interval: Some(duration(*interval)),
        timeout: Some(duration(*timeout)),
        // A new endpoint is probed at once, but perhaps before its node knows of it: the next probe comes soon.
        unhealthy_interval: Some(duration(*interval.min(&SOON))),
        // By default Envoy probes a cluster without traffic once a minute; its first client would pay for that.
        no_traffic_interval: Some(duration(*interval.min(&SOON))),
        no_traffic_healthy_interval: Some(duration(*interval)),
        // Otherwise every endpoint would hold a descriptor of Envoy between two probes.
        reuse_connection: Some(BoolValue { value: false }),
        unhealthy_threshold: number(*unhealthy_after),
        healthy_threshold: number(*healthy_after),
        interval_jitter_percent: 10,
        health_checker: Some(match probe {
            Probe::Tcp => health_check::HealthChecker::TcpHealthCheck(health_check::TcpHealthCheck::default()),
            Probe::Http { path } => health_check::HealthChecker::HttpHealthCheck(health_check::HttpHealthCheck {
                path: path.clone(),
                host: CHECKED_HOST.to_owned(),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// How long an endpoint that fails waits for its next probe, at most.
const SOON: Duration = Duration::from_secs(1);
/// How long an ejection lasts at most, unless the first one is to last longer.
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// For connections Envoy counts a failed connect as a gateway failure and as a 5xx: one of the two is enforced.
///
/// Of any number of endpoints at most 99 in a hundred are ejected, hence never the last one. Once a second Envoy looks which ejections
/// are over, and takes a step back from the longer ones where an endpoint has been in use for a second.
fn ejected(ejection: &Ejection) -> OutlierDetection {
    let Ejection { consecutive_failures, base_time } = ejection;
    OutlierDetection {
        consecutive_5xx: number(*consecutive_failures),
        enforcing_consecutive_5xx: number(100),
        enforcing_consecutive_gateway_failure: number(0),
        enforcing_success_rate: number(0),
        base_ejection_time: Some(duration(*base_time)),
        max_ejection_time: Some(duration(LONGEST_EJECTION.max(*base_time))),
        max_ejection_percent: number(99),
        interval: Some(duration(Duration::from_secs(1))),
        ..Default::default()
    }
}

fn announcing(version: ProxyProtocol) -> TransportSocket {
    let version = match version {
        ProxyProtocol::V1 => proxy_protocol_config::Version::V1,
        ProxyProtocol::V2 => proxy_protocol_config::Version::V2,
    };
    let inner = transport_socket("envoy.transport_sockets.raw_buffer", &RawBuffer {});
    transport_socket(
        "envoy.transport_sockets.upstream_proxy_protocol",
        &ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig { version: version.into(), ..Default::default() }),
            transport_socket: Some(inner),
            ..Default::default()
        },
    )
}

fn transport_socket<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket { name: name.to_owned(), config_type: Some(transport_socket::ConfigType::TypedConfig(any(config))) }
}
