//! Networks with a special purpose, each with the document that gives it that. Knows networks alone.
//!
//! Read in November 2026: IANA's registries of special-purpose IPv4 and IPv6 addresses (RFC 6890, RFC 8190), and what clouds
//! write of the addresses at which their hosts answer an instance. Networks that IANA's registries call globally reachable
//! (AS112, AMT) are not here. A network that an operator chose for itself, such as the prefix of its own NAT64 or 6rd, is in no
//! registry: `hubNetworks` is the place for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Who reaches a network with a special purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// No tenant, also not one that allows every network.
    Never,
    /// A tenant that lists it.
    Listed,
}

/// One network.
#[derive(Debug)]
pub(super) struct Row {
    pub network: IpNet,
    pub reach: Reach,
    /// What stands there, with its article; ends a sentence.
    pub what: &'static str,
    /// Where that is written.
    #[allow(dead_code, reason = "for people, and for the test that every row has one")]
    pub source: &'static str,
}

impl Row {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.network.contains(&address)
    }
}

const METADATA: &str = "a cloud's metadata service";
const HOST: &str = "an address of the edge node's own host";
const PRIVATE: &str = "a private address";
const DOCUMENTATION: &str = "an address for documentation";
const TRANSLATOR: &str = "an address of a translator to IPv4";

/// All of them. An address may be in several: the first one decides.
#[rustfmt::skip]
pub(super) const REGISTRY: &[Row] = &[
    // Where clouds answer an instance outside of the link-local networks.
    never(v4(100, 100, 100, 200, 32), METADATA, "Alibaba Cloud, ECS: instance metadata; cloud-init, datasource AliYun"),
    never(v4(168, 63, 129, 16, 32), "Azure's host agent", "Azure, Virtual Network: what is IP address 168.63.129.16"),
    never(v4(192, 0, 0, 192, 32), METADATA, "Oracle Cloud Infrastructure Classic: instance metadata"),
    never(v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), METADATA, "AWS, EC2: instance metadata (::254), DNS (::253), NTP (::123); EKS Pod Identity (::23)"),
    never(v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), METADATA, "Google Cloud, Compute Engine: metadata of instances with IPv6 alone"),
    never(v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), METADATA, "Oracle Cloud Infrastructure: instance metadata over IPv6"),
    never(v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), METADATA, "Scaleway: instance metadata; cloud-init, datasource Scaleway"),
    never(v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128), METADATA, "Akamai: metadata service; cloud-init, datasource Akamai"),
    never(v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128), METADATA, "Alibaba Cloud, ECS: instance metadata over IPv6"),
    // Where software on the edge node itself answers, wherever the packet seems to go.
    never(v4(100, 100, 100, 100, 32), HOST, "Tailscale: Quad100"),
    never(v6([0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0x53], 128), HOST, "Tailscale: Quad100 over IPv6"),
    // IANA, IPv4 Special-Purpose Address Registry; multicast: IPv4 Multicast Address Space Registry.
    never(v4(0, 0, 0, 0, 8), "an unspecified address", "RFC 791: this network"),
    listed(v4(10, 0, 0, 0, 8), PRIVATE, "RFC 1918"),
    listed(v4(100, 64, 0, 0, 10), "an address that providers share", "RFC 6598"),
    listed(v4(127, 0, 0, 0, 8), "a loopback address", "RFC 1122"),
    never(v4(169, 254, 0, 0, 16), "a link-local address", "RFC 3927; metadata of nearly every cloud, 169.254.169.254 above all"),
    listed(v4(172, 16, 0, 0, 12), PRIVATE, "RFC 1918"),
    never(v4(192, 0, 0, 0, 24), "an address of IETF protocols", "RFC 6890: DS-Lite, PCP and TURN anycast, discovery of NAT64"),
    listed(v4(192, 0, 2, 0, 24), DOCUMENTATION, "RFC 5737: TEST-NET-1"),
    listed(v4(192, 88, 99, 0, 24), "an address of 6to4 relays", "RFC 7526"),
    listed(v4(192, 168, 0, 0, 16), PRIVATE, "RFC 1918"),
    listed(v4(198, 18, 0, 0, 15), "an address for benchmarks", "RFC 2544"),
    listed(v4(198, 51, 100, 0, 24), DOCUMENTATION, "RFC 5737: TEST-NET-2"),
    listed(v4(203, 0, 113, 0, 24), DOCUMENTATION, "RFC 5737: TEST-NET-3"),
    never(v4(224, 0, 0, 0, 4), "a multicast address", "RFC 5771"),
    never(v4(255, 255, 255, 255, 32), "the broadcast address", "RFC 919"),
    listed(v4(240, 0, 0, 0, 4), "a reserved address", "RFC 1112"),
    // IANA, IPv6 Special-Purpose Address Registry. Mapped and compatible forms are the IPv4 address that they wrap.
    never(v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "an unspecified address", "RFC 4291"),
    never(v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), TRANSLATOR, "RFC 2765, IPv4-translated; RFC 7915 has no such form any more"),
    listed(v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), TRANSLATOR, "RFC 6052: the well-known prefix, /96 alone"),
    never(v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 32), "an address of a local translator", "RFC 8215: 64:ff9b:1::/48, any length in it; the rest is reserved"),
    never(v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "an address that is discarded", "RFC 6666"),
    never(v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "an address that stands for none", "RFC 9780"),
    listed(v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "an address of IETF protocols", "RFC 2928: Teredo, benchmarks, AMT, ORCHID, DRIP"),
    listed(v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), DOCUMENTATION, "RFC 3849"),
    listed(v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), DOCUMENTATION, "RFC 9637"),
    never(v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "a segment identifier", "RFC 9602: SRv6; a router does with it what its owner said"),
    listed(v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), PRIVATE, "RFC 4193"),
    never(v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "a link-local address", "RFC 4291; OpenStack's metadata, fe80::a9fe:a9fe"),
    never(v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "a site-local address", "RFC 3879"),
    never(v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "a multicast address", "RFC 4291"),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits))
}

#[allow(clippy::many_single_char_names, reason = "an IPv6 address has eight segments")]
const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], bits: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), bits))
}

const fn never(network: IpNet, what: &'static str, source: &'static str) -> Row {
    Row { network, reach: Reach::Never, what, source }
}

const fn listed(network: IpNet, what: &'static str, source: &'static str) -> Row {
    Row { network, reach: Reach::Listed, what, source }
}
