//! IPv6 addresses that stand for IPv4 ones. Knows notations and where each keeps the IPv4 address; judges nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address to connect to: IPv4 where an IPv6 notation only wraps it.
pub(in crate::backends) fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().or_else(|| compatible(v6)).map_or(address, IpAddr::V4),
    }
}

/// `::a.b.c.d`, long deprecated (RFC 4291 2.5.5.1); `::` and `::1` are themselves.
fn compatible(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = u32::try_from(v6.to_bits()).ok()?;
    (low > 0xffff).then(|| low.into())
}

/// The IPv4 addresses that packets to an IPv6 address may end at. Each notation by its own document:
///
/// - 6to4, `2002::/16`: the router behind which the address is (RFC 3056);
/// - Teredo, `2001::/32`: the server, and the client with its bits turned (RFC 4380);
/// - NAT64, `64:ff9b::/96` and every prefix length in the rest of `64:ff9b::/32` (RFC 6052, RFC 8215);
/// - IPv4-translated, `::ffff:0:a.b.c.d` (RFC 2765);
/// - ISATAP, an interface identifier in any network, with and without the bits for global and group (RFC 5214).
pub(in crate::backends) fn embedded(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = v6.to_bits();
    let part = |shift: u32| Ipv4Addr::from_bits(low(bits >> shift));
    let mut ends = match v6.segments() {
        [0x2002, ..] => vec![part(80)],
        [0x2001, 0, ..] => vec![part(64), Ipv4Addr::from_bits(!part(0).to_bits())],
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![part(0)],
        [0x64, 0xff9b, ..] => [32, 40, 48, 56, 64, 96].map(|length| translated(bits, length)).to_vec(),
        _ => Vec::new(),
    };
    let [.., high, isatap, _, _] = v6.segments();
    if isatap == 0x5efe && high & !0x300 == 0 {
        ends.push(part(0));
    }
    ends
}

/// The IPv4 address behind a NAT64 prefix of this length, which leaves out bits 64 to 71 where it would cover them (RFC 6052 2.2).
fn translated(bits: u128, length: u32) -> Ipv4Addr {
    if length > 64 {
        return Ipv4Addr::from_bits(low(bits));
    }
    let without = bits >> 64 << 56 | bits & 0x00ff_ffff_ffff_ffff;
    Ipv4Addr::from_bits(low(without >> (120 - 32 - length)))
}

fn low(bits: u128) -> u32 {
    u32::try_from(bits & 0xffff_ffff).unwrap_or(0)
}

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
    fn f_tunnels_and_translators_end_at_what_they_embed() {
        let ends = |text: &str| embedded(text.parse().unwrap()).contains(&Ipv4Addr::new(10, 1, 2, 3));
        let embedding = [
            "2002:a01:203::1",
            "64:ff9b::a01:203",
            "64:ff9b:a01:203::",
            "64:ff9b:10a:102:3::",
            "64:ff9b:1:a01:2:300::",
            "64:ff9b:1:ff0a:1:203::",
            "64:ff9b:1:ff:a:102:300:0",
            "64:ff9b:1::10.1.2.3",
            "2001::f5fe:fdfc",
            "2001:0:a01:203::1",
            "::ffff:0:10.1.2.3",
            "2001:db8::5efe:10.1.2.3",
            "2001:db8::200:5efe:10.1.2.3",
            "fd00::100:5efe:a01:203",
            "2606:4700:1:2:300:5efe:a01:203",
        ];
        for text in embedding {
            assert!(ends(text), "{text}");
        }
        for text in ["2001:db8::a01:203", "2001:db8::400:5efe:10.1.2.3", "2001:db8::5eff:10.1.2.3", "2003:a01:203::1"] {
            assert!(!ends(text), "{text}");
        }
    }
}
