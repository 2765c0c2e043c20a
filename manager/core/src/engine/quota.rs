//! Whether a tenant may have as much as it asks for. The newest is refused, never what has an address. Knows limits and sums.

use std::collections::BTreeMap;
use std::sync::Arc;

use nave_api::tenant::{Quota, Usage};

use super::Engine;
use crate::key::{born, uid};
use crate::problem::Problem;
use crate::{Key, Timestamp};

impl Engine {
    /// Admits or refuses the load balancers of the tenants whose usage or limits changed; returns those that changed sides.
    pub(super) fn admit(&mut self) -> Vec<Key> {
        let namespaces: Vec<Arc<str>> = self.dirt.namespaces.iter().cloned().collect();
        namespaces.iter().flat_map(|namespace| self.admit_tenant(namespace)).collect()
    }

    fn admit_tenant(&mut self, namespace: &Arc<str>) -> Vec<Key> {
        let refused = self.over_quota(namespace);
        if refused.is_empty() && !self.limited.contains(namespace) {
            return Vec::new();
        }
        if refused.is_empty() {
            self.limited.remove(namespace);
        } else {
            self.limited.insert(Arc::clone(namespace));
        }
        let members = self.world.by_namespace.get(namespace).into_iter().flatten();
        let mut turned = Vec::new();
        for key in members {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            let verdict = refused.get(key).cloned();
            if entry.refused != verdict {
                entry.refused = verdict;
                turned.push(key.clone());
            }
        }
        turned
    }

    /// Who exceeds which limit. What has an address counts first and is never refused; then the older, then the lower name.
    fn over_quota(&self, namespace: &Arc<str>) -> BTreeMap<Key, Problem> {
        let mut refused = BTreeMap::new();
        let Some(tenant) = self.world.tenant(namespace) else { return refused };
        let Some(quota) = &tenant.spec.quota else { return refused };
        let name = tenant.metadata.name.clone().unwrap_or_default();
        let total = self.usage.get(namespace).copied().unwrap_or_default();
        if exceeded(quota, &total).is_none() {
            return refused;
        }
        let mut sum = Usage::default();
        for (_, key) in self.by_seniority(namespace) {
            let weight = self.entries.get(&key).map(|entry| entry.weight).unwrap_or_default();
            let with = add(sum, weight);
            match exceeded(quota, &with).filter(|_| !self.is_running(&key)) {
                Some((field, limit)) => {
                    refused.insert(key, Problem::Quota { tenant: name.clone(), field, limit });
                }
                None => sum = with,
            }
        }
        refused
    }

    fn by_seniority(&self, namespace: &Arc<str>) -> Vec<((bool, Timestamp), Key)> {
        let members = self.world.by_namespace.get(namespace).into_iter().flatten();
        let ranked = members.filter_map(|key| {
            let balancer = self.world.balancers.find(key)?;
            Some(((!self.is_running(key), born(&balancer.metadata)), key.clone()))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort();
        ranked
    }

    /// Whether an address is recorded for it.
    fn is_running(&self, key: &Key) -> bool {
        let balancer = self.world.balancers.find(key);
        balancer.is_some_and(|balancer| self.world.records.of(key, uid(&balancer.metadata)).next().is_some())
    }

    /// What the tenant of this namespace uses now. What is refused uses nothing.
    pub(super) fn used(&self, namespace: &Arc<str>) -> Usage {
        let total = self.usage.get(namespace).copied().unwrap_or_default();
        let mut refused = Usage::default();
        if self.limited.contains(namespace) {
            let members = self.world.by_namespace.get(namespace).into_iter().flatten();
            let entries = members.filter_map(|key| self.entries.get(key)).filter(|entry| entry.refused.is_some());
            refused = entries.fold(refused, |sum, entry| add(sum, entry.weight));
        }
        Usage {
            load_balancers: total.load_balancers.saturating_sub(refused.load_balancers),
            addresses: self.addresses_in(namespace),
            ports: total.ports.saturating_sub(refused.ports),
            endpoints: total.endpoints.saturating_sub(refused.endpoints),
        }
    }

    /// Addresses that are recorded or being recorded for the load balancers of a namespace.
    pub(super) fn addresses_in(&self, namespace: &Arc<str>) -> u32 {
        self.world.records.count_in(namespace)
    }
}

fn add(one: Usage, other: Usage) -> Usage {
    Usage {
        load_balancers: one.load_balancers.saturating_add(other.load_balancers),
        addresses: one.addresses.saturating_add(other.addresses),
        ports: one.ports.saturating_add(other.ports),
        endpoints: one.endpoints.saturating_add(other.endpoints),
    }
}

/// The first limit that the usage exceeds. Addresses are limited where they are given, hostnames elsewhere.
fn exceeded(quota: &Quota, usage: &Usage) -> Option<(&'static str, u32)> {
    let Quota { load_balancers, addresses: _, ports, endpoints, hostnames: _ } = quota;
    let limits = [
        ("loadBalancers", load_balancers, usage.load_balancers),
        ("ports", ports, usage.ports),
        ("endpoints", endpoints, usage.endpoints),
    ];
    limits.into_iter().find_map(|(field, limit, used)| limit.filter(|limit| used > *limit).map(|limit| (field, limit)))
}
