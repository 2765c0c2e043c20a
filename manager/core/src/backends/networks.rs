//! What an address really is: which IPv4 address an IPv6 one stands for, what is public, what is nobody's to reach.
//! Knows the registries; knows no tenant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address to connect to: IPv4 where an IPv6 notation only wraps it.
pub(super) fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().or_else(|| compatible(v6)).map_or(address, IpAddr::V4),
    }
}

/// `::a.b.c.d`, long deprecated; `::` and `::1` are themselves.
fn compatible(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = u32::try_from(v6.to_bits()).ok()?;
    (low > 0xffff).then(|| low.into())
}

/// The IPv4 addresses that packets to an IPv6 address may end at: 6to4, NAT64, Teredo.
pub(super) fn embedded(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = v6.to_bits();
    let part = |shift: u32| Ipv4Addr::from_bits(u32::try_from(bits >> shift & 0xffff_ffff).unwrap_or(0));
    let [a, b, c, ..] = v6.segments();
    match (a, b, c) {
        (0x2002, _, _) => vec![part(80)],
        (0x2001, 0, _) => vec![Ipv4Addr::from_bits(!part(0).to_bits())],
        (0x64, 0xff9b, 0) => vec![part(0)],
        _ => Vec::new(),
    }
}

/// What no tenant reaches, whatever it may use.
pub(super) fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4 == METADATA_V4 => Some("the cloud's metadata service"),
        IpAddr::V6(v6) if v6 == METADATA_V6 => Some("the cloud's metadata service"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an unspecified address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("an unspecified address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80 => Some("a link-local address"),
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfec0 => Some("a site-local address"),
        IpAddr::V6(v6) if v6.segments()[..3] == [0x64, 0xff9b, 1] => Some("an address of a local translator"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.is_multicast() => Some("a multicast address"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("a multicast address"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether the address is public unicast.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !NOT_PUBLIC_V4.iter().any(|(net, bits)| v4.to_bits() >> (32 - bits) == net.to_bits() >> (32 - bits))
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            a >> 13 == 1 && !(a == 0x2001 && b < 0x200) && !(a == 0x2001 && b == 0xdb8) && !(a == 0x3fff && b < 0x1000)
        }
    }
}

/// IANA's special-purpose IPv4 networks that are not global, and everything from multicast up.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 14] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn wrapped_notations_are_the_address_that_they_wrap() {
        assert_eq!(plain(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        assert_eq!(plain(ip("::10.0.0.1")), ip("10.0.0.1"));
        assert_eq!(plain(ip("::1")), ip("::1"));
        assert_eq!(plain(ip("2001:db8::1")), ip("2001:db8::1"));
    }

    #[test]
    fn tunnels_and_translators_end_at_what_they_embed() {
        let ends = |text: &str| match ip(text) {
            IpAddr::V6(v6) => embedded(v6).contains(&Ipv4Addr::new(10, 1, 2, 3)),
            IpAddr::V4(_) => false,
        };
        for text in ["2002:a01:203::1", "64:ff9b::a01:203", "2001::f5fe:fdfc"] {
            assert!(ends(text), "{text}");
        }
        assert!(!ends("2001:db8::a01:203"));
    }

    #[test]
    fn only_global_unicast_is_public() {
        for text in ["8.8.8.8", "223.255.255.255", "2606:4700::1111", "100.128.0.1", "172.32.0.1"] {
            assert!(is_public(ip(text)), "{text}");
        }
        for text in
            ["10.0.0.1", "100.64.0.1", "192.168.1.1", "203.0.113.1", "240.0.0.1", "fd00::1", "2001:db8::1", "::1"]
        {
            assert!(!is_public(ip(text)), "{text}");
        }
    }
}
