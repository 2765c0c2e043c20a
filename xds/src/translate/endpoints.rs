//! Endpoints as Envoy's ClusterLoadAssignment. Knows addresses only.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, endpoint::HealthCheckConfig,
    lb_endpoint::HostIdentifier,
};

use super::{number, socket};
use crate::model::{Endpoints, Protocol};

/// No address at all gives an assignment without localities: Envoy then fails connections at once.
pub(super) fn message(endpoints: &Endpoints) -> ClusterLoadAssignment {
    let Endpoints { cluster, addresses, fallback, is_checked, health_port } = endpoints;
    let first: BTreeSet<SocketAddr> = addresses.iter().copied().collect();
    let second: BTreeSet<SocketAddr> = fallback.iter().copied().filter(|address| !first.contains(address)).collect();
    let sets = [(first, false), (second, *is_checked)].into_iter().filter(|(set, _)| !set.is_empty());
    // Priorities have no gap: where the first set is empty, the second one is the first.
    let localities = (0..).zip(sets).map(|(priority, (set, unchecked))| LocalityLbEndpoints {
        lb_endpoints: set.iter().map(|address| endpoint(*address, *health_port, unchecked)).collect(),
        priority,
        ..Default::default()
    });
    ClusterLoadAssignment { cluster_name: cluster.clone(), endpoints: localities.collect(), ..Default::default() }
}

fn endpoint(address: SocketAddr, health_port: Option<u16>, unchecked: bool) -> LbEndpoint {
    let health_check_config = (health_port.is_some() || unchecked).then(|| HealthCheckConfig {
        port_value: health_port.map_or(0, u32::from),
        disable_active_health_check: unchecked,
        ..Default::default()
    });
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            // Clusters of UDP listeners want the same: Envoy's UDP proxy opens datagram sockets by itself.
            address: Some(socket(Protocol::Tcp, address.ip(), address.port())),
            health_check_config,
            ..Default::default()
        })),
        load_balancing_weight: number(1),
        ..Default::default()
    }
}
