//! From the model to encoded resources. Cannot fail, looks at nothing else than its argument, and writes the same
//! bytes for the same input: every protobuf map holds at most one entry, for their order is not defined.

mod cluster;
mod endpoints;
mod limits;
mod listener;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{self, Any, UInt32Value};
use prost::{Message, Name};

use crate::model::{Cluster, Endpoints, Listener, Protocol};
use crate::resource::{Resource, ResourceType};

/// Bytes that Envoy holds for a connection in each direction before it stops reading. Bounds memory under slow peers.
const BUFFER_LIMIT: u32 = 64 * 1024;

/// A listener as a resource, named after what it binds.
pub fn listener(listener: &Listener) -> Resource {
    let cluster = listener.cluster.as_str().into();
    let name = listener.bind.to_string();
    Resource::new(ResourceType::Listener, name, &listener::message(listener).encode_to_vec()).leading_to([cluster])
}

/// A cluster as a resource. Its endpoints come over the same stream, under the cluster's own name.
pub fn cluster(cluster: &Cluster) -> Resource {
    Resource::new(ResourceType::Cluster, cluster.name.as_str(), &cluster::message(cluster).encode_to_vec())
}

/// Endpoints as a resource, named after their cluster.
pub fn endpoints(endpoints: &Endpoints) -> Resource {
    Resource::new(ResourceType::Endpoints, endpoints.cluster.as_str(), &endpoints::message(endpoints).encode_to_vec())
}

/// What an Envoy reads while it runs: so many connections may be open at once at each of these listeners. A listener beyond its limit
/// refuses new connections and keeps those that it has; without a limit it refuses none. `name` is what the Envoy asks for, see
/// [`crate::bootstrap::limits_name`].
pub fn limits(name: &str, limits: &BTreeMap<Arc<str>, u32>) -> Resource {
    Resource::new(ResourceType::Runtime, name, &limits::message(name, limits))
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn extension<M: Message + Name>(name: &str, message: &M) -> envoy_types::pb::xds::core::v3::TypedExtensionConfig {
    envoy_types::pb::xds::core::v3::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(any(message)) }
}

fn duration(value: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "protobuf wraps every optional scalar")]
fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn socket(protocol: Protocol, address: std::net::IpAddr, port: u16) -> core::Address {
    let protocol = match protocol {
        Protocol::Tcp => core::socket_address::Protocol::Tcp,
        Protocol::Udp => core::socket_address::Protocol::Udp,
    };
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            protocol: protocol.into(),
            address: address.to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::listener::v3 as pb;
    use ipnet::IpNet;

    use super::*;
    use crate::model::Bind;

    fn shop(source_ranges: &[&str]) -> Listener {
        Listener {
            bind: Bind { protocol: Protocol::Tcp, address: std::net::Ipv4Addr::new(203, 0, 113, 7).into(), port: 443 },
            cluster: "shop".to_owned(),
            stat_prefix: "shop".to_owned(),
            idle_timeout: Duration::from_mins(1),
            source_ranges: source_ranges.iter().map(|range| range.parse::<IpNet>().expect("a network")).collect(),
            not_on: Vec::new(),
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_in_whatever_order_it_comes() {
        let one = listener(&shop(&["10.0.0.0/8", "2001:db8::/32", "10.0.0.0/8"]));
        let other = listener(&shop(&["2001:db8::1/32", "10.1.2.3/8"]));
        assert_eq!(one, other);
        let endpoints = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
            super::endpoints(&Endpoints {
                cluster: "shop".to_owned(),
                addresses,
                fallback: Vec::new(),
                is_checked: false,
                health_port: None,
            })
        };
        assert_eq!(
            endpoints(&["10.0.0.1:80", "10.0.0.2:80"]),
            endpoints(&["10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"])
        );
    }

    #[test]
    fn kind_o_fallback_is_the_next_priority_which_checks_leave_alone_and_the_first_where_there_is_no_other() {
        use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect();
        let priorities = |addresses: &[&str], fallback: &[&str], is_checked: bool| {
            let (addresses, fallback) = (parse(addresses), parse(fallback));
            let endpoints =
                Endpoints { cluster: "shop".to_owned(), addresses, fallback, is_checked, health_port: Some(8080) };
            let assignment = ClusterLoadAssignment::decode(super::endpoints(&endpoints).body()).expect("endpoints");
            let unchecked = |host: &HostIdentifier| match host {
                HostIdentifier::Endpoint(endpoint) => {
                    endpoint.health_check_config.as_ref().is_some_and(|config| config.disable_active_health_check)
                }
                HostIdentifier::EndpointName(_) => false,
            };
            let localities = assignment.endpoints.iter();
            let hosts = localities.flat_map(|set| set.lb_endpoints.iter().map(move |host| (set.priority, host)));
            hosts
                .filter_map(|(priority, host)| Some((priority, unchecked(host.host_identifier.as_ref()?))))
                .collect::<Vec<_>>()
        };
        assert_eq!(priorities(&["10.0.0.1:80"], &["10.0.0.1:80", "10.0.0.2:80"], true), [(0, false), (1, true)]);
        assert_eq!(priorities(&["10.0.0.1:80"], &["10.0.0.2:80"], false), [(0, false), (1, false)]);
        assert_eq!(priorities(&[], &["10.0.0.2:80", "10.0.0.3:80"], true), [(0, true), (0, true)]);
        assert_eq!(priorities(&[], &[], true), []);
    }

    #[test]
    fn where_a_listener_does_not_answer_is_a_chain_of_its_own() {
        let decoded = |listener: &Listener| pb::Listener::decode(super::listener(listener).body()).expect("a listener");
        for source_ranges in [&[][..], &["10.0.0.0/8"]] {
            let everywhere = shop(source_ranges);
            let mut elsewhere = everywhere.clone();
            elsewhere.not_on =
                ["203.0.113.4/32", "2001:db8::4/128"].map(|range| range.parse().expect("a network")).into();
            let (before, mut after) = (decoded(&everywhere), decoded(&elsewhere));
            let refusing = after.filter_chains.pop().expect("a second chain");
            assert_eq!(before, after, "the serving chain is none of its business");
            let prefix_ranges = refusing.filter_chain_match.expect("a match").prefix_ranges;
            let prefixes: Vec<_> = prefix_ranges.iter().map(|range| range.address_prefix.as_str()).collect();
            assert_eq!(prefixes, ["203.0.113.4", "2001:db8::4"]);
            assert_eq!(refusing.filters, []);
        }
    }

    #[test]
    fn a_listener_is_named_after_its_bind_and_says_where_it_leads() {
        let resource = listener(&shop(&[]));
        assert_eq!(&**resource.name(), "tcp/203.0.113.7/443");
        assert_eq!(resource.clusters().iter().map(|cluster| &**cluster).collect::<Vec<_>>(), ["shop"]);
    }
}
