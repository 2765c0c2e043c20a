//! Whose backends lie where, so that a change of what is forbidden touches those whom it concerns. Knows addresses and
//! names; judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::Key;
use crate::pool::Spans;

use super::networks::{embedded, plain};

/// What names a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Namer {
    NodeSet(Key),
    Balancer(Key),
}

/// Every address that a backend's packets may end at, and what names it. A tenant may name tens of thousands in each of its objects:
/// an address costs a few dozen bytes.
#[derive(Debug, Default)]
pub(crate) struct Places {
    named: BTreeSet<(IpAddr, Number)>,
    numbers: BTreeMap<Namer, Number>,
    namers: BTreeMap<Number, Namer>,
    next: Number,
}

/// Stands for a namer as long as it names something.
type Number = u64;

impl Places {
    /// From now on it names these, and none of those before.
    pub fn moved(&mut self, namer: &Namer, before: &BTreeSet<IpAddr>, after: &BTreeSet<IpAddr>) {
        if before.is_empty() && after.is_empty() {
            return;
        }
        let number = self.number(namer);
        for address in before.difference(after) {
            self.named.remove(&(*address, number));
        }
        self.named.extend(after.difference(before).map(|address| (*address, number)));
        if after.is_empty() {
            self.numbers.remove(namer);
            self.namers.remove(&number);
        }
    }

    /// All that name an address of these.
    pub fn within(&self, spans: &Spans) -> BTreeSet<Namer> {
        let within = |(low, high)| self.named.range((low, Number::MIN)..=(high, Number::MAX));
        let numbers: BTreeSet<Number> = spans.ranges().flat_map(within).map(|(_, number)| *number).collect();
        numbers.iter().filter_map(|number| self.namers.get(number)).cloned().collect()
    }

    fn number(&mut self, namer: &Namer) -> Number {
        if let Some(number) = self.numbers.get(namer) {
            return *number;
        }
        self.next += 1;
        self.numbers.insert(namer.clone(), self.next);
        self.namers.insert(self.next, namer.clone());
        self.next
    }
}

/// Where packets to these may end. What is no address leads nowhere.
pub(crate) fn ends<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<IpAddr> {
    let addresses = texts.filter_map(|text| text.parse().ok()).map(plain);
    let within = |address| match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(v6) => embedded(v6),
    };
    addresses.flat_map(|address| std::iter::once(address).chain(within(address).into_iter().map(IpAddr::V4))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn places_name_each_object_as_long_as_it_has_an_address_there() {
        let mut places = Places::default();
        let [web, nodes] = [Namer::Balancer(Key::new("a", "web")), Namer::NodeSet(Key::new("b", "default"))];
        let none = BTreeSet::new();
        places.moved(&web, &none, &set(&["10.0.0.1", "10.0.0.9"]));
        places.moved(&nodes, &none, &set(&["10.0.0.1", "fd00::1"]));
        let within = |places: &Places, network: &str| places.within(&Spans::of_networks([&network.parse().unwrap()]));
        assert_eq!(within(&places, "10.0.0.0/29"), [web.clone(), nodes.clone()].into());
        assert_eq!(within(&places, "10.0.0.8/29"), [web.clone()].into());
        assert_eq!(within(&places, "fd00::/16"), [nodes.clone()].into());
        places.moved(&web, &set(&["10.0.0.1", "10.0.0.9"]), &none);
        assert_eq!(within(&places, "10.0.0.0/8"), [nodes.clone()].into());
        places.moved(&web, &none, &set(&["10.0.0.9"]));
        assert_eq!(within(&places, "10.0.0.8/29"), [web].into());
        places.moved(&nodes, &set(&["10.0.0.1", "fd00::1"]), &none);
        assert_eq!(places.namers.len(), 1, "nothing is kept of an object that names no address");
    }
}
