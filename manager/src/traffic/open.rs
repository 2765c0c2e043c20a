//! The TCP connections that one Envoy has open, by load balancer and by port, and what of it the engine needs. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use nave_manager_core::{Key, Open, OpenOfTenant};

/// What one Envoy measured last.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    balancers: BTreeMap<Key, u32>,
    /// By the name of the cluster.
    ports: BTreeMap<String, u32>,
    fresh: bool,
}

impl Gauges {
    /// Clients of all TCP ports of a load balancer.
    pub(super) fn balancer(&mut self, of: &Key, count: u64) {
        self.fresh = true;
        self.balancers.insert(of.clone(), small(count));
    }

    /// Connections to the backends of one port.
    pub(super) fn port(&mut self, cluster: Option<String>, count: u64) {
        self.ports.extend(cluster.map(|cluster| (cluster, small(count))));
    }

    /// Whether something was measured since [`Gauges::open`].
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Forgets what is not served any more.
    pub(super) fn retain(&mut self, balancer: impl Fn(&Key) -> bool, port: impl Fn(&str) -> bool) {
        self.balancers.retain(|key, _| balancer(key));
        self.ports.retain(|cluster, _| port(cluster));
    }

    /// What is open, with the tenants and ports that have the most. The fleet and the node are left to the caller.
    pub(super) fn open(&mut self) -> Open {
        self.fresh = false;
        let mut tenants: BTreeMap<&Arc<str>, u32> = BTreeMap::new();
        for (Key { namespace, name: _ }, count) in &self.balancers {
            let total = tenants.entry(namespace).or_default();
            *total = total.saturating_add(*count);
        }
        let total = tenants.values().fold(0, |sum: u32, total| sum.saturating_add(*total));
        let mut greatest: Vec<(&Arc<str>, u32)> = tenants.into_iter().collect();
        greatest.sort_by_key(|(namespace, total)| (Reverse(*total), Arc::clone(namespace)));
        let tenant = |(namespace, total): (&Arc<str>, u32)| {
            (Arc::clone(namespace), OpenOfTenant { total, ports: self.busiest(namespace) })
        };
        let tenants = greatest.into_iter().take(Open::TENANTS).map(tenant).collect();
        Open { total, tenants, ..Open::default() }
    }

    fn busiest(&self, namespace: &str) -> BTreeMap<Arc<str>, u32> {
        let prefix = format!("{namespace}/");
        let own = self.ports.range(prefix.clone()..).take_while(|(cluster, _)| cluster.starts_with(&prefix));
        let mut own: Vec<(&String, u32)> = own.map(|(cluster, count)| (cluster, *count)).collect();
        own.retain(|(_, count)| *count > 0);
        own.sort_by_key(|(cluster, count)| (Reverse(*count), *cluster));
        own.into_iter().take(Open::PORTS).map(|(cluster, count)| (cluster.as_str().into(), count)).collect()
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g_the_tenants_and_ports_with_the_most_are_named_and_all_are_counted() {
        let mut gauges = Gauges::default();
        for (tenant, count) in ["a", "b", "c", "d", "e"].into_iter().zip([5, 50, 10, 20, 40]) {
            gauges.balancer(&Key::new(format!("tenant-{tenant}"), "web"), count);
        }
        gauges.balancer(&Key::new("tenant-b", "gone"), 1000);
        for port in 1..=20 {
            gauges.port(Some(format!("tenant-b/web/tcp/{port}")), port);
        }
        gauges.port(Some("tenant-bb/web/tcp/1".to_owned()), 7);
        gauges.retain(|key| &*key.name == "web", |_| true);
        assert!(gauges.is_fresh());
        let open = gauges.open();
        assert!(!gauges.is_fresh());
        let totals: Vec<(&str, u32)> = open.tenants.iter().map(|(name, tenant)| (&**name, tenant.total)).collect();
        assert_eq!(
            (open.total, totals),
            (125, vec![("tenant-b", 50), ("tenant-c", 10), ("tenant-d", 20), ("tenant-e", 40)])
        );
        let ports = &open.tenants["tenant-b"].ports;
        assert_eq!((ports.len(), ports.values().min()), (Open::PORTS, Some(&5)));
    }

    #[test]
    fn c1_no_count_overflows_the_sum() {
        let mut gauges = Gauges::default();
        for name in ["a", "b"] {
            gauges.balancer(&Key::new("tenant-a", name), u64::MAX);
        }
        assert_eq!(gauges.open().total, u32::MAX);
    }
}
