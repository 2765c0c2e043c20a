//! Where a load balancer is: addresses and names. Knows how both are written; knows nothing of who wrote them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::LoadBalancerIngress;
use nave_api::tcp_load_balancer::TCPLoadBalancerStatus;

/// Addresses and names, each once however it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    addresses: BTreeSet<IpAddr>,
    names: BTreeSet<String>,
}

impl Places {
    /// What the hub gave.
    pub fn given(answer: &TCPLoadBalancerStatus) -> Self {
        let mut this = Self::default();
        answer.addresses.iter().for_each(|address| this.add(&address.value));
        this
    }

    /// What a Service shows, or shall show.
    pub fn shown(entries: &[LoadBalancerIngress]) -> Self {
        let mut this = Self::default();
        entries.iter().flat_map(texts).for_each(|text| this.add(text));
        this
    }

    /// These, too.
    pub fn extend(&mut self, Self { addresses, names }: Self) {
        self.addresses.extend(addresses);
        self.names.extend(names);
    }

    /// Whether the address is among them.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }

    /// Whether this, an address or a name, is among them.
    pub fn has(&self, text: &str) -> bool {
        text.parse().map_or_else(|_| self.names.contains(&name(text)), |address| self.has_address(address))
    }

    /// Whether all that these entries say is among them; entries that say nothing, and none, are not.
    pub fn hold(&self, entries: &[LoadBalancerIngress]) -> bool {
        let known = |entry| texts(entry).next().is_some() && texts(entry).all(|text| self.has(text));
        !entries.is_empty() && entries.iter().all(known)
    }

    fn add(&mut self, text: &str) {
        match text.parse::<IpAddr>() {
            Ok(address) => self.addresses.insert(address.to_canonical()),
            Err(_) => self.names.insert(name(text)),
        };
    }
}

fn texts(entry: &LoadBalancerIngress) -> impl Iterator<Item = &str> {
    [entry.ip.as_deref(), entry.hostname.as_deref()].into_iter().flatten().filter(|text| !text.is_empty())
}

/// Names differ neither by case nor by the dot of the root.
fn name(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entries(entries: Value) -> Vec<LoadBalancerIngress> {
        serde_json::from_value(entries).unwrap()
    }

    #[test]
    fn a_place_is_the_same_however_it_is_written() {
        let places = Places::shown(&entries(json!([{"hostname": "LB.example.com"}, {"ip": "2001:db8::7"}])));
        assert!(places.hold(&entries(json!([{"hostname": "lb.example.com."}]))));
        assert!(
            places.hold(&entries(json!([{"ip": "2001:DB8:0::7", "ipMode": "Proxy", "hostname": "lb.example.com"}])))
        );
        assert!(
            places.hold(&entries(json!([{"hostname": "2001:db8::7"}]))),
            "some write an address where a name belongs"
        );
    }

    #[test]
    fn what_is_in_part_elsewhere_or_nowhere_is_not_held() {
        let places = Places::shown(&entries(json!([{"hostname": "lb.example.com"}, {"ip": "203.0.113.7"}])));
        assert!(!places.hold(&entries(json!([{"hostname": "lb.example.com"}, {"ip": "203.0.113.8"}]))));
        assert!(!places.hold(&entries(json!([{"hostname": "lb.example.org", "ip": "203.0.113.7"}]))));
        assert!(!places.hold(&entries(json!([{}]))) && !places.hold(&[]));
    }
}
