//! Where a tenant's limits meet its load balancers. Knows whose turn it is to be judged; what each may have is decided in
//! `limits`.

use std::collections::BTreeSet;
use std::sync::Arc;

use nave_api::TCPLoadBalancer;
use nave_api::tenant::Usage;

use super::Engine;
use super::serve::Entry;
use crate::Key;
use crate::key::{born, uid};
use crate::limits::{Claim, Rank, Say, Verdict};
use crate::ports::wanted;
use crate::problem::Problem;
use crate::seen::Role;

impl Engine {
    /// Takes in what a load balancer asks for now.
    pub(super) fn claim(&mut self, key: &Key, balancer: &TCPLoadBalancer, entry: &mut Entry, backends: u32) {
        let say = self.say();
        let records = &self.world.records;
        let uid = uid(&balancer.metadata);
        let own: Vec<_> = records.of(key, uid).collect();
        let comes = records.coming(key).next().is_some();
        let rank = Rank { waits: own.is_empty() && !comes, born: born(&balancer.metadata), key: key.clone() };
        let line = self.lines.entry(Arc::clone(&key.namespace)).or_default();
        let ports = wanted(&balancer.spec.ports);
        let recorded = own.iter().filter_map(|(_, object)| crate::records::find_owner(object, key, uid));
        let mut has: BTreeSet<_> =
            recorded.flat_map(|owner| &owner.ports).map(|port| (port.protocol, port.wanted())).collect();
        // What is being recorded was granted, and is granted to nobody else meanwhile.
        if comes || own.iter().any(|(address, _)| records.flight(*address).is_some()) {
            has.extend(entry.rank.as_ref().map(|before| line.granted(before)).unwrap_or_default());
        }
        has.retain(|door| ports.contains(door));
        let status = entry.said.as_ref().or(balancer.status.as_ref());
        let served = status.and_then(|status| status.backends).map_or(0, |told| told.ready);
        line.put(entry.rank.as_ref(), rank.clone(), Claim { ports, has, backends, served }, say);
        entry.rank = Some(rank);
        self.dirt.namespaces.insert(Arc::clone(&key.namespace));
    }

    fn say(&self) -> Say {
        match self.role {
            Role::Leader => Say::Ours,
            Role::Follower => Say::Leaders,
        }
    }

    /// It asks for nothing any more.
    pub(super) fn unclaim(&mut self, key: &Key, rank: Option<&Rank>) {
        self.world.withheld.remove(key);
        if let Some((rank, line)) = rank.zip(self.lines.get_mut(&key.namespace)) {
            line.remove(rank);
            if line.is_empty() {
                self.lines.remove(&key.namespace);
            }
        }
        self.dirt.namespaces.insert(Arc::clone(&key.namespace));
    }

    /// It is being given an address.
    pub(super) fn begins(&mut self, key: &Key) {
        let rank = self.entries.get_mut(key).and_then(|entry| entry.rank.as_mut());
        if let Some((rank, line)) = rank.zip(self.lines.get_mut(&key.namespace)) {
            line.begin(rank);
        }
    }

    /// Judges the tenants whose usage or limits changed; returns the load balancers that get something else than before.
    pub(super) fn admit(&mut self) -> Vec<Key> {
        let namespaces: Vec<Arc<str>> = self.dirt.namespaces.iter().cloned().collect();
        namespaces.iter().flat_map(|namespace| self.admit_tenant(namespace)).collect()
    }

    fn admit_tenant(&mut self, namespace: &Arc<str>) -> Vec<Key> {
        let tenant = self.world.tenant(namespace);
        let quota = tenant.and_then(|tenant| tenant.spec.quota.as_ref());
        let name = tenant.and_then(|tenant| tenant.metadata.name.clone()).unwrap_or_default();
        let Some(line) = self.lines.get_mut(namespace) else { return Vec::new() };
        let mut turned = Vec::new();
        for (key, Verdict { refused, withheld, ports, backends, endpoints }) in line.decide(quota) {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let refused = refused.map(|(field, limit)| Problem::Quota { tenant: name.clone(), field, limit });
            let kept_back = (!withheld.is_empty()).then(|| Problem::PortsWithheld {
                tenant: name.clone(),
                limit: ports.unwrap_or_default(),
                ports: withheld.iter().copied().collect(),
            });
            let cut = backends.map(|served| Problem::BackendsLimited {
                tenant: name.clone(),
                limit: endpoints.unwrap_or_default(),
                served,
            });
            entry.limits = refused.into_iter().chain(kept_back).chain(cut).collect();
            entry.backends = backends;
            if withheld.is_empty() {
                self.world.withheld.remove(&key);
            } else {
                self.world.withheld.insert(key.clone(), withheld);
            }
            turned.push(key);
        }
        turned
    }

    /// What the tenant of this namespace uses now. What is refused uses nothing.
    pub(super) fn used(&self, namespace: &Arc<str>) -> Usage {
        let used = self.lines.get(namespace).map(crate::limits::Line::used).unwrap_or_default();
        Usage { addresses: self.addresses_in(namespace), ..used }
    }

    /// Addresses that are recorded or being recorded for the load balancers of a namespace.
    pub(super) fn addresses_in(&self, namespace: &Arc<str>) -> u32 {
        self.world.records.count_in(namespace)
    }
}
