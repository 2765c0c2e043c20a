//! TCP connections of the tenants that share one Envoy. They may be overbooked: Envoy refuses what exceeds its budget. Above a mark, the
//! tenant with the most open connections is held to half of the budget, so that the others can connect. Knows namespaces and numbers;
//! knows no listener and no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Above so many percent of the budget a tenant is held.
const BEGINS: u64 = 70;
/// Below so many percent no tenant is held any more: a hold must not come and go with each connection.
const ENDS: u64 = 50;
/// Tenants that are held at one Envoy at most: two have half of the budget each.
const TENANTS: usize = 2;
/// Ports of a held tenant that have a number of their own; the others share one.
const PORTS: usize = 8;

/// TCP connections that are open at one Envoy, as it measured last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// The fleet of its certificate.
    pub fleet: Arc<str>,
    /// The node of its certificate.
    pub node: Arc<str>,
    /// Connections of all tenants together.
    pub total: u32,
    /// Those of the tenants with the most, by namespace: at most [`Open::TENANTS`].
    pub tenants: BTreeMap<Arc<str>, OpenOfTenant>,
}

/// Connections of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOfTenant {
    /// At all of its listeners.
    pub total: u32,
    /// At those of its ports that have the most, by the name of the cluster: at most [`Open::PORTS`].
    pub ports: BTreeMap<Arc<str>, u32>,
}

impl Open {
    /// Tenants that an [`Open`] lists.
    pub const TENANTS: usize = 4;
    /// Ports of each that it lists.
    pub const PORTS: usize = 16;
}

/// How many connections a tenant may have open at once at one Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// At all of its listeners together.
    pub connections: u32,
    /// At single ports, by the name of the cluster. What these leave, the other ports share.
    pub ports: BTreeMap<Arc<str>, u32>,
}

/// Which tenants are held from now on, by namespace. `budget` is what the Envoy accepts at once; `most` is what a tenant may have while it
/// is held, nothing where it is no tenant of the fleet.
pub(crate) fn hold(
    before: &BTreeMap<Arc<str>, Hold>,
    budget: u32,
    open: &Open,
    most: impl Fn(&Arc<str>) -> Option<u32>,
) -> BTreeMap<Arc<str>, Hold> {
    let share = u64::from(open.total) * 100;
    if share < u64::from(budget) * ENDS {
        return BTreeMap::new();
    }
    let total = |namespace: &Arc<str>| open.tenants.get(namespace).map_or(0, |tenant| tenant.total);
    let by_size = |namespace: &&Arc<str>| (std::cmp::Reverse(total(namespace)), Arc::clone(namespace));
    let greatest = open.tenants.keys().filter(|namespace| most(namespace).is_some()).min_by_key(by_size);
    let more = greatest.filter(|_| share > u64::from(budget) * BEGINS);
    let mut held: Vec<&Arc<str>> = before.keys().chain(more).collect();
    held.sort_by_key(by_size);
    held.dedup();
    let hold = |namespace: &Arc<str>| {
        let connections = (budget / 2).min(most(namespace)?);
        let before = before.get(namespace).filter(|before| before.connections == connections);
        let now = match (open.tenants.get(namespace), before) {
            (Some(tenant), before) => tenant.divide(connections).unless_near(before),
            (None, Some(before)) => before.clone(),
            (None, None) => Hold { connections, ports: BTreeMap::new() },
        };
        Some((Arc::clone(namespace), now))
    };
    held.into_iter().filter_map(hold).take(TENANTS).collect()
}

impl OpenOfTenant {
    /// Divides what the tenant may have among its ports: each gets what it has open and as much more as there is, or less in proportion
    /// where there is not as much. A tenth stays with the ports that have no number of their own.
    fn divide(&self, connections: u32) -> Hold {
        let mut busiest: Vec<(&Arc<str>, u64)> = self.ports.iter().map(|(port, open)| (port, (*open).into())).collect();
        busiest.sort_by_key(|(port, open)| (std::cmp::Reverse(*open), Arc::clone(port)));
        busiest.retain(|(_, open)| *open > 0);
        busiest.truncate(PORTS);
        let own = u64::from(connections - connections.div_ceil(10));
        let open: u64 = busiest.iter().map(|(_, open)| *open).sum();
        let more = own.saturating_sub(open) / (busiest.len() as u64).max(1);
        let limit = |open_here: u64| if open <= own { open_here + more } else { open_here * own / open };
        let ports =
            busiest.into_iter().map(|(port, open)| (Arc::clone(port), limit(open).try_into().unwrap_or(u32::MAX)));
        Hold { connections, ports: ports.collect() }
    }
}

impl Hold {
    /// What was decided before, unless this differs by more than a twentieth of it at some port: a number that moves with each connection
    /// would be written each time.
    fn unless_near(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        let number = |hold: &Self, port: &Arc<str>| hold.ports.get(port).copied().unwrap_or(0);
        let near = self.connections / 20;
        let ports = self.ports.keys().chain(before.ports.keys());
        let is_near = ports.into_iter().all(|port| number(&self, port).abs_diff(number(before, port)) <= near);
        if is_near { before.clone() } else { self }
    }

    /// The limit of each listener, of the tenant's listeners by the name of their cluster. They add up to no more than the hold. A port
    /// that has several addresses has its number divided among them.
    pub fn limits<'a>(&self, listeners: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>) -> BTreeMap<Arc<str>, u32> {
        let mut shares: BTreeMap<Option<&Arc<str>>, Vec<&Arc<str>>> = BTreeMap::new();
        for (cluster, listener) in listeners {
            let own = self.ports.get_key_value(cluster).map(|(port, _)| port);
            shares.entry(own).or_default().push(listener);
        }
        let of_ports: u32 = self.ports.values().sum();
        let others = self.connections.saturating_sub(of_ports);
        let mut limits = BTreeMap::new();
        for (port, mut listeners) in shares {
            listeners.sort();
            let all = port.and_then(|port| self.ports.get(port)).copied().unwrap_or(others);
            let count = u32::try_from(listeners.len()).unwrap_or(u32::MAX);
            for (i, listener) in (0..).zip(listeners) {
                limits.insert(Arc::clone(listener), all / count + u32::from(i < all % count));
            }
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(tenants: &[(&str, &[(&str, u32)])]) -> Open {
        let tenant = |(name, ports): &(&str, &[(&str, u32)])| {
            let ports: BTreeMap<Arc<str>, u32> = ports.iter().map(|(port, open)| ((*port).into(), *open)).collect();
            (Arc::from(*name), OpenOfTenant { total: ports.values().sum(), ports })
        };
        let tenants: BTreeMap<Arc<str>, OpenOfTenant> = tenants.iter().map(tenant).collect();
        let total = tenants.values().map(|tenant| tenant.total).sum();
        Open { fleet: "default".into(), node: "edge-1".into(), total, tenants }
    }

    fn held(before: &BTreeMap<Arc<str>, Hold>, open: &Open) -> BTreeMap<Arc<str>, Hold> {
        hold(before, 1000, open, |_| Some(u32::MAX))
    }

    fn names(held: &BTreeMap<Arc<str>, Hold>) -> Vec<&str> {
        held.keys().map(AsRef::as_ref).collect()
    }

    #[test]
    fn g_above_seven_tenths_the_tenant_with_the_most_is_held_until_half_is_left() {
        let none = BTreeMap::new();
        assert_eq!(held(&none, &open(&[("a", &[("a/1", 600)]), ("b", &[("b/1", 100)])])), none, "700 of 1000");
        let now = held(&none, &open(&[("a", &[("a/1", 601)]), ("b", &[("b/1", 100)])]));
        assert_eq!(names(&now), ["a"]);
        assert_eq!(now["a"].connections, 500);
        let later = held(&now, &open(&[("a", &[("a/1", 300)]), ("b", &[("b/1", 350)])]));
        assert_eq!(names(&later), ["a"], "650: it stays, and no other tenant is held");
        assert_eq!(held(&later, &open(&[("a", &[("a/1", 400)]), ("b", &[("b/1", 99)])])), none, "499");
    }

    #[test]
    fn g_a_second_tenant_that_grows_is_held_too_and_a_third_takes_the_place_of_the_smallest() {
        let first = held(&BTreeMap::new(), &open(&[("a", &[("a/1", 400)]), ("b", &[("b/1", 350)])]));
        let second = held(&first, &open(&[("a", &[("a/1", 300)]), ("b", &[("b/1", 450)])]));
        assert_eq!(names(&second), ["a", "b"]);
        let third = held(&second, &open(&[("a", &[("a/1", 200)]), ("b", &[("b/1", 300)]), ("c", &[("c/1", 400)])]));
        assert_eq!(names(&third), ["b", "c"]);
    }

    #[test]
    fn g_a_quota_lowers_the_hold_and_a_namespace_without_tenant_is_not_held() {
        let open = open(&[("a", &[("a/1", 800)]), ("gone", &[("gone/1", 900)])]);
        let now = hold(&BTreeMap::new(), 1000, &open, |namespace| (&**namespace == "a").then_some(200));
        assert_eq!((names(&now), now["a"].connections), (vec!["a"], 200));
    }

    #[test]
    fn g_busy_ports_keep_what_they_have_and_share_what_is_left() {
        let tenant = &open(&[("a", &[("a/1", 300), ("a/2", 100), ("a/3", 0)])]).tenants["a"];
        let ports = |hold: &Hold| hold.ports.values().copied().collect::<Vec<_>>();
        assert_eq!(ports(&tenant.divide(500)), [325, 125], "450 of 500 are theirs");
        assert_eq!(ports(&tenant.divide(200)), [135, 45], "less than they have: in proportion");
    }

    #[test]
    fn g_a_number_that_moves_a_little_is_not_written_again() {
        let first = held(&BTreeMap::new(), &open(&[("a", &[("a/1", 400), ("a/2", 350)])]));
        assert_eq!(held(&first, &open(&[("a", &[("a/1", 405), ("a/2", 345)])])), first);
        let moved = held(&first, &open(&[("a", &[("a/1", 600), ("a/2", 150)])]));
        assert!(moved != first && moved["a"].ports["a/1"] > first["a"].ports["a/1"]);
    }

    proptest! {
        /// The limits of all listeners of a held tenant add up to no more than half of the budget, and every listener has one.
        #[test]
        fn g_the_limits_of_a_held_tenant_never_exceed_half(
            budget in 100_u32..100_000,
            ports in prop::collection::btree_map(0_u16..40, (0_u32..5000, 1_usize..3), 1..40),
            more in 0_u32..10_000,
        ) {
            let names: BTreeMap<Arc<str>, u32> = ports.iter().map(|(port, (open, _))| (format!("a/{port}").into(), *open)).collect();
            let total = names.values().sum::<u32>() + more;
            let tenants = [("a".into(), OpenOfTenant { total, ports: names })].into();
            let open = Open { total: u32::MAX, tenants, ..Open::default() };
            let held = hold(&BTreeMap::new(), budget, &open, |_| Some(u32::MAX));
            let listeners: Vec<(Arc<str>, Arc<str>)> = ports
                .iter()
                .flat_map(|(port, (_, count))| (0..*count).map(move |i| (format!("a/{port}").into(), format!("{i}/{port}").into())))
                .collect();
            let limits = held["a"].limits(listeners.iter().map(|(cluster, listener)| (cluster, listener)));
            prop_assert_eq!(limits.len(), listeners.len());
            prop_assert!(limits.values().map(|limit| u64::from(*limit)).sum::<u64>() <= u64::from(budget / 2));
        }
    }
}
