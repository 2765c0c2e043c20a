//! Which networks belong to somebody else: of two tenants that list the same network, the older has it, unless both share.
//! Knows tenants and their networks; knows no load balancer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use nave_api::Tenant;
use nave_api::tenant::{NetworkSharing, TenantBackends};

use crate::key::born;
use crate::pool::{Range, Spans};

/// For each tenant, by name, what of its networks others have; only those that lose something.
pub(crate) type Foreign = BTreeMap<String, Arc<Lost>>;

/// What of a tenant's networks others have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub spans: Spans,
    /// Of what the tenant lists itself: one address, and who has it.
    pub example: Option<(IpAddr, String)>,
}

/// Who loses what. One pass over the tenants, from the oldest to the newest.
pub(crate) fn foreign<'a>(tenants: impl Iterator<Item = &'a Arc<Tenant>>) -> Foreign {
    let mut tenants: Vec<&Arc<Tenant>> = tenants.collect();
    tenants.sort_by_key(|tenant| (born(&tenant.metadata), tenant.metadata.name.clone()));
    let (mut exclusive, mut shared) = (Spans::default(), Spans::default());
    let mut older: Vec<(String, Spans)> = Vec::new();
    let mut foreign = Foreign::new();
    for tenant in tenants {
        let backends = tenant.spec.backends.as_ref();
        let sharing = backends.map(|backends| backends.sharing).unwrap_or_default();
        let own = backends.map_or_else(everything, listed);
        let mut others = own.intersection(&exclusive);
        if sharing == NetworkSharing::Exclusive {
            others.extend(&own.intersection(&shared));
        }
        let name = tenant.metadata.name.clone().unwrap_or_default();
        if others != Spans::default() {
            let has = |(name, spans): &(String, Spans)| spans.overlap(&others).map(|address| (address, name.clone()));
            let example = backends.and_then(|_| older.iter().find_map(has));
            foreign.insert(name.clone(), Arc::new(Lost { spans: others, example }));
        }
        if backends.is_some() {
            older.push((name, own.clone()));
            match sharing {
                NetworkSharing::Exclusive => exclusive.extend(&own),
                NetworkSharing::Shared => shared.extend(&own),
            }
        }
    }
    foreign
}

fn listed(backends: &TenantBackends) -> Spans {
    let TenantBackends { allow, sharing: _ } = backends;
    let networks = allow.iter().filter(|network| network.parse::<IpNet>().is_ok());
    Spans::of(networks.filter_map(|network| network.parse().ok()).collect::<Vec<Range>>().iter())
}

/// Who lists nothing reaches what is public: a claim on it is a claim on his.
fn everything() -> Spans {
    Spans::of(["0.0.0.0/0", "::/0"].iter().filter_map(|all| all.parse().ok()).collect::<Vec<Range>>().iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tenant(name: &str, age: i64, allow: &str, sharing: &str) -> Arc<Tenant> {
        let created = k8s_openapi::jiff::Timestamp::from_second(1_000_000 - age).unwrap();
        let object = json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"backends": {"allow": [allow], "sharing": sharing}},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn losers(tenants: &[Arc<Tenant>]) -> Vec<String> {
        foreign(tenants.iter()).into_keys().collect()
    }

    #[test]
    fn the_newer_of_two_tenants_yields_where_their_networks_overlap() {
        let older = tenant("z-older", 9, "10.20.0.0/16", "Exclusive");
        let newer = tenant("a-newer", 1, "10.0.0.0/8", "Exclusive");
        let lost = foreign([older, newer].iter());
        assert_eq!(lost.keys().collect::<Vec<_>>(), ["a-newer"]);
        let Lost { spans, example } = &*lost["a-newer"];
        assert!(spans.contains("10.20.0.1".parse().unwrap()) && !spans.contains("10.30.0.1".parse().unwrap()));
        assert_eq!(*example, Some(("10.20.0.0".parse().unwrap(), "z-older".to_owned())));
    }

    #[test]
    fn nobody_yields_where_both_share() {
        let shared = |name, age| tenant(name, age, "10.20.0.0/16", "Shared");
        assert_eq!(losers(&[shared("a", 3), shared("b", 2)]), Vec::<String>::new());
        assert_eq!(losers(&[shared("a", 3), shared("b", 2), tenant("c", 1, "10.20.0.0/24", "Exclusive")]), ["c"]);
        assert_eq!(losers(&[tenant("c", 9, "10.20.0.0/24", "Exclusive"), shared("a", 3)]), ["a"]);
    }
}
