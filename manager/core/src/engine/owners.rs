//! Whose a recorded address is, looking at who still lives. Nothing but the end of its last owner's wish ends a record.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nave_api::ip_allocation::{OwnedPort, Owner};
use nave_api::{IPAllocation, TCPLoadBalancer};

use super::Engine;
use super::drafts::Drafts;
use crate::hold::Hold;
use crate::key::{born, uid};
use crate::pool::is_everywhere;
use crate::ports::{Door, Taken, covers};
use crate::records::{Flight, KIND, owner_key, place};
use crate::step::Step;
use crate::{Key, Timestamp};

/// The owner that a load balancer is, with these ports.
pub(super) fn owner_of(key: &Key, balancer: &TCPLoadBalancer, ports: &BTreeSet<Door>) -> Owner {
    let mut ports: Vec<OwnedPort> =
        ports.iter().map(|(protocol, port)| OwnedPort { protocol: *protocol, port: *port, stands_for: None }).collect();
    ports.sort();
    Owner {
        namespace: key.namespace.to_string(),
        kind: KIND.to_owned(),
        name: key.name.to_string(),
        uid: uid(&balancer.metadata).to_owned(),
        ports,
    }
}

/// So long a record may be ahead of the watch on its owner.
const DOUBT: Duration = Duration::from_secs(10);

impl Engine {
    /// Drafts the owners that the address should have, or ends its record where none is left.
    pub(super) fn settle_owners(
        &mut self,
        address: IpAddr,
        now: Timestamp,
        drafts: &mut Drafts,
        steps: &mut Vec<Step>,
    ) {
        let Some(object) = self.world.records.find(address).cloned() else { return };
        let drafted = drafts.find(address);
        if drafted.is_none() && self.world.records.flight(address).is_some() {
            return;
        }
        if self.is_out_of_reach(&object) {
            return;
        }
        if let Some(until) = self.doubt(&object, now) {
            self.doubts.insert((until, address));
            return;
        }
        let mut next = drafted.cloned().unwrap_or_else(|| IPAllocation::clone(&object));
        next.spec.owners = self.living(&next, address, drafts);
        if next.spec.owners.is_empty() && self.is_kept(&object, now) {
            return;
        }
        let hold = if next.spec.owners.is_empty() { self.begin_hold(&object, now) } else { None };
        if let Some(hold) = hold {
            let namespace = Arc::clone(&hold.owner.namespace);
            hold.write(&mut next);
            self.world.records.depart(address, Flight::Replace { owners: BTreeSet::new() });
            drafts.put(&namespace, address, next);
        } else if next.spec.owners.is_empty() {
            let uid = uid(&object.metadata).to_owned();
            // A move that was drafted just now is not needed any more.
            drafts.withdraw(address);
            self.world.records.abort(address);
            self.world.records.depart(address, Flight::Release { uid: uid.clone() });
            self.dirt.balancers.extend(object.spec.owners.iter().filter_map(owner_key));
            steps.push(Step::ReleaseAllocation {
                name: object.metadata.name.clone().unwrap_or_default(),
                uid,
                resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
            });
        } else if next.spec.owners != object.spec.owners {
            if drafted.is_none() {
                self.world.records.depart(address, Flight::Replace { owners: BTreeSet::new() });
            }
            let namespace = next.spec.owners.first().map_or("", |owner| &owner.namespace).into();
            drafts.put(&namespace, address, next);
        }
    }

    /// Whether nothing may be done about the allocation: it cannot be read now, or nothing is known of its pool.
    pub(super) fn is_out_of_reach(&self, object: &IPAllocation) -> bool {
        let key = Key::of(object);
        self.world.allocations.unreadable(&key).is_some() || self.world.is_unknown_pool(&object.spec.pool)
    }

    /// Until when an owner that was never seen may be one that this replica has yet to see: another leader saw it, and
    /// recorded its address just now.
    fn doubt(&self, object: &IPAllocation, now: Timestamp) -> Option<Timestamp> {
        let is_unknown = |key: Key| !self.world.balancers.has_seen(&key);
        let until = born(&object.metadata).checked_add(DOUBT).ok().filter(|until| now < *until)?;
        object.spec.owners.iter().filter_map(owner_key).any(is_unknown).then_some(until)
    }

    /// Whether the address has no owner and is kept for its last one still.
    fn is_kept(&self, object: &IPAllocation, now: Timestamp) -> bool {
        let is_leaving = object.metadata.deletion_timestamp.is_some();
        !is_leaving
            && self.world.pools.find(&object.spec.pool).is_some()
            && Hold::of(object).is_some_and(|hold| now < hold.until)
    }

    /// For whom the pool keeps an address that its last owner leaves now.
    fn begin_hold(&self, object: &IPAllocation, now: Timestamp) -> Option<Hold> {
        let owner = object.spec.owners.first().and_then(owner_key)?;
        if place(object).is_none_or(is_everywhere) {
            return None;
        }
        let pool = self.world.pools.find(&object.spec.pool).filter(|_| object.metadata.deletion_timestamp.is_none())?;
        // Nobody keeps more than he might have: who comes and goes under new names would keep a pool from everybody.
        let tenant = self.world.tenant(&owner.namespace);
        let limit = tenant.and_then(|tenant| tenant.spec.quota.as_ref()?.addresses);
        let kept = || self.addresses_in(&owner.namespace) as usize + self.world.records.held_in(&owner.namespace);
        if limit.is_some_and(|limit| kept() > limit as usize) {
            return None;
        }
        let length = pool.spec().hold_for.as_ref()?.parse().ok().filter(|length| !length.is_zero())?;
        Some(Hold { owner, until: now.checked_add(length).ok()? })
    }

    /// The owners that live and want the address still, each with the ports that it should have.
    fn living(&self, object: &IPAllocation, address: IpAddr, drafts: &Drafts) -> Vec<Owner> {
        let mut next = object.clone();
        let counts_ports = self.world.counts_ports(object);
        // What all owners have, worked out when the first of them asks for something else than it has.
        let mut taken: Option<Taken> = None;
        let mut at = 0;
        while let Some(owner) = next.spec.owners.get(at) {
            // Of kinds that are not known here nothing is known: they keep what they have.
            let Some(key) = owner_key(owner) else {
                at += 1;
                continue;
            };
            // Of load balancers that cannot be read nothing is known: they keep what they have.
            if self.world.balancers.unknown(&key).is_some_and(|unknown| unknown.uid == owner.uid) {
                at += 1;
                continue;
            }
            let balancer = self.world.balancers.find(&key).filter(|balancer| uid(&balancer.metadata) == owner.uid);
            let is_given_up = drafts.is_given_up(address, &key) || self.is_given_up(address, &key);
            let Some(balancer) = balancer.filter(|_| !is_given_up) else {
                if self.is_delivered(address, &object.spec.pool, &key) {
                    at += 1;
                } else {
                    let gone = next.spec.owners.remove(at);
                    if let Some(taken) = &mut taken {
                        taken.leave(&gone.ports);
                    }
                }
                continue;
            };
            let wanted = self.world.granted(&key, balancer);
            let mut whole = owner_of(&key, balancer, &wanted);
            if counts_ports {
                whole.ports = if covers(&owner.ports, &wanted) {
                    owner.ports.clone()
                } else {
                    let pool = &object.spec.pool;
                    let none = Key::cluster("");
                    let all = || self.world.taken_ports(address, pool, Some(&next), &none);
                    let taken = taken.get_or_insert_with(all);
                    taken.leave(&owner.ports);
                    let ports = self.world.own_ports(address, pool, &key, &owner.ports, &wanted, taken);
                    taken.enter(&ports);
                    ports
                };
            }
            next.spec.owners[at] = whole;
            at += 1;
        }
        next.spec.owners
    }
}
