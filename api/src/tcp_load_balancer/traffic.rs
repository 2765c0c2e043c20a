//! How the traffic of a TCPLoadBalancer is treated: who may connect, which backend gets it, and how long to wait. Knows forms
//! and defaults; knows no address.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use crate::{Duration, limits, rules};

/// How the traffic is treated.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Who may connect, in CIDR notation; everybody else is refused. Default: everybody.
    #[serde(default)]
    #[schemars(length(max = limits::SOURCE_RANGES), inner(length(max = 49)))]
    #[x_kube(validation = rules::networks("sourceRanges", "198.51.100.0/24"))]
    pub source_ranges: Vec<String>,
    /// Which backend gets a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancing: Option<Balancing>,
    /// PROXY protocol towards the backend: None (default), V1, V2. On a UDP port a condition.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Active health checks. Default: none; readiness comes from the spoke, and failing backends are ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// When a failing backend is left out for a while. Default: after 3 failures, for 1 s, and longer while it goes on failing. The last
    /// backend that is left never is. With a healthCheck none is: a success of the check brings a backend back at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// How long to wait for what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Connections at once on each Envoy and TCP port, sessions at once on each Envoy and UDP port: 1 to 200000. Default: 10000, and 1000 for
    /// UDP. A stored one beyond that counts as 200000. A UDP port gets fewer where the edge nodes' descriptors do not suffice:
    /// `status.sessions` says how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::CONNECTIONS_AT_MOST))]
    pub max_connections: Option<u32>,
}

/// Which backend gets a connection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Balancing {
    /// RoundRobin (default), LeastRequest, Random, or Maglev: by the client's address.
    #[serde(default)]
    pub policy: BalancingPolicy,
}

/// Which backend gets a connection.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BalancingPolicy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The less busy of two drawn.
    LeastRequest,
    /// Any.
    Random,
    /// Always the same for the same client address, as long as the backends stay.
    Maglev,
}

/// PROXY protocol towards the backend.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Off.
    #[default]
    None,
    /// The text form.
    V1,
    /// The binary form.
    V2,
}

/// Active health checks; `tcp` or `http`, or neither for TCP.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.tcp) && has(self.http))").message("healthCheck is tcp or http, not both"))]
pub struct HealthCheck {
    /// A connection is a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// A 200 is a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// Time between checks, 1s to 1h. Default: 2s. A stored one beyond that counts as the nearest bound. A backend that fails its checks is checked once a second, where this is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = bounds::CHECK_INTERVAL.rule("interval"))]
    pub interval: Option<Duration>,
    /// Time for an answer, 1ms to 1m. Default: 1s. A stored one beyond that counts as the nearest bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = bounds::CHECK_TIMEOUT.rule("timeout"))]
    pub timeout: Option<Duration>,
    /// Failures in a row that take a backend out. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_after: Option<u32>,
    /// Successes in a row that take it in again. Default: 1. For a backend that is new the first check decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_after: Option<u32>,
}

/// A check by connecting.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpCheck {}

/// A check by an HTTP GET.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// The path. Default: /healthz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute("path"))]
    pub path: Option<String>,
    /// The port, where it is not the backend's. Default: the backend's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// When a failing backend is left out for a while.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Ejection {
    /// Failed connections in a row; 0 turns ejection off. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = limits::COUNT))]
    pub consecutive_failures: Option<u32>,
    /// How long the first time. Each time longer by as much, where the backend fails again within a second of its return, and at most
    /// 30s, or this where it is longer. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::some_time("baseTime"))]
    pub base_time: Option<Duration>,
}

/// How long to wait for what.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// To connect to a backend. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::some_time("connect"))]
    pub connect: Option<Duration>,
    /// Without a byte in either direction, before a TCP connection is closed; 0s: never. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// Without a datagram in either direction, before a UDP session is forgotten, 1s to 1h. Default: 60s. A stored one beyond that counts
    /// as the nearest bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = bounds::UDP_SESSION.rule("udpSession"))]
    pub udp_session: Option<Duration>,
}
