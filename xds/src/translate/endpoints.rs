//! Endpoints as Envoy's ClusterLoadAssignment. Knows addresses only.

use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, endpoint::HealthCheckConfig,
    lb_endpoint::HostIdentifier,
};

use super::{number, socket};
use crate::model::{Endpoints, Protocol};

/// No address at all gives an assignment without localities: Envoy then fails connections at once.
pub(super) fn message(endpoints: &Endpoints) -> ClusterLoadAssignment {
    let Endpoints { cluster, addresses, health_port } = endpoints;
    let mut addresses = addresses.clone();
    addresses.sort_unstable();
    addresses.dedup();
    let lb_endpoints: Vec<_> = addresses
        .iter()
        .map(|address| LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                // Clusters of UDP listeners want the same: Envoy's UDP proxy opens datagram sockets by itself.
                address: Some(socket(Protocol::Tcp, address.ip(), address.port())),
                health_check_config: health_port
                    .map(|port| HealthCheckConfig { port_value: u32::from(port), ..Default::default() }),
                ..Default::default()
            })),
            load_balancing_weight: number(1),
            ..Default::default()
        })
        .collect();
    let localities = if lb_endpoints.is_empty() {
        Vec::new()
    } else {
        vec![LocalityLbEndpoints { lb_endpoints, ..Default::default() }]
    };
    ClusterLoadAssignment { cluster_name: cluster.clone(), endpoints: localities, ..Default::default() }
}
