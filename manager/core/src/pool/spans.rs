//! Sets of addresses as sorted spans. Knows numbers and the two families; knows no pool. Nothing here walks over addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets};
use nave_api::tcp_load_balancer::IpFamily;

use super::range::Range;

/// A set of numbers as spans that neither overlap nor touch: first → last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Line(BTreeMap<u128, u128>);

impl Line {
    fn insert(&mut self, low: u128, high: u128) {
        let (mut low, mut high) = (low, high);
        while let Some((&first, &last)) = self.0.range(..=high.saturating_add(1)).next_back() {
            if last.saturating_add(1) < low {
                break;
            }
            self.0.remove(&first);
            low = low.min(first);
            high = high.max(last);
        }
        self.0.insert(low, high);
    }

    fn remove(&mut self, low: u128, high: u128) {
        while let Some((&first, &last)) = self.0.range(..=high).next_back() {
            if last < low {
                break;
            }
            self.0.remove(&first);
            if last > high {
                self.0.insert(high + 1, last);
            }
            if first < low {
                self.0.insert(first, low - 1);
            }
        }
    }

    /// The first part of the set between the two.
    fn meet(&self, low: u128, high: u128) -> Option<(u128, u128)> {
        let before = self.0.range(..=low).next_back().filter(|(_, last)| **last >= low);
        let (&first, &last) = before.or_else(|| self.0.range(low..=high).next())?;
        Some((first.max(low), last.min(high)))
    }

    fn count(&self) -> u128 {
        self.0.iter().fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }
}

/// A set of IPv4 and IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    v4: Line,
    v6: Line,
}

impl Spans {
    /// The addresses of these ranges.
    pub fn of<'a>(ranges: impl IntoIterator<Item = &'a Range>) -> Self {
        let mut spans = Self::default();
        for range in ranges {
            let (low, high) = range.numbers();
            spans.line_mut(range.family()).insert(low, high);
        }
        spans
    }

    /// The addresses of these networks.
    pub fn of_networks<'a>(networks: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let mut spans = Self::default();
        for network in networks {
            let (low, high) = (network.network(), network.broadcast());
            spans.line_mut(IpFamily::of(low)).insert(number(low), number(high));
        }
        spans
    }

    /// The first and the last address of each span.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let of =
            |family| self.line(family).0.iter().map(move |(low, high)| (address(family, *low), address(family, *high)));
        of(IpFamily::IPv4).chain(of(IpFamily::IPv6))
    }

    /// The IPv4 part as networks, as few as there can be.
    pub fn ipv4_networks(&self) -> impl Iterator<Item = Ipv4Net> {
        let end = |number: &u128| Ipv4Addr::from_bits(u32::try_from(*number).unwrap_or(u32::MAX));
        self.v4.0.iter().flat_map(move |(low, high)| Ipv4Subnets::new(end(low), end(high), 0))
    }

    pub fn insert(&mut self, address: IpAddr) {
        let number = number(address);
        self.line_mut(IpFamily::of(address)).insert(number, number);
    }

    pub fn remove(&mut self, address: IpAddr) {
        let number = number(address);
        self.line_mut(IpFamily::of(address)).remove(number, number);
    }

    pub fn remove_range(&mut self, range: &Range) {
        let (low, high) = range.numbers();
        self.line_mut(range.family()).remove(low, high);
    }

    /// Takes in what the other holds.
    pub fn extend(&mut self, other: &Self) {
        for family in [IpFamily::IPv4, IpFamily::IPv6] {
            for (low, high) in &other.line(family).0 {
                self.line_mut(family).insert(*low, *high);
            }
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        self.line(IpFamily::of(address)).meet(number, number).is_some()
    }

    /// The lowest address of the family.
    pub fn first(&self, family: IpFamily) -> Option<IpAddr> {
        self.line(family).0.keys().next().map(|n| address(family, *n))
    }

    pub fn has(&self, family: IpFamily) -> bool {
        !self.line(family).0.is_empty()
    }

    /// What both sets hold.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for family in [IpFamily::IPv4, IpFamily::IPv6] {
            for (low, high) in &other.line(family).0 {
                let mut from = *low;
                while let Some((first, last)) = self.line(family).meet(from, *high) {
                    both.line_mut(family).insert(first, last);
                    if last == *high {
                        break;
                    }
                    from = last + 1;
                }
            }
        }
        both
    }

    /// An address that both hold.
    pub fn overlap(&self, other: &Self) -> Option<IpAddr> {
        [IpFamily::IPv4, IpFamily::IPv6].into_iter().find_map(|family| {
            let mut spans = other.line(family).0.iter();
            spans.find_map(|(low, high)| self.line(family).meet(*low, *high)).map(|(n, _)| address(family, n))
        })
    }

    /// How many there are, or as many as a number can say.
    pub fn count(&self) -> u128 {
        self.v4.count().saturating_add(self.v6.count())
    }

    fn line(&self, family: IpFamily) -> &Line {
        match family {
            IpFamily::IPv4 => &self.v4,
            IpFamily::IPv6 => &self.v6,
        }
    }

    fn line_mut(&mut self, family: IpFamily) -> &mut Line {
        match family {
            IpFamily::IPv4 => &mut self.v4,
            IpFamily::IPv6 => &mut self.v6,
        }
    }
}

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(family: IpFamily, number: u128) -> IpAddr {
    match family {
        IpFamily::IPv4 => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        IpFamily::IPv6 => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    fn spans(ranges: &[&str]) -> Spans {
        let ranges: Vec<Range> = ranges.iter().map(|r| r.parse().unwrap()).collect();
        Spans::of(&ranges)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_become_one_span() {
        let mut set = spans(&["10.0.0.0-10.0.0.4", "10.0.0.6-10.0.0.9"]);
        set.insert(ip("10.0.0.5"));
        assert_eq!(set, spans(&["10.0.0.0-10.0.0.9"]));
    }

    #[test]
    fn the_first_and_the_last_address_are_there() {
        let mut set = spans(&["10.0.0.0/30"]);
        assert_eq!(set.first(IpFamily::IPv4), Some(ip("10.0.0.0")));
        for address in ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            assert!(set.contains(ip(address)));
            set.remove(ip(address));
        }
        assert_eq!(set, Spans::default());
    }

    #[test]
    fn the_whole_of_ipv6_is_one_span() {
        let mut set = spans(&["::/0"]);
        set.remove(ip("::"));
        set.remove(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        assert_eq!(set.count(), u128::MAX - 1);
        set.insert(ip("::"));
        assert_eq!(set.first(IpFamily::IPv6), Some(ip("::")));
    }

    #[test]
    fn ranges_become_as_few_networks_as_there_can_be() {
        let networks: Vec<_> = spans(&["10.0.0.1-10.0.0.4", "10.0.1.0/24", "::/64"]).ipv4_networks().collect();
        let texts: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32", "10.0.1.0/24"]);
    }

    #[test]
    fn an_intersection_holds_what_both_hold() {
        let one = spans(&["10.0.0.0-10.0.0.9", "10.0.0.20-10.0.0.29"]);
        let other = spans(&["10.0.0.5-10.0.0.24", "2001:db8::/64"]);
        assert_eq!(one.intersection(&other), spans(&["10.0.0.5-10.0.0.9", "10.0.0.20-10.0.0.24"]));
        assert_eq!(one.overlap(&other), Some(ip("10.0.0.5")));
        assert_eq!(spans(&["10.0.1.0/24"]).overlap(&one), None);
    }

    proptest! {
        #[test]
        fn spans_hold_what_a_set_holds(edits in prop::collection::vec((any::<bool>(), 0_u32..64, 0_u32..8), 0..60)) {
            let mut model = BTreeSet::new();
            let mut set = Spans::default();
            for (adds, low, length) in edits {
                let high = low + length;
                if adds {
                    model.extend(low..=high);
                    set.v4.insert(low.into(), high.into());
                } else {
                    model.retain(|n| *n < low || *n > high);
                    set.v4.remove(low.into(), high.into());
                }
                prop_assert_eq!(set.count(), model.len() as u128);
                prop_assert!((0..80_u32).all(|n| set.contains(IpAddr::V4(n.into())) == model.contains(&n)));
                prop_assert!(set.v4.0.iter().zip(set.v4.0.iter().skip(1)).all(|(a, b)| a.1 + 1 < *b.0));
            }
        }
    }
}
