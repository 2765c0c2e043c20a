//! What is read of annotations.

use super::*;

fn asked(pairs: &[(&str, &str)]) -> (Asked, Vec<Problem>) {
    read(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn every_annotation_is_read() {
    let (asked, problems) = asked(&[
        ("nave.dev/addresses", "203.0.113.7, 2001:db8::7"),
        ("nave.dev/backends", "PodIP"),
        ("nave.dev/balancing", "Maglev"),
        ("nave.dev/connect-timeout", "250ms"),
        ("nave.dev/ejection-base-time", "5s"),
        ("nave.dev/ejection-failures", "0"),
        ("nave.dev/families", "IPv6,IPv4"),
        ("nave.dev/family-policy", "RequireDualStack"),
        ("nave.dev/health-check", "HTTP"),
        ("nave.dev/health-check-interval", "2s"),
        ("nave.dev/health-check-path", "/ready"),
        ("nave.dev/health-check-port", "8080"),
        ("nave.dev/health-check-timeout", "1s"),
        ("nave.dev/healthy-after", "2"),
        ("nave.dev/idle-timeout", "0s"),
        ("nave.dev/max-connections", "100"),
        ("nave.dev/node-subset", "0"),
        ("nave.dev/pool", "public"),
        ("nave.dev/proxy-protocol", "V2"),
        ("nave.dev/source-ranges", "198.51.100.0/24,2001:db8::/32"),
        ("nave.dev/udp-session-timeout", "1m"),
        ("nave.dev/unhealthy-after", "3"),
        ("example.com/pool", "theirs"),
    ]);
    assert_eq!((problems, asked.unreadable_request), (vec![], false));
    assert_eq!(asked.families, Some(vec![IpFamily::IPv6, IpFamily::IPv4]));
    assert_eq!((asked.health_check, asked.proxy_protocol), (Some(Check::Http), Some(ProxyProtocol::V2)));
    let unset = format!("{asked:?}").matches("None").count();
    assert_eq!(unset, 0, "{asked:?}");
}

#[test]
fn the_table_is_sorted_and_names_each_field_once() {
    assert!(TABLE.windows(2).all(|pair| pair[0].field < pair[1].field));
}

#[test]
fn a_bad_value_is_a_problem_that_names_what_is_accepted_and_changes_nothing() {
    let bad = [
        ("nave.dev/backends", "Pods"),
        ("nave.dev/balancing", "roundrobin"),
        ("nave.dev/connect-timeout", "0s"),
        ("nave.dev/health-check-port", "0"),
        ("nave.dev/health-check-path", "ready"),
        ("nave.dev/healthy-after", "101"),
        ("nave.dev/idle-timeout", "1 hour"),
        ("nave.dev/max-connections", "0"),
    ];
    for pair in bad {
        let (asked, problems) = asked(&[pair]);
        assert_eq!(asked, Asked::default(), "{pair:?}");
        assert!(problems[0].message().contains("accepted: "), "{problems:?}");
    }
}

#[test]
fn kind_m_an_address_a_pool_or_a_family_that_cannot_be_read_is_not_no_request() {
    let bad = [
        ("nave.dev/addresses", "203.0.113.7,203.0.113.8"),
        ("nave.dev/addresses", "203.0.113.7,::ffff:203.0.113.8"),
        ("nave.dev/addresses", ""),
        ("nave.dev/families", "IPv4,IPv4"),
        ("nave.dev/family-policy", "DualStack"),
        ("nave.dev/pool", "Public"),
        ("loadbalancer/pool", "a pool"),
        ("lb.paperlb.com/config-name", "-"),
    ];
    for pair in bad {
        let (asked, problems) = asked(&[pair]);
        assert_eq!(asked, Asked { unreadable_request: true, ..Asked::default() }, "{pair:?}");
        assert!(matches!(&problems[..], [Problem::UnreadableRequest { .. }]), "{problems:?}");
    }
    let ours = ("nave.dev/pool", "ours");
    let (first, problems) = asked(&[ours, ("loadbalancer/pool", "a pool")]);
    assert!(!first.unreadable_request && first.pool.as_deref() == Some("ours"), "{first:?}");
    assert!(matches!(&problems[..], [Problem::InvalidAnnotation { .. }]), "{problems:?}");
    let (second, _) = asked(&[("loadbalancer/pool", "a pool"), ("lb.paperlb.com/config-name", "theirs")]);
    assert!(second.unreadable_request, "the first that is there counts");
}

#[test]
fn kind_k_an_ipv4_address_or_network_within_ipv6_is_written_as_the_hub_takes_it() {
    let (wrapped, problems) = asked(&[
        ("nave.dev/addresses", "::ffff:203.0.113.7, 2001:db8::7"),
        ("nave.dev/source-ranges", "::ffff:198.51.100.9/120, ::ffff:198.51.100.9/90, 2001:db8::/32"),
    ]);
    assert_eq!(problems, []);
    let texts: Vec<String> = wrapped.addresses.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["203.0.113.7", "2001:db8::7"]);
    let texts: Vec<String> = wrapped.source_ranges.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["198.51.100.0/24", "::ffc0:0:0/90", "2001:db8::/32"]);
}

#[test]
fn g1_a_value_beyond_a_bound_becomes_the_nearest_one_and_the_event_names_it() {
    let beyond = [
        ("nave.dev/health-check-interval", "250ms", "1s"),
        ("nave.dev/health-check-interval", "2h", "3600s"),
        ("nave.dev/health-check-timeout", "1h", "60s"),
        ("nave.dev/udp-session-timeout", "8760h", "3600s"),
        ("nave.dev/udp-session-timeout", "1ms", "1s"),
        ("nave.dev/max-connections", "200001", "200000"),
        ("nave.dev/max-connections", "4294967296", "200000"),
        ("nave.dev/max-connections", "99999999999999999999999999999999", "200000"),
    ];
    for (name, value, used) in beyond {
        let (asked, problems) = asked(&[(name, value)]);
        assert!(format!("{asked:?}").contains(used), "{name}: {value} became {asked:?}");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].reason(), "InvalidAnnotation");
        assert!(problems[0].message().contains(&format!("{used} is in force")), "{problems:?}");
    }
    let within = [
        ("nave.dev/udp-session-timeout", "1h"),
        ("nave.dev/health-check-interval", "1s"),
        ("nave.dev/max-connections", "200000"),
    ];
    assert_eq!(asked(&within).1, []);
    assert_eq!(asked(&[("nave.dev/idle-timeout", "8760h")]).1, [], "connections have a budget, however long they last");
}

#[test]
fn a_bad_source_range_is_left_out_and_opens_nothing() {
    let (half, problems) = asked(&[("nave.dev/source-ranges", "198.51.100.0/33,198.51.100.7/24")]);
    assert_eq!(half.source_ranges, Some(vec!["198.51.100.0/24".parse().unwrap()]));
    assert_eq!(problems.len(), 1);
    let (none, _) = asked(&[("nave.dev/source-ranges", "nobody")]);
    assert_eq!(none.source_ranges, Some(Vec::new()));
}

#[test]
fn an_unknown_annotation_with_our_prefix_is_a_problem() {
    let (_, problems) = asked(&[("nave.dev/pol", "public")]);
    assert_eq!(problems, [Problem::UnknownAnnotation { name: "nave.dev/pol".into() }]);
    assert!(problems[0].message().contains("pool"));
}
