//! A range of addresses as people write it: a network, two ends, or one address. Knows its text; knows no pool.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use nave_api::tcp_load_balancer::IpFamily;

use super::spans::number;

/// Addresses from one to another, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    low: IpAddr,
    high: IpAddr,
}

/// Why a text is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InvalidRange {
    NotAnAddress,
    MixedFamilies,
    Backwards,
    Mapped,
}

impl fmt::Display for InvalidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnAddress => {
                "is neither a network (203.0.113.0/24), nor a range (203.0.113.1-203.0.113.9), nor an address"
            }
            Self::MixedFamilies => "begins in one address family and ends in another",
            Self::Backwards => "begins above its end",
            Self::Mapped => "is an IPv4 address in IPv6 notation: write it as IPv4",
        })
    }
}

impl Range {
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.low)
    }

    pub fn numbers(&self) -> (u128, u128) {
        (number(self.low), number(self.high))
    }

    /// The lowest and the highest address.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        (self.low, self.high)
    }

    fn between(low: IpAddr, high: IpAddr) -> Result<Self, InvalidRange> {
        if [low, high].iter().any(|end| end.to_canonical() != *end) {
            return Err(InvalidRange::Mapped);
        }
        if IpFamily::of(low) != IpFamily::of(high) {
            return Err(InvalidRange::MixedFamilies);
        }
        if low > high { Err(InvalidRange::Backwards) } else { Ok(Self { low, high }) }
    }
}

impl FromStr for Range {
    type Err = InvalidRange;

    /// An unaligned network is the network that its address lies in.
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| InvalidRange::NotAnAddress);
        if let Some((low, high)) = text.split_once('-') {
            return Self::between(address(low)?, address(high)?);
        }
        if text.contains('/') {
            let network: IpNet = text.trim().parse().map_err(|_| InvalidRange::NotAnAddress)?;
            return Self::between(network.network(), network.broadcast());
        }
        address(text).and_then(|one| Self::between(one, one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> Result<(String, String), InvalidRange> {
        text.parse::<Range>().map(|r| (r.low.to_string(), r.high.to_string()))
    }

    fn ends_at(text: &str, low: &str, high: &str) -> bool {
        ends(text) == Ok((low.to_owned(), high.to_owned()))
    }

    #[test]
    fn networks_ranges_and_single_addresses_are_ranges() {
        assert!(ends_at("203.0.113.0/24", "203.0.113.0", "203.0.113.255"));
        assert!(ends_at("203.0.113.4 - 203.0.113.9", "203.0.113.4", "203.0.113.9"));
        assert!(ends_at("2001:db8::7", "2001:db8::7", "2001:db8::7"));
    }

    #[test]
    fn an_unaligned_network_is_masked() {
        assert!(ends_at("1.2.3.0/22", "1.2.0.0", "1.2.3.255"));
    }

    #[test]
    fn anything_else_says_why() {
        assert_eq!(ends("203.0.113.9-203.0.113.4"), Err(InvalidRange::Backwards));
        assert_eq!(ends("203.0.113.9-2001:db8::1"), Err(InvalidRange::MixedFamilies));
        assert_eq!(ends("::ffff:203.0.113.9"), Err(InvalidRange::Mapped));
        for text in ["", "-", "/", "203.0.113", "203.0.113.0/33", "web", "1.2.3.4-", "fe80::1%eth0"] {
            assert_eq!(ends(text), Err(InvalidRange::NotAnAddress), "{text}");
        }
    }
}
