//! What pools give, worked out the plain way: every address by itself. Knows the few pools of histories; knows no engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nave_api::ip_pool::{Addresses, Source};
use nave_api::tcp_load_balancer::{FamilyPolicy, IpFamily};
use nave_api::{IPPool, TCPLoadBalancer, Tenant};

use crate::support::hub::Hub;

/// The addresses of a pool: all that it may give, and those for who asks for none.
#[derive(Clone, Default)]
pub struct Space {
    pub given: BTreeSet<IpAddr>,
    pub dynamic: BTreeSet<IpAddr>,
}

/// The pools that give addresses of their own, by name: what is bad, and what overlaps an older one, gives nothing.
pub fn spaces(hub: &Hub) -> BTreeMap<&str, Space> {
    let mut pools: Vec<&IPPool> = hub.pools.values().collect();
    pools.sort_by_key(|pool| (pool.metadata.creation_timestamp.clone(), pool.metadata.name.clone()));
    let mut spaces: BTreeMap<&str, Space> = BTreeMap::new();
    for pool in pools {
        let Some(space) = space(pool) else { continue };
        if spaces.values().all(|older| older.given.is_disjoint(&space.given)) {
            spaces.insert(pool.metadata.name.as_deref().unwrap_or_default(), space);
        }
    }
    spaces
}

fn space(pool: &IPPool) -> Option<Space> {
    if matches!(pool.spec.source, Source::Service(_)) {
        return None;
    }
    let Addresses { include, exclude, dynamic } = pool.spec.addresses.as_ref()?;
    let (included, excluded) = (all(include)?, all(exclude)?);
    let given: BTreeSet<IpAddr> = included.difference(&excluded).copied().collect();
    let asked_for = match dynamic {
        Some(dynamic) => all(dynamic)?,
        None => included.clone(),
    };
    let dynamic = asked_for.intersection(&given).copied().collect();
    (!given.is_empty() && asked_for.is_subset(&included)).then_some(Space { given, dynamic })
}

/// Every address of these ranges; nothing where one of them is none.
fn all(texts: &[String]) -> Option<BTreeSet<IpAddr>> {
    let mut found = BTreeSet::new();
    for text in texts {
        let (low, high) = match (text.split_once('-'), text.parse::<IpNet>()) {
            (Some((low, high)), _) => (low.parse().ok()?, high.parse().ok()?),
            (None, Ok(network)) => (network.network(), network.broadcast()),
            (None, Err(_)) => (text.parse().ok()?, text.parse().ok()?),
        };
        if low > high {
            return None;
        }
        found.extend(between(low, high));
    }
    Some(found)
}

fn between(low: IpAddr, high: IpAddr) -> Vec<IpAddr> {
    match (low, high) {
        (IpAddr::V4(low), IpAddr::V4(high)) => {
            (u32::from(low)..=u32::from(high)).map(|n| IpAddr::V4(Ipv4Addr::from(n))).collect()
        }
        (IpAddr::V6(low), IpAddr::V6(high)) => {
            (u128::from(low)..=u128::from(high)).map(|n| IpAddr::V6(Ipv6Addr::from(n))).collect()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

/// Whether the tenant may have addresses of the pool.
pub fn admits(pool: &IPPool, tenant: &Tenant) -> bool {
    let (pool_name, tenant_name) = (pool.metadata.name.clone(), tenant.metadata.name.clone());
    let listed =
        tenant.spec.pools.as_ref().is_none_or(|pools| pools.iter().any(|name| Some(name) == pool_name.as_ref()));
    let selected = pool.spec.r#use.as_ref().and_then(|u| u.tenants.as_ref());
    let named = selected.is_none_or(|tenants| tenants.names.iter().any(|name| Some(name) == tenant_name.as_ref()));
    pool.spec.fleet() == tenant.spec.fleet() && listed && named
}

/// Whether the pool gives addresses to this load balancer of the tenant when it asks for any.
pub fn serves(pool: &IPPool, tenant: &Tenant, balancer: &TCPLoadBalancer) -> bool {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let asked = balancer.spec.address.as_ref().and_then(|address| address.pool.as_deref());
    let of = pool.spec.r#use.as_ref();
    let is_open = of.is_some_and(|u| u.default || u.tenants.is_some())
        || tenant.spec.pools.as_ref().is_some_and(|pools| pools.iter().any(|listed| listed == name));
    admits(pool, tenant) && asked.map_or(is_open, |asked| asked == name)
}

/// Whether one address of the family would do for it, whichever.
pub fn takes_any(balancer: &TCPLoadBalancer, family: IpFamily) -> bool {
    balancer.spec.address.as_ref().is_none_or(|address| {
        let is_single = address.family_policy.unwrap_or_default() == FamilyPolicy::SingleStack;
        let fits = address.families.is_empty() || address.families.contains(&family);
        is_single && fits && address.requested.is_empty()
    })
}
