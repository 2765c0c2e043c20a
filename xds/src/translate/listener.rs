//! A listener as Envoy's Listener: one address and port, one proxy, and before it who may reach it and
//! where. Knows no endpoint.

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3::{
    self as pb, Filter, FilterChain, FilterChainMatch, ListenerFilter, UdpListenerConfig, filter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::filters::udp::udp_proxy::v3::{self as udp, udp_proxy_config};
use envoy_types::pb::envoy::extensions::matching::{
    common_inputs::network::v3::{DestinationIpInput, SourceIpInput},
    input_matchers::ip::v3::Ip,
};
use envoy_types::pb::envoy::r#type::v3::{HashPolicy, hash_policy};
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig;
use envoy_types::pb::xds::r#type::matcher::v3::Matcher;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::matcher_list::predicate::{
    MatchType, PredicateList, SinglePredicate, single_predicate,
};
use envoy_types::pb::xds::r#type::matcher::v3::matcher::matcher_list::{FieldMatcher, Predicate};
use envoy_types::pb::xds::r#type::matcher::v3::matcher::{self, MatcherList, on_match};
use ipnet::IpNet;
use prost::{Message, Name};

use super::{BUFFER_LIMIT, any, duration, extension, number, socket};
use crate::model::{Bind, Listener, Protocol};

/// How many endpoints a connection tries before its client is told that none answers.
const CONNECT_ATTEMPTS: u32 = 3;

pub(super) fn message(listener: &Listener) -> pb::Listener {
    let Bind { protocol, address, port } = listener.bind;
    let mut message = pb::Listener {
        name: listener.bind.to_string(),
        // Otherwise every listener would bring a subtree of statistics of its own.
        stat_prefix: listener.stat_prefix.clone(),
        address: Some(socket(protocol, address, port)),
        freebind: yes(),
        enable_reuse_port: yes(),
        per_connection_buffer_limit_bytes: number(BUFFER_LIMIT),
        ..Default::default()
    };
    match protocol {
        Protocol::Tcp => {
            message.filter_chains = serving(listener).into_iter().chain(refusing(listener)).collect();
        }
        Protocol::Udp => {
            message.udp_listener_config = Some(UdpListenerConfig::default());
            message.listener_filters = vec![ListenerFilter {
                name: "envoy.filters.udp_listener.udp_proxy".to_owned(),
                config_type: Some(listener_filter::ConfigType::TypedConfig(any(&udp_proxy(listener)))),
                ..Default::default()
            }];
        }
    }
    message
}

#[allow(clippy::unnecessary_wraps, reason = "protobuf wraps every optional scalar")]
fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

/// The chains of a TCP listener that lead anywhere. A connection from elsewhere than the source ranges matches no chain and is closed
/// before a byte goes either way. (An RBAC filter would not do: it waits for the client's first bytes, and by then a
/// server that speaks first has spoken.)
///
/// Where an edit takes a chain away, Envoy ends the connections that came by it once the drain time is over, and leaves those of the
/// other chains alone. Hence a chain for each source range: the network that an edit shuts out loses its connections, no other does.
fn serving(listener: &Listener) -> Vec<FilterChain> {
    let filters = vec![filter("envoy.filters.network.tcp_proxy", &tcp_proxy(listener))];
    let ranges: Vec<CidrRange> = cidrs(&listener.source_ranges).collect();
    let parts = match ranges.len() {
        0 => return vec![FilterChain { filters, ..Default::default() }],
        1..=Listener::OWN_CHAINS => ranges.chunks(1),
        many => ranges.chunks(many),
    };
    let from = |part: &[CidrRange]| FilterChain {
        filters: filters.clone(),
        filter_chain_match: Some(FilterChainMatch { direct_source_prefix_ranges: part.to_vec(), ..Default::default() }),
        ..Default::default()
    };
    parts.map(from).collect()
}

/// The chain of the destinations at which a TCP listener does not answer: Envoy closes a connection that has no filters.
/// It looks at the destination before the source, hence a chain that names a destination wins over one that names none.
/// A chain of its own, and the serving ones as ever: a change of it touches no connection that is served.
fn refusing(listener: &Listener) -> Option<FilterChain> {
    // Envoy counts a chain that names no destination as one for all of them; of two for the same network, chance would
    // choose. Hence everything is refused in halves.
    let narrower = |range: &IpNet| range.subnets(range.prefix_len().max(1)).into_iter().flatten();
    let not_on: Vec<IpNet> = listener.not_on.iter().flat_map(narrower).collect();
    let at = FilterChainMatch { prefix_ranges: cidrs(&not_on).collect(), ..Default::default() };
    let chain = FilterChain { filter_chain_match: Some(at), ..Default::default() };
    (!listener.not_on.is_empty()).then_some(chain)
}

fn filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(any(config))) }
}

fn tcp_proxy(listener: &Listener) -> tcp::TcpProxy {
    let Listener { bind: _, cluster, stat_prefix, idle_timeout, source_ranges: _, not_on: _ } = listener;
    let source =
        HashPolicy { policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {})) };
    tcp::TcpProxy {
        stat_prefix: stat_prefix.clone(),
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(cluster.clone())),
        // Zero is "never" on the wire as well; absent would be Envoy's hour.
        idle_timeout: Some(duration(*idle_timeout)),
        max_connect_attempts: number(CONNECT_ATTEMPTS),
        // Always: only Maglev looks at it, and turning to Maglev changes no listener, hence ends no connection.
        hash_policy: vec![source],
        ..Default::default()
    }
}

/// Networks in canonical form, sorted, each once.
fn cidrs(ranges: &[IpNet]) -> impl Iterator<Item = CidrRange> {
    let mut ranges: Vec<_> = ranges.iter().map(IpNet::trunc).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges.into_iter().map(|range| CidrRange {
        address_prefix: range.network().to_string(),
        prefix_len: number(u32::from(range.prefix_len())),
    })
}

fn udp_proxy(listener: &Listener) -> udp::UdpProxyConfig {
    let Listener { bind: _, cluster, stat_prefix, idle_timeout, source_ranges, not_on } = listener;
    let source = udp_proxy_config::HashPolicy {
        policy_specifier: Some(udp_proxy_config::hash_policy::PolicySpecifier::SourceIp(true)),
    };
    udp::UdpProxyConfig {
        stat_prefix: stat_prefix.clone(),
        // Envoy wants more than zero here; absent is its minute.
        idle_timeout: (!idle_timeout.is_zero()).then(|| duration(*idle_timeout)),
        hash_policies: vec![source],
        route_specifier: Some(udp_proxy_config::RouteSpecifier::Matcher(route(
            cluster,
            asked(source_ranges, not_on, stat_prefix),
        ))),
        ..Default::default()
    }
}

/// What is asked of a datagram before it is passed on, if anything.
fn asked(source_ranges: &[IpNet], not_on: &[IpNet], stat_prefix: &str) -> Option<Predicate> {
    let within = |input: TypedExtensionConfig, ranges: &[IpNet]| {
        let matcher = Ip { cidr_ranges: cidrs(ranges).collect(), stat_prefix: stat_prefix.to_owned() };
        let matcher = extension("envoy.matching.matchers.ip", &matcher);
        let matcher = Some(single_predicate::Matcher::CustomMatch(matcher));
        that(MatchType::SinglePredicate(SinglePredicate { input: Some(input), matcher }))
    };
    let elsewhere = (!not_on.is_empty()).then(|| {
        let at = within(extension("envoy.matching.inputs.destination_ip", &DestinationIpInput {}), not_on);
        that(MatchType::NotMatcher(Box::new(at)))
    });
    let allowed = (!source_ranges.is_empty())
        .then(|| within(extension("envoy.matching.inputs.source_ip", &SourceIpInput {}), source_ranges));
    match (elsewhere, allowed) {
        (Some(elsewhere), Some(allowed)) => {
            Some(that(MatchType::AndMatcher(PredicateList { predicate: vec![elsewhere, allowed] })))
        }
        (one, other) => one.or(other),
    }
}

fn that(match_type: MatchType) -> Predicate {
    Predicate { match_type: Some(match_type) }
}

/// To the cluster when everything that is asked holds; a datagram that matches nothing is dropped.
fn route(cluster: &str, asked: Option<Predicate>) -> Matcher {
    let route = extension("route", &udp::Route { cluster: cluster.to_owned() });
    let to_cluster = matcher::OnMatch { on_match: Some(on_match::OnMatch::Action(route)), ..Default::default() };
    match asked {
        None => Matcher { on_no_match: Some(Box::new(to_cluster)), matcher_type: None },
        Some(asked) => {
            let field = FieldMatcher { predicate: Some(asked), on_match: Some(to_cluster) };
            let list = MatcherList { matchers: vec![field] };
            Matcher { on_no_match: None, matcher_type: Some(matcher::MatcherType::MatcherList(list)) }
        }
    }
}
