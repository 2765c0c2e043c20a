//! Whose backends lie where, so that a change of what is forbidden touches those whom it concerns. Knows addresses and
//! names; judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::Key;
use crate::pool::Spans;

use super::networks::{embedded, plain};

/// Who names a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Namer {
    NodeSet(Key),
    Balancer(Key),
}

/// Every address that a backend's packets may end at, and who names it.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<IpAddr, BTreeSet<Namer>>);

impl Places {
    /// From now on it names these, and none of those before.
    pub fn moved(&mut self, namer: &Namer, before: &BTreeSet<IpAddr>, after: &BTreeSet<IpAddr>) {
        for address in before.difference(after) {
            if let Some(namers) = self.0.get_mut(address) {
                namers.remove(namer);
                if namers.is_empty() {
                    self.0.remove(address);
                }
            }
        }
        for address in after.difference(before) {
            self.0.entry(*address).or_default().insert(namer.clone());
        }
    }

    /// All who name an address of these.
    pub fn within(&self, spans: &Spans) -> BTreeSet<Namer> {
        spans
            .ranges()
            .flat_map(|(low, high)| self.0.range(low..=high))
            .flat_map(|(_, namers)| namers)
            .cloned()
            .collect()
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
