//! Who had which free address last: he is preferred while it is free. Knows the newest few of each pool, fairly among
//! tenants; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nave_api::ip_pool::LastOwner;

use crate::Key;

/// So many are remembered for each pool; they are part of its status, and so survive restarts.
const MOST: usize = 100;

/// Last owners of free addresses.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// By pool, the newest last.
    by_pool: BTreeMap<String, Vec<(IpAddr, Key)>>,
    by_owner: BTreeMap<Key, BTreeSet<IpAddr>>,
    /// The pool under which an address is remembered.
    pools: BTreeMap<IpAddr, String>,
    /// Pools whose status was read, once in this life.
    adopted: BTreeSet<String>,
    /// Pools whose list changed since they were asked for.
    touched: BTreeSet<String>,
}

impl Former {
    /// The addresses that a load balancer of this name had last.
    pub fn of(&self, key: &Key) -> impl Iterator<Item = IpAddr> {
        self.by_owner.get(key).into_iter().flatten().copied()
    }

    /// The address is free now, and was his. Where too many are remembered, the tenant that has most loses its oldest: nobody
    /// makes others forgotten.
    pub fn remember(&mut self, pool: &str, address: IpAddr, owner: Key) {
        self.forget(address);
        self.touched.insert(pool.to_owned());
        let entries = self.by_pool.entry(pool.to_owned()).or_default();
        entries.push((address, owner.clone()));
        self.by_owner.entry(owner).or_default().insert(address);
        self.pools.insert(address, pool.to_owned());
        if entries.len() > MOST {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for (_, key) in &*entries {
                *counts.entry(&key.namespace).or_default() += 1;
            }
            let greediest =
                counts.iter().max_by_key(|(_, count)| **count).map(|(namespace, _)| (*namespace).to_owned());
            let oldest = entries.iter().find(|(_, key)| Some(&*key.namespace) == greediest.as_deref());
            if let Some(address) = oldest.map(|(address, _)| *address) {
                self.forget(address);
            }
        }
    }

    /// The address is somebody's again.
    pub fn forget(&mut self, address: IpAddr) {
        let Some(pool) = self.pools.remove(&address) else { return };
        self.touched.insert(pool.clone());
        let Some(entries) = self.by_pool.get_mut(&pool) else { return };
        if let Some(at) = entries.iter().position(|(other, _)| *other == address) {
            let (_, owner) = entries.remove(at);
            if let Some(addresses) = self.by_owner.get_mut(&owner) {
                addresses.remove(&address);
                if addresses.is_empty() {
                    self.by_owner.remove(&owner);
                }
            }
        }
        if entries.is_empty() {
            self.by_pool.remove(&pool);
        }
    }

    /// What the status of a pool says, the newest first.
    pub fn list(&self, pool: &str) -> Vec<LastOwner> {
        let entry = |(address, owner): &(IpAddr, Key)| LastOwner {
            address: address.to_string(),
            namespace: owner.namespace.to_string(),
            name: owner.name.to_string(),
        };
        self.by_pool.get(pool).into_iter().flat_map(|entries| entries.iter().rev().map(entry)).collect()
    }

    /// The pools whose list changed since this was asked last.
    pub fn take_touched(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.touched)
    }

    /// Whether the status of this pool is still to be read.
    pub fn is_unread(&self, pool: &str) -> bool {
        !self.adopted.contains(pool)
    }

    /// Takes in what the status of a pool said when this life began; what is seen in this life counts more.
    pub fn adopt(&mut self, pool: &str, said: &[LastOwner], is_taken: impl Fn(IpAddr) -> bool) {
        self.adopted.insert(pool.to_owned());
        for LastOwner { address, namespace, name } in said.iter().rev() {
            let Ok(address) = address.parse() else { continue };
            if !is_taken(address) && !self.pools.contains_key(&address) {
                self.remember(pool, address, Key::new(namespace.as_str(), name.as_str()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, n])
    }

    #[test]
    fn a_tenant_that_comes_and_goes_makes_nobody_forgotten_but_itself() {
        let mut former = Former::default();
        former.remember("public", ip(255), Key::new("tenant-quiet", "web"));
        for n in 0..200 {
            former.remember("public", ip(n), Key::new("tenant-busy", format!("lb-{n}")));
        }
        assert_eq!(former.list("public").len(), MOST);
        assert_eq!(former.of(&Key::new("tenant-quiet", "web")).collect::<Vec<_>>(), [ip(255)]);
        assert_eq!(former.of(&Key::new("tenant-busy", "lb-0")).next(), None);
    }

    #[test]
    fn what_is_listed_is_what_another_life_begins_with() {
        let mut former = Former::default();
        former.remember("public", ip(1), Key::new("tenant-shop", "web"));
        former.remember("public", ip(2), Key::new("tenant-shop", "mail"));
        let mut next = Former::default();
        next.adopt("public", &former.list("public"), |_| false);
        assert_eq!(next.list("public"), former.list("public"));
        let mut later = Former::default();
        later.adopt("public", &former.list("public"), |address| address == ip(1));
        assert_eq!(later.of(&Key::new("tenant-shop", "web")).next(), None);
    }
}
