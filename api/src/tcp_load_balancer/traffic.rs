//! How the traffic of a TCPLoadBalancer is treated: who may connect, which backend gets it, and how long to wait. Knows forms
//! and defaults; knows no address.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// When a failing backend is left out for a while. Default: after 3 failures, for 5 s and longer each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// How long to wait for what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Connections at once, on each Envoy and port. Default: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
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
    /// Time between checks. Default: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::some_time("interval"))]
    pub interval: Option<Duration>,
    /// Time for an answer. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::some_time("timeout"))]
    pub timeout: Option<Duration>,
    /// Failures in a row that take a backend out. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_after: Option<u32>,
    /// Successes in a row that take it in again. Default: 2.
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
    pub consecutive_failures: Option<u32>,
    /// How long the first time; it grows with each time. Default: 5s.
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
    /// Without a datagram in either direction, before a UDP session is forgotten. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::some_time("udpSession"))]
    pub udp_session: Option<Duration>,
}
