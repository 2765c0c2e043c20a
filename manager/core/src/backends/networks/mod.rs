//! What an address really is: which IPv4 address an IPv6 one stands for, what is public, what no tenant may reach.
//! Knows the registries; knows no tenant.

mod embedded;
mod registry;

use std::net::IpAddr;

pub(super) use embedded::{embedded, plain};
use registry::{REGISTRY, Reach, Row};

/// What no tenant reaches, whatever its Tenant allows: what stands there.
pub(super) fn forbidden(address: IpAddr) -> Option<&'static str> {
    let Row { reach, what, .. } = REGISTRY.iter().find(|row| row.contains(address))?;
    match reach {
        Reach::Never => Some(what),
        Reach::Listed => None,
    }
}

/// Whether the address is public unicast: IANA gives it out to the world, and no special purpose keeps it from there.
pub(super) fn is_public(address: IpAddr) -> bool {
    let is_given_out = match address {
        IpAddr::V4(_) => true,
        // Of IPv6, IANA gives out 2000::/3 alone: registry "Internet Protocol Version 6 Address Space".
        IpAddr::V6(v6) => v6.segments()[0] >> 13 == 1,
    };
    is_given_out && !address.is_loopback() && !REGISTRY.iter().any(|row| row.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The first and the last address of every network that no tenant reaches, and what lies beside it.
    #[test]
    fn f_metadata_and_host_addresses_are_never_reached_and_their_neighbours_may_be() {
        let ends = [
            ("0.0.0.0", "0.255.255.255"),
            ("100.100.100.100", "100.100.100.100"),
            ("100.100.100.200", "100.100.100.200"),
            ("168.63.129.16", "168.63.129.16"),
            ("169.254.0.0", "169.254.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.0.192", "192.0.0.192"),
            ("224.0.0.0", "239.255.255.255"),
            ("255.255.255.255", "255.255.255.255"),
            ("::", "::"),
            ("::ffff:0:0:0", "::ffff:0:ffff:ffff"),
            ("64:ff9b::1:0:0", "64:ff9b:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("100::", "100::ffff:ffff:ffff:ffff"),
            ("100:0:0:1::", "100::1:ffff:ffff:ffff:ffff"),
            ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fd00:42::42", "fd00:42::42"),
            ("fd00:100::100:200", "fd00:100::100:200"),
            ("fd00:a9fe:a9fe::1", "fd00:a9fe:a9fe::1"),
            ("fd00:c1::a9fe:a9fe", "fd00:c1::a9fe:a9fe"),
            ("fd00:ec2::", "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fd00:ec2::254", "fd00:ec2::23"),
            ("fd20:ce::254", "fd20:ce::254"),
            ("fd7a:115c:a1e0::53", "fd7a:115c:a1e0::53"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ];
        for (first, last) in ends {
            assert!(forbidden(ip(first)).is_some(), "{first}");
            assert!(forbidden(ip(last)).is_some(), "{last}");
            assert!(!is_public(ip(first)) && !is_public(ip(last)), "{first} {last}");
        }
        let beside = [
            "1.0.0.0",
            "100.100.100.199",
            "100.100.100.201",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "223.255.255.255",
            "240.0.0.1",
            "255.255.255.254",
            "64:ff9b::808:808",
            "100:0:0:2::",
            "5eff::1",
            "5f01::1",
            "fd00:42::43",
            "fd00:ec1::254",
            "fd00:ec3::254",
            "fd20:ce::253",
            "fd20:ce::255",
            "fe7f::1",
        ];
        for text in beside {
            assert_eq!(forbidden(ip(text)), None, "{text}");
        }
    }

    /// Each network of IANA's registries that is not globally reachable: its first address, its last, and those beside it.
    #[test]
    fn f_special_purpose_networks_are_not_public_and_their_neighbours_are() {
        let special = [
            ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
            ("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"),
            ("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"),
            ("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"),
            ("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"),
            ("192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"),
            ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"),
            ("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"),
            ("198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"),
            ("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"),
            ("223.255.255.255", "240.0.0.0", "255.255.255.254", "223.255.255.255"),
            ("2001:200::", "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"),
            ("2001:db7:ffff::", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
            ("3ffe:ffff::", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"),
            ("3fff:ffff::", "4000::", "fbff::", "2000::"),
            ("3fff:ffff::", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2000::"),
            ("3fff:ffff::", "64:ff9b::808:808", "::1", "2000::"),
        ];
        for (before, first, last, after) in special {
            assert!(!is_public(ip(first)) && !is_public(ip(last)), "{first} to {last}");
            assert!(is_public(ip(before)) && is_public(ip(after)), "{before} and {after}");
        }
        // Special, and globally reachable all the same: AS112, AMT.
        for text in ["192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1", "8.8.8.8", "2606:4700::1111"] {
            assert!(is_public(ip(text)), "{text}");
        }
    }

    #[test]
    fn every_row_names_what_is_there_and_where_that_is_written() {
        for row in REGISTRY {
            assert!(!row.what.is_empty() && !row.source.is_empty(), "{row:?}");
            assert_eq!(row.network.trunc(), row.network, "{row:?}");
        }
    }
}
