//! Allocations whose pool is gone, or gives their addresses no longer, and the pools that they move to. Knows pools and owners;
//! an allocation moves as it is: address, group, owners and ports stay, and nothing is served differently for it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::ip_allocation::Owner;
use nave_api::names::POOL_LABEL;
use nave_api::{IPAllocation, TCPLoadBalancer};

use super::Engine;
use super::drafts::Drafts;
use super::world::World;
use crate::Key;
use crate::key::uid;
use crate::pool::choose::{Applicant, Closed, closed};
use crate::pool::{Pool, PoolProblem, is_everywhere};
use crate::records::{Flight, owner_key};

/// What becomes of an allocation whose pool does not include its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It moves to this pool.
    Moves(Arc<str>),
    Stays(Stay),
}

/// Why such an allocation stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// No other pool includes the address.
    NoPool,
    /// The pool does not let one of its owners in.
    Closed { pool: Arc<str>, why: Closed },
    /// One of its owners names another pool.
    Named { pool: Arc<str> },
    /// It has more owners than the pool lets share an address.
    Shared { pool: Arc<str> },
    /// Its group is of another fleet.
    Group { pool: Arc<str> },
    /// Nothing is known of one of its owners.
    Unknown,
}

impl World {
    /// What becomes of the allocation, where its pool is gone or can be read and does not include the address.
    pub fn fate(&self, address: IpAddr, object: &IPAllocation) -> Option<Fate> {
        let name = object.spec.pool.as_str();
        let is_at_home = match self.pools.find(name) {
            Some(pool) => !pool.is_well_formed() || pool.included.contains(address),
            None => self.is_unknown_pool(name),
        };
        if is_everywhere(address) || is_at_home {
            return None;
        }
        let others = self.pools.offering(address).filter(|(other, _)| ***other != *name);
        let mut stay = Stay::NoPool;
        for (other, pool) in others {
            match self.stay(object, other, pool) {
                None => return Some(Fate::Moves(Arc::clone(other))),
                Some(why) => stay = why,
            }
        }
        Some(Fate::Stays(stay))
    }

    /// Why the allocation cannot move to the pool, if it cannot.
    fn stay(&self, object: &IPAllocation, name: &Arc<str>, pool: &Pool) -> Option<Stay> {
        let mut owners: Vec<(Key, &TCPLoadBalancer)> = Vec::new();
        for owner in &object.spec.owners {
            match self.owner(owner) {
                Ok(found) => owners.extend(found),
                Err(()) => return Some(Stay::Unknown),
            }
        }
        for (key, balancer) in &owners {
            let Some(tenant) = self.tenant(&key.namespace) else { return Some(Stay::Unknown) };
            let namespace = balancer.spec.origin.as_ref().map(|origin| origin.namespace.as_str());
            if let Some(why) = closed(pool, Applicant { tenant, namespace }) {
                return Some(Stay::Closed { pool: Arc::clone(name), why });
            }
            if named(balancer).is_some_and(|named| *named != **name) {
                return Some(Stay::Named { pool: Arc::clone(name) });
            }
        }
        let namespaces: BTreeSet<&Arc<str>> = owners.iter().map(|(key, _)| &key.namespace).collect();
        let is_shared = (owners.len() > 1 && !pool.shares()) || (namespaces.len() > 1 && !pool.shares_across_tenants());
        let fleet = object.spec.group.as_ref().and_then(|group| group.rsplit_once('-')).map(|(fleet, _)| fleet);
        if owners.is_empty() {
            Some(Stay::Unknown)
        } else if is_shared {
            Some(Stay::Shared { pool: Arc::clone(name) })
        } else if fleet.is_some_and(|fleet| fleet != pool.spec().fleet()) {
            Some(Stay::Group { pool: Arc::clone(name) })
        } else {
            None
        }
    }

    /// The load balancer that an owner is, if it lives; nothing is known of one that cannot be read or was never seen.
    fn owner(&self, owner: &Owner) -> Result<Option<(Key, &TCPLoadBalancer)>, ()> {
        let key = owner_key(owner).ok_or(())?;
        if self.balancers.unreadable(&key).is_some() || !self.balancers.has_seen(&key) {
            return Err(());
        }
        let found = self.balancers.find(&key).filter(|balancer| uid(&balancer.metadata) == owner.uid);
        Ok(found.map(|balancer| (key, &**balancer)))
    }
}

/// The pool that a load balancer names.
fn named(balancer: &TCPLoadBalancer) -> Option<&str> {
    balancer.spec.address.as_ref().and_then(|address| address.pool.as_deref())
}

impl Engine {
    /// Why an allocation stays depends on all of its owners: each says it.
    pub(super) fn touch_companions(&mut self) {
        let mut touched = BTreeSet::new();
        for key in &self.dirt.statuses {
            let own = self.world.records.of_name(key);
            let strays = own.filter(|(address, object)| self.world.fate(*address, object).is_some());
            touched.extend(strays.flat_map(|(_, object)| object.spec.owners.iter().filter_map(owner_key)));
        }
        self.dirt.statuses.append(&mut touched);
    }

    /// Drafts the moves of the allocations that were touched. Of those that stay, the owners say why.
    pub(super) fn move_allocations(&mut self, drafts: &mut Drafts) {
        let mut touched: BTreeSet<IpAddr> = self.dirt.addresses.clone();
        let wanting = self.dirt.wanting.iter();
        touched.extend(wanting.flat_map(|key| self.world.records.of_name(key)).map(|(address, _)| address));
        for address in touched {
            let Some(object) = self.world.records.find(address).cloned() else { continue };
            let is_busy = self.world.records.flight(address).is_some() || object.metadata.deletion_timestamp.is_some();
            if is_busy || self.is_out_of_reach(&object) {
                continue;
            }
            match self.world.fate(address, &object) {
                Some(Fate::Moves(pool)) => self.draft_move(address, &object, &pool, drafts),
                Some(Fate::Stays(_)) => {
                    let owners = object.spec.owners.iter().filter_map(owner_key);
                    self.dirt.statuses.extend(owners.clone());
                    self.dirt.wanting.extend(owners);
                }
                None => {}
            }
        }
    }

    fn draft_move(&mut self, address: IpAddr, object: &IPAllocation, pool: &Arc<str>, drafts: &mut Drafts) {
        let mut next = object.clone();
        next.spec.pool = pool.to_string();
        next.metadata.labels.get_or_insert_default().insert(POOL_LABEL.to_owned(), pool.to_string());
        // For owners that name the pool the address comes by this write; the others have it already.
        let names_it = |key: &Key| self.world.balancers.find(key).is_some_and(|balancer| named(balancer).is_some());
        let owners = object.spec.owners.iter().filter_map(owner_key).filter(names_it).collect();
        self.world.records.depart(address, Flight::Replace { owners });
        let namespace = object.spec.owners.first().map_or("", |owner| &owner.namespace).into();
        drafts.put(&namespace, address, next);
    }
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool => f.write_str("no other pool includes it"),
            Self::Closed { pool: _, why: Closed::Tenant } => {
                f.write_str("the pool that includes it is not open to the tenants that have it")
            }
            Self::Closed { pool, why: Closed::Namespace } => {
                write!(f, "pool {pool}, which includes it, is not open to this namespace of the spoke")
            }
            Self::Closed { pool, why: Closed::Fleet(fleet) } => {
                write!(f, "pool {pool}, which includes it, is served by another fleet, {fleet}")
            }
            Self::Closed {
                pool,
                why: Closed::NotReady(PoolProblem::Overlap { .. } | PoolProblem::PortOverlap { .. }),
            } => {
                write!(f, "pool {pool}, which includes it, gives no addresses: an older pool has some of them")
            }
            Self::Closed {
                pool,
                why:
                    Closed::NotReady(
                        PoolProblem::NoAddresses
                        | PoolProblem::Invalid { .. }
                        | PoolProblem::Forbidden { .. }
                        | PoolProblem::Outside { .. },
                    ),
            } => write!(f, "pool {pool}, which includes it, gives no addresses: its spec.addresses has a mistake"),
            Self::Named { pool } => {
                write!(f, "it moves to pool {pool}, which includes it, when spec.address.pool names that pool or none")
            }
            Self::Shared { pool } => {
                write!(f, "pool {pool}, which includes it, does not let these load balancers share an address")
            }
            Self::Group { pool } => {
                write!(f, "pool {pool}, which includes it, belongs to another fleet than the addresses of its group")
            }
            Self::Unknown => f.write_str("nothing is known of a load balancer that has it"),
        }
    }
}
