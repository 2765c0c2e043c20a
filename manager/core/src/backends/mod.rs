//! Where traffic may go (law 6). Knows what a tenant may reach; parses every address once; knows no port and no Envoy.

pub(crate) mod neighbours;
mod networks;
pub(crate) mod places;
mod refused;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use ipnet::IpNet;
use nave_api::node_set::Node;
use nave_api::tcp_load_balancer::IpFamily;
use nave_api::tenant::TenantBackends;
use nave_api::{Tenant, limits};

use crate::pool::{Pools, Spans};
use networks::{embedded, forbidden, is_public, plain};
pub(crate) use refused::{LeftOut, Refusal, Refused};

/// What one tenant's backends may be.
#[derive(Debug)]
pub(crate) struct Policy<'a> {
    hub: &'a Spans,
    allows_loopback: bool,
    pools: &'a Pools,
    allow: Option<Vec<IpNet>>,
    foreign: Option<&'a Spans>,
}

impl<'a> Policy<'a> {
    /// The policy of a tenant. What does not parse in its networks allows nothing.
    pub fn of(
        tenant: &Tenant,
        hub: &'a Spans,
        allows_loopback: bool,
        pools: &'a Pools,
        foreign: Option<&'a Spans>,
    ) -> Self {
        let allow = tenant.spec.backends.as_ref().map(|backends| {
            let TenantBackends { allow, sharing: _ } = backends;
            allow.iter().filter_map(|network| network.parse().ok()).collect()
        });
        Self { hub, allows_loopback, pools, allow, foreign }
    }

    /// The address to connect to, or why not.
    pub fn admit(&self, text: &str) -> Result<IpAddr, Refusal> {
        let address = plain(text.parse().map_err(|_| Refusal::NotAnAddress)?);
        if address.is_loopback() {
            return if self.allows_loopback {
                self.outside_hub(address).map(|()| address)
            } else {
                Err(Refusal::Loopback)
            };
        }
        let ends = match address {
            IpAddr::V4(_) => Vec::new(),
            IpAddr::V6(v6) => embedded(v6),
        };
        for end in std::iter::once(address).chain(ends.iter().copied().map(IpAddr::V4)) {
            if let Some(what) = forbidden(end) {
                return Err(Refusal::Forbidden(what));
            }
            if end.is_loopback() {
                return Err(Refusal::Loopback);
            }
            self.outside_hub(end)?;
        }
        self.allowed(address)?;
        ends.into_iter().try_for_each(|end| self.allowed(IpAddr::V4(end))).map(|()| address)
    }

    fn outside_hub(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.hub.contains(address) {
            return Err(Refusal::Hub);
        }
        if self.pools.includes(address) { Err(Refusal::Pool) } else { Ok(()) }
    }

    fn allowed(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.foreign.is_some_and(|foreign| foreign.contains(address)) {
            return Err(Refusal::OtherTenant);
        }
        match &self.allow {
            Some(networks) if networks.iter().any(|network| network.contains(&address)) => Ok(()),
            Some(_) => Err(Refusal::NotAllowed),
            None if is_public(address) => Ok(()),
            None => Err(Refusal::NotPublic),
        }
    }
}

/// The nodes of a NodeSet as the hub reaches them, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub nodes: BTreeMap<String, Reached>,
}

/// Where one node is reached, at most one address of a family, and what of it was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    zone: Option<String>,
    /// Of each family, and of what has none: how many addresses, and the first of them.
    left_out: BTreeMap<Option<IpFamily>, (u32, Refused)>,
}

impl Reached {
    /// The address of the first of these families in which the node has one.
    pub fn first_of(&self, families: &[IpFamily]) -> Option<IpAddr> {
        families.iter().find_map(|family| match family {
            IpFamily::IPv4 => self.v4,
            IpFamily::IPv6 => self.v6,
        })
    }

    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Counts what was left out of these families, or has none.
    pub fn count_left_out(&self, families: &[IpFamily], into: &mut LeftOut) {
        for (family, (count, Refused { text, why })) in &self.left_out {
            if family.is_none_or(|family| families.contains(&family)) {
                into.add(*count, text, why);
            }
        }
    }

    fn add(&mut self, address: IpAddr) {
        let place = match IpFamily::of(address) {
            IpFamily::IPv4 => &mut self.v4,
            IpFamily::IPv6 => &mut self.v6,
        };
        place.get_or_insert(address);
    }

    fn leave_out(&mut self, name: &str, text: &str, why: Refusal) {
        let family = text.parse().ok().map(|address| IpFamily::of(plain(address)));
        let refused = || (0, Refused { text: format!("{name} {text}"), why });
        self.left_out.entry(family).or_insert_with(refused).0 += 1;
    }
}

impl Reach {
    /// Each node's first usable address of each family. Of two nodes with one name the first counts; nodes and addresses beyond
    /// what the schema admits are not looked at.
    pub fn of(nodes: &[Node], policy: &Policy<'_>) -> Self {
        let mut reach = Self::default();
        for Node { name, addresses, zone } in nodes.iter().take(limits::NODES) {
            let Entry::Vacant(node) = reach.nodes.entry(name.clone()) else { continue };
            let node = node.insert(Reached { zone: zone.clone(), ..Reached::default() });
            for text in addresses.iter().take(limits::NODE_ADDRESSES) {
                match policy.admit(text) {
                    Ok(address) => node.add(address),
                    Err(why) => node.leave_out(name, text, why),
                }
            }
        }
        reach
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tenant(backends: &serde_json::Value) -> Tenant {
        let object = json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "shop"}, "spec": {"backends": backends},
        });
        serde_json::from_value(object).unwrap()
    }

    fn pools() -> Pools {
        let object = json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": "public"},
            "spec": {"source": {"static": {}}, "addresses": {"include": ["10.9.0.0/16"], "exclude": ["10.9.0.1"]}},
        });
        let object: std::sync::Arc<nave_api::IPPool> = std::sync::Arc::new(serde_json::from_value(object).unwrap());
        let mut pools = Pools::default();
        pools.update(["public".into()].into(), |_| Some(std::sync::Arc::clone(&object)), |_| [].into());
        pools
    }

    fn judged(backends: &serde_json::Value, text: &str) -> Result<IpAddr, Refusal> {
        let (pools, hub) = (pools(), Spans::of_networks([&"10.8.0.0/16".parse().unwrap()]));
        Policy::of(&tenant(backends), &hub, false, &pools, None).admit(text)
    }

    #[test]
    fn everything_is_refused_that_no_tenant_may_reach_however_it_is_written() {
        let everything = json!({"allow": ["0.0.0.0/0", "::/0"]});
        let attempts = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.1.1",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::253",
            "fd20:ce::254",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "::168.63.129.16",
            "64:ff9b::168.63.129.16",
            "2002:a83f:8110::1",
            "2001:db8::5efe:168.63.129.16",
            "2001:0:a83f:8110::f5fe:fdfc",
            "::ffff:0:168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "2001:db8::200:5efe:127.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "64:ff9b::7f00:1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::127.0.0.1",
            "10.8.0.1",
            "::ffff:10.8.0.1",
            "2002:a08:1::",
            "64:ff9b::10.8.0.1",
            "10.9.0.1",
            "10.9.255.255",
            "::ffff:10.9.3.4",
            "2002:a09:304::",
            "64:ff9b::10.9.3.4",
            "web.example.com",
            "10.0.0.1:80",
            "0x7f000001",
            "2130706433",
            "010.0.0.1",
            "fe80::1%eth0",
            "",
            " 10.0.0.1",
        ];
        for text in attempts {
            assert!(judged(&everything, text).is_err(), "{text:?} was let in");
        }
    }

    #[test]
    fn f_azures_host_agent_is_not_public_and_a_network_of_the_administrator_is_the_hubs() {
        let absent = serde_json::Value::Null;
        let forbidden = Refusal::Forbidden("Azure's host agent");
        assert_eq!(judged(&absent, "168.63.129.16"), Err(forbidden.clone()));
        assert_eq!(judged(&json!({"allow": ["168.63.129.0/24"]}), "168.63.129.16"), Err(forbidden));
        assert_eq!(judged(&absent, "2606:4700::5efe:10.8.0.1"), Err(Refusal::Hub), "a tunnel into the hub");
        // The operator's own NAT64: its prefix is in no registry, and the administrator lists it among the hub's networks.
        let (pools, hub) = (pools(), Spans::of_networks([&"2606:4700:64::/96".parse().unwrap()]));
        let policy = Policy::of(&tenant(&absent), &hub, false, &pools, None).admit("2606:4700:64::10.0.0.1");
        assert_eq!(policy, Err(Refusal::Hub));
    }

    #[test]
    fn what_a_tenant_lists_is_allowed_and_nothing_else() {
        let listed = json!({"allow": ["10.20.0.0/16", "fd00:20::/32"]});
        assert_eq!(judged(&listed, "::ffff:10.20.0.7"), Ok("10.20.0.7".parse().unwrap()));
        assert_eq!(judged(&listed, "fd00:20::7"), Ok("fd00:20::7".parse().unwrap()));
        assert_eq!(judged(&listed, "8.8.8.8"), Err(Refusal::NotAllowed));
        assert_eq!(judged(&listed, "2002:a14:7::"), Err(Refusal::NotAllowed));
    }

    #[test]
    fn who_lists_nothing_reaches_public_addresses() {
        let absent = serde_json::Value::Null;
        assert_eq!(judged(&absent, "8.8.8.8"), Ok("8.8.8.8".parse().unwrap()));
        assert_eq!(judged(&absent, "10.20.0.7"), Err(Refusal::NotPublic));
        assert_eq!(judged(&absent, "64:ff9b::8.8.8.8"), Err(Refusal::NotPublic));
    }

    #[test]
    fn kind_l_a_node_is_reached_at_its_first_usable_address_of_the_families_that_are_asked_for() {
        use IpFamily::{IPv4, IPv6};
        let (pools, tenant) = (pools(), tenant(&json!({"allow": ["10.20.0.0/16", "fd00:20::/32"]})));
        let hub = Spans::default();
        let policy = Policy::of(&tenant, &hub, false, &pools, None);
        let node = |name: &str, addresses: &[&str]| Node {
            name: name.to_owned(),
            addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
            zone: None,
        };
        let both = node("both", &["fd00:99::2", "fd00:20::2", "10.20.0.2", "fd00:20::3"]);
        let nodes =
            [both, node("mapped", &["::ffff:10.20.0.3"]), node("none", &["8.8.8.8"]), node("both", &["10.20.0.9"])];
        let reach = Reach::of(&nodes, &policy);
        let at = |name: &str, families: &[IpFamily]| reach.nodes[name].first_of(families).map(|a| a.to_string());
        assert_eq!(at("both", &[IPv4, IPv6]).unwrap(), "10.20.0.2");
        assert_eq!(at("both", &[IPv6, IPv4]).unwrap(), "fd00:20::2");
        assert_eq!(at("both", &[IPv6]).unwrap(), "fd00:20::2");
        assert_eq!((at("mapped", &[IPv6]), at("mapped", &[IPv6, IPv4])), (None, Some("10.20.0.3".to_owned())));
        assert_eq!(at("none", &[IPv4, IPv6]), None);
        let left_out = |name: &str, families: &[IpFamily]| {
            let mut all = LeftOut::default();
            reach.nodes[name].count_left_out(families, &mut all);
            all.count
        };
        assert_eq!((left_out("both", &[IPv4, IPv6]), left_out("both", &[IPv4]), left_out("none", &[IPv4])), (1, 0, 1));
    }
}
