//! Who waits for which addresses, the oldest first. Knows ages; knows not whether anything is free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::tcp_load_balancer::IpFamily;

use crate::{Key, Timestamp};

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Await {
    /// Any address of a family of a pool.
    Any(Arc<str>, IpFamily),
    /// This address.
    Exactly(IpAddr),
    /// Room on any address that the load balancers of a namespace have: such a one counts for nothing where addresses are limited.
    Own(Arc<str>),
}

/// Age, then name: the order in which who waits is served.
pub(super) type Turn = (Timestamp, Key);

/// All who wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: BTreeMap<Await, BTreeSet<Turn>>,
    places: BTreeMap<Key, (Timestamp, BTreeSet<Await>)>,
}

impl Waiting {
    /// From now on it waits for these, and for nothing else.
    pub fn set(&mut self, (born, key): Turn, awaits: BTreeSet<Await>) {
        self.leave(&key);
        if awaits.is_empty() {
            return;
        }
        for what in &awaits {
            self.lines.entry(what.clone()).or_default().insert((born, key.clone()));
        }
        self.places.insert(key, (born, awaits));
    }

    /// It waits for nothing any more.
    pub fn leave(&mut self, key: &Key) {
        let Some((born, awaits)) = self.places.remove(key) else { return };
        for what in awaits {
            if let Some(line) = self.lines.get_mut(&what) {
                line.remove(&(born, key.clone()));
                if line.is_empty() {
                    self.lines.remove(&what);
                }
            }
        }
    }

    /// All who wait for this.
    pub fn all(&self, what: &Await) -> impl Iterator<Item = &Turn> {
        self.lines.get(what).into_iter().flatten()
    }

    /// The oldest who waits for one of these and was not tried.
    pub fn oldest<'a>(&self, what: impl Iterator<Item = &'a Await>, tried: &BTreeSet<Turn>) -> Option<Turn> {
        let lines = what.filter_map(|what| self.lines.get(what));
        lines.filter_map(|line| line.iter().find(|turn| !tried.contains(*turn))).min().cloned()
    }
}
