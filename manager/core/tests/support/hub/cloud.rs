//! The hub's own cloud: gives an address for each order, in its own time. Knows deliveries; knows no load balancer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nave_manager_core::{Delivery, Order, Seen};

use super::Hub;

/// What was ordered, and what came of it.
#[derive(Default)]
pub struct Cloud {
    pub orders: BTreeMap<String, (Order, Vec<IpAddr>)>,
    /// Orders that were withdrawn and are delivered still.
    pub leaving: Vec<String>,
    /// Whether it gives and takes nothing for now.
    pub is_slow: bool,
    given: u8,
}

impl Cloud {
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.orders.values().map(|(order, addresses)| delivery(order, addresses)).collect()
    }
}

fn delivery(order: &Order, addresses: &[IpAddr]) -> Delivery {
    Delivery {
        id: order.id.clone(),
        pool: order.pool.clone(),
        owner: order.owner.clone(),
        uid: order.uid.clone(),
        digest: order.digest(),
        addresses: addresses.to_vec(),
        hostnames: Vec::new(),
        ports: order.ports.iter().map(|port| (port.protocol, port.port)).collect(),
    }
}

impl Hub {
    pub fn order(&mut self, order: &Order) {
        let addresses = self.cloud.orders.remove(&order.id).map(|(_, addresses)| addresses).unwrap_or_default();
        self.cloud.leaving.retain(|id| *id != order.id);
        self.cloud.orders.insert(order.id.clone(), (order.clone(), addresses));
        self.show_delivery(&order.id);
        self.engine.observe(Seen::Answered(order.answered(None)));
    }

    pub fn withdraw(&mut self, id: &str) {
        if self.cloud.orders.contains_key(id) {
            self.cloud.leaving.push(id.to_owned());
        } else {
            self.show_delivery(id);
        }
    }

    /// The cloud does what it was asked to; returns whether that was anything.
    pub fn cloud_works(&mut self) -> bool {
        if self.cloud.is_slow {
            return false;
        }
        let mut changed = std::mem::take(&mut self.cloud.leaving);
        for id in &changed {
            self.cloud.orders.remove(id);
        }
        for (id, (_, addresses)) in &mut self.cloud.orders {
            if addresses.is_empty() {
                self.cloud.given = self.cloud.given.wrapping_add(1);
                addresses.push(IpAddr::from([192, 0, 2, self.cloud.given]));
                changed.push(id.clone());
            }
        }
        for id in &changed {
            self.show_delivery(id);
        }
        !changed.is_empty()
    }

    /// The one Service of the cloud, as `address port/protocol->target …`.
    pub fn cloud_serves(&self) -> Vec<String> {
        let line = |(order, addresses): &(Order, Vec<IpAddr>)| {
            let ports = order.ports.iter().map(|p| format!("{}/{}->{}", p.port, p.protocol.as_str(), p.target));
            let words: Vec<String> = addresses.iter().map(ToString::to_string).chain(ports).collect();
            words.join(" ")
        };
        self.cloud.orders.values().map(line).collect()
    }

    fn show_delivery(&mut self, id: &str) {
        let now = self.cloud.orders.get(id).map(|(order, addresses)| delivery(order, addresses));
        self.engine.observe(Seen::Delivery(id.to_owned(), now));
    }
}
