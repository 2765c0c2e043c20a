//! What is ordered of providers for whom. Knows records and deliveries; knows no cloud. What is recorded is ordered, and what
//! is delivered stays recorded: the ports behind an address are nobody else's before the address is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::TCPLoadBalancer;
use nave_api::ip_pool::ServicePer;

use super::Engine;
use crate::Key;
use crate::key::uid;
use crate::order::{Delivery, Order, OrderedPort, id};
use crate::pool::{Pool, everywhere, is_everywhere};
use crate::records::{find_owner, owner_key};
use crate::step::Step;

/// For whom something is ordered: the pool, and the load balancer unless all of the pool share it.
pub(super) type Place = (Arc<str>, Option<Key>);

impl Engine {
    /// Takes in what a provider delivers now.
    pub(super) fn delivery_moved(&mut self, moved: &(Option<Delivery>, Option<Delivery>)) {
        let (before, now) = moved;
        for delivery in before.iter().chain(now) {
            self.dirt.orders.insert((delivery.pool.as_str().into(), delivery.owner.clone()));
            self.dirt.addresses.insert(everywhere(&delivery.pool));
            self.dirt.pool_statuses.insert(delivery.pool.as_str().into());
            let owners = match &delivery.owner {
                Some(owner) => [owner.clone()].into(),
                None => self.owners_in(&delivery.pool),
            };
            // Whether a place in a pool that is gone is worth keeping.
            if before.is_none() || now.is_none() {
                self.dirt.wanting.extend(owners.iter().cloned());
            }
            self.dirt.statuses.extend(owners);
        }
        self.delivered_moved(before.as_ref(), now.as_ref());
    }

    /// What was recorded in a pool whose addresses a cloud gives, or who has it, changed.
    pub(super) fn ordering_moved(&mut self, pool: &str, owners: impl IntoIterator<Item = Key>) {
        let pool: Arc<str> = pool.into();
        self.dirt.orders.insert((Arc::clone(&pool), None));
        self.dirt.orders.extend(owners.into_iter().map(|owner| (Arc::clone(&pool), Some(owner))));
    }

    /// Everything that is, or may have to be, ordered is looked at again.
    pub(super) fn review_orders(&mut self) {
        let delivered =
            self.world.supply.iter().map(|delivery| (delivery.pool.as_str().into(), delivery.owner.clone()));
        let ending = self.world.supply.unseen_ends();
        self.dirt.orders.extend(ending.map(|(pool, owner)| (pool.into(), owner.cloned())).chain(delivered));
        // Of pools that are gone, too.
        let recorded: Vec<String> =
            self.world.records.everywhere().map(|(_, object)| object.spec.pool.clone()).collect();
        for pool in recorded {
            let owners = self.owners_in(&pool);
            self.ordering_moved(&pool, owners);
        }
    }

    fn owners_in(&self, pool: &str) -> BTreeSet<Key> {
        let object = self.world.records.find(everywhere(pool));
        object.into_iter().flat_map(|object| &object.spec.owners).filter_map(owner_key).collect()
    }

    /// Orders what is wanted and is not delivered like that, and withdraws what nobody wants.
    pub(super) fn write_orders(&mut self, steps: &mut Vec<Step>) {
        for (pool, owner) in std::mem::take(&mut self.dirt.orders) {
            let id = id(&pool, owner.as_ref());
            let wanted = self.order(&pool, owner.as_ref());
            let has = self.world.supply.digest(&id);
            match wanted {
                Wanted::This(order) => {
                    let digest = order.digest();
                    if has != Some(&digest) {
                        self.world.supply.ordered(&id, digest);
                        steps.push(Step::Order(*order));
                    }
                }
                Wanted::AsItIs => {}
                Wanted::Nothing => {
                    if has.is_some() || self.world.supply.is_tried(&id) {
                        self.world.supply.withdrawn(&id, &pool, owner.as_ref());
                        self.dirt.pool_statuses.insert(Arc::clone(&pool));
                        steps.push(Step::Withdraw { id });
                    }
                }
            }
        }
    }

    fn order(&self, pool: &Arc<str>, owner: Option<&Key>) -> Wanted {
        let ports: BTreeSet<OrderedPort> = match owner {
            Some(key) => match self.served_by(pool, key) {
                Some(balancer) => self.own_ports(pool, key, balancer),
                None => return Wanted::Nothing,
            },
            None => self.shared_ports(pool),
        };
        if self.world.is_unknown_pool(pool) || self.world.records.is_unknown(everywhere(pool)) {
            return Wanted::AsItIs;
        }
        let Some((space, service)) = self.world.pools.find(pool).and_then(|space| Some((space, space.service()?)))
        else {
            // Who has an address of a pool that is gone keeps it; who was to get one gets none.
            let is_delivered = self.world.supply.find(&id(pool, owner)).is_some();
            return if ports.is_empty() || !is_delivered { Wanted::Nothing } else { Wanted::AsItIs };
        };
        // What another pool is in the way of, or another fleet serves, is left as it was ordered: Envoys elsewhere may have
        // given the ports to others.
        let is_elsewhere = |key: &Key| {
            let tenant = self.world.tenant(&key.namespace);
            tenant.is_some_and(|tenant| tenant.spec.fleet() != space.spec().fleet())
        };
        let record = self.world.records.find(everywhere(pool));
        let was_elsewhere = record.is_some_and(|object| self.world.fleet_of(object) != Some(space.spec().fleet()));
        if !space.is_ready() || was_elsewhere || owner.is_some_and(is_elsewhere) {
            return Wanted::AsItIs;
        }
        let is_meant = match service.per {
            ServicePer::LoadBalancer => owner.is_some(),
            ServicePer::Fleet => owner.is_none(),
        };
        if !is_meant {
            return Wanted::Nothing;
        }
        if ports.is_empty() {
            // The record follows the edit of who is there; until it has, what he has is not taken from him.
            return if owner.is_some() { Wanted::AsItIs } else { Wanted::Nothing };
        }
        let balancer = owner.and_then(|key| self.world.balancers.find(key));
        Wanted::This(Box::new(Order {
            id: id(pool, owner),
            pool: pool.to_string(),
            source: space.spec().source.clone(),
            fleet: space.spec().fleet().to_owned(),
            owner: owner.cloned(),
            uid: balancer.map(|balancer| uid(&balancer.metadata).to_owned()).unwrap_or_default(),
            ports: ports.into_iter().collect(),
        }))
    }

    /// The load balancer, if it lives, is recorded in the pool and goes on asking for that.
    fn served_by(&self, pool: &str, key: &Key) -> Option<&TCPLoadBalancer> {
        let balancer = self.world.balancers.find(key)?;
        let object = self.world.records.find(everywhere(pool))?;
        let is_its_own = find_owner(object, key, uid(&balancer.metadata)).is_some();
        (is_its_own && !self.is_given_up(everywhere(pool), key)).then_some(balancer)
    }

    fn own_ports(&self, pool: &str, key: &Key, balancer: &TCPLoadBalancer) -> BTreeSet<OrderedPort> {
        let object = self.world.records.find(everywhere(pool));
        let open = object.map(|object| self.world.open_ports(object, key, balancer)).unwrap_or_default();
        open.into_iter().map(|((protocol, port), target)| OrderedPort { protocol, port, target }).collect()
    }

    fn shared_ports(&self, pool: &str) -> BTreeSet<OrderedPort> {
        let object = self.world.records.find(everywhere(pool));
        let ports = object.into_iter().flat_map(|object| &object.spec.owners).flat_map(|owner| &owner.ports);
        ports.map(|port| OrderedPort { protocol: port.protocol, port: port.port, target: port.port }).collect()
    }

    /// A load balancer asks for this address no longer; where a cloud delivers to it, that ends first.
    pub(super) fn give_up_delivered(&mut self, address: IpAddr, key: &Key) {
        let object = self.world.records.find(address).filter(|_| is_everywhere(address));
        if let Some(pool) = object.map(|object| object.spec.pool.clone()) {
            self.given_up.entry(key.clone()).or_default().insert(address);
            self.ordering_moved(&pool, [key.clone()]);
        }
    }

    pub(super) fn is_given_up(&self, address: IpAddr, key: &Key) -> bool {
        self.given_up.get(key).is_some_and(|addresses| addresses.contains(&address))
    }

    /// Whether a cloud may still send traffic for this owner to the ports that are recorded for him.
    pub(super) fn is_delivered(&self, address: IpAddr, pool: &str, owner: &Key) -> bool {
        is_everywhere(address) && self.world.supply.may_deliver(&id(pool, Some(owner)))
    }

    /// What was delivered for a load balancer that is recorded in this pool.
    pub(super) fn delivered(&self, pool: &str, key: &Key) -> Option<&Delivery> {
        let shares = |pool: &Pool| pool.service().is_some_and(|service| service.per == ServicePer::Fleet);
        let own = self.world.supply.find(&id(pool, Some(key)));
        own.or_else(|| {
            let is_shared = self.world.pools.find(pool).is_none_or(shares);
            self.world.supply.find(&id(pool, None)).filter(|_| is_shared)
        })
    }
}

/// What becomes of an order.
enum Wanted {
    This(Box<Order>),
    AsItIs,
    Nothing,
}
