//! The addresses that are recorded as given, and those whose recording is under way. Knows owners; knows no pool's rules.

mod owners;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::IPAllocation;
use nave_api::ip_allocation::Owner;

use crate::former::Former;
use crate::hold::Hold;
use crate::pool::{Spans, is_everywhere};
use crate::shelf::Moved;
use crate::{Key, Timestamp};

pub(crate) use owners::{KIND, find_owner, named_place, owner_key, place, record_name, taken_by_others};

/// What is under way on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flight {
    /// Its creation, for these load balancers.
    Create { owners: BTreeSet<Key> },
    /// A change of its owners, by which these get it.
    Replace { owners: BTreeSet<Key> },
    /// Its end.
    Release { uid: String },
}

/// How many allocations of a pool have owners, and how many have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub used: u32,
    pub held: u32,
}

/// Every recorded address.
#[derive(Debug, Default)]
pub(crate) struct Records {
    by_address: BTreeMap<IpAddr, Arc<IPAllocation>>,
    by_owner: BTreeMap<Key, BTreeSet<IpAddr>>,
    by_tenant: BTreeMap<(Arc<str>, String), BTreeSet<IpAddr>>,
    by_pool: BTreeMap<String, BTreeSet<IpAddr>>,
    tallies: BTreeMap<String, Tally>,
    flights: BTreeMap<IpAddr, Flight>,
    /// The namespaces whose number of addresses grows by what is under way on an address, each as often as it does.
    pledged: BTreeMap<IpAddr, Vec<Arc<str>>>,
    coming: BTreeMap<Key, BTreeSet<IpAddr>>,
    /// Addresses recorded or promised to the load balancers of a namespace. Of those that stand for every address of the
    /// fleet's nodes, each owner counts: the cloud gives him one.
    counts: BTreeMap<Arc<str>, u32>,
    /// Addresses that are kept for their last owner, by when that ends, and by his namespace and himself.
    holds: BTreeSet<(Timestamp, IpAddr)>,
    /// Addresses whose allocation is there and could never be read: nothing is known of their owners.
    unknown: BTreeSet<IpAddr>,
    held: BTreeMap<Arc<str>, BTreeMap<Key, BTreeSet<IpAddr>>>,
    /// Who had what is free.
    pub former: Former,
}

/// What a look at an allocation changed.
#[derive(Debug)]
pub(crate) struct Noted {
    pub address: IpAddr,
    /// The load balancers that have, had or were promised the address.
    pub owners: BTreeSet<Key>,
    pub taken: bool,
    pub freed: bool,
    /// Whether it was being released.
    pub let_go: bool,
}

impl Records {
    /// Notes whether the allocation of the address is there and could never be read; whether that is news.
    pub fn set_unknown(&mut self, address: IpAddr, is_unknown: bool) -> bool {
        if is_unknown { self.unknown.insert(address) } else { self.unknown.remove(&address) }
    }

    /// Whether nothing is known of the address but that it is taken.
    pub fn is_unknown(&self, address: IpAddr) -> bool {
        self.unknown.contains(&address)
    }

    /// The addresses of which nothing is known but that they are taken.
    pub fn unknown(&self) -> &BTreeSet<IpAddr> {
        &self.unknown
    }

    /// Whether nothing is known of some ports on every address of the nodes but that they are taken.
    pub fn has_unknown_ports(&self) -> bool {
        self.unknown.iter().any(|address| is_everywhere(*address))
    }

    /// Takes a look in. An object that is not named after its address is nobody's lock and does not count.
    pub fn note(&mut self, moved: &Moved<IPAllocation>) -> Option<Noted> {
        let Moved { key, before, after } = moved;
        let object = after.as_ref().or(before.as_ref())?;
        let address = place(object)?;
        if record_name(address, &object.spec.pool) != *key.name {
            return None;
        }
        let (was_taken, let_go) = (self.is_taken(address), self.is_leaving(address));
        let known = self.by_address.remove(&address);
        let mut owners = BTreeSet::new();
        if let Some(known) = &known {
            self.leave(address, known, &mut owners);
        }
        if let Some(after) = after {
            self.join(address, after, &mut owners);
            // Of many who share one, those are concerned who have something else now.
            let is_many = |object: &IPAllocation| object.spec.owners.len() > 1;
            let shared = known.as_ref().filter(|known| is_everywhere(address) || (is_many(known) && is_many(after)));
            let shared = shared.filter(|known| known.spec.pool == after.spec.pool);
            if let Some(known) = shared {
                let (before, now) = (shares(known), shares(after));
                owners.retain(|owner| before.get(owner) != now.get(owner));
            }
            self.by_address.insert(address, Arc::clone(after));
        } else if let Some(owner) = known.as_ref().and_then(|known| known.spec.owners.first()).and_then(owner_key)
            && !is_everywhere(address)
        {
            self.former.remember(&object.spec.pool, address, owner);
        }
        let promised = self.land(address, after.as_deref());
        owners.extend(promised);
        let is_taken = self.is_taken(address);
        Some(Noted { address, owners, taken: !was_taken && is_taken, freed: was_taken && !is_taken, let_go })
    }

    pub fn find(&self, address: IpAddr) -> Option<&Arc<IPAllocation>> {
        self.by_address.get(&address)
    }

    /// The records of ports on every address of a fleet's nodes, one for each pool that has or had any.
    pub fn everywhere(&self) -> impl Iterator<Item = (IpAddr, &Arc<IPAllocation>)> {
        let all = IpAddr::from([0, 0, 0, 0])..=IpAddr::from([0, 255, 255, 255]);
        self.by_address.range(all).map(|(address, object)| (*address, object))
    }

    /// Whether something is under way on ports of the nodes elsewhere than in this record: which ones, is not known before.
    pub fn flies_everywhere_but(&self, place: IpAddr) -> bool {
        let all = IpAddr::from([0, 0, 0, 0])..=IpAddr::from([0, 255, 255, 255]);
        self.flights.range(all).any(|(address, _)| *address != place)
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.by_address.keys().copied()
    }

    /// What of these addresses is recorded or about to be: nobody else gets it.
    pub fn taken_in(&self, spans: &Spans) -> BTreeSet<IpAddr> {
        let within = |(low, high): (IpAddr, IpAddr)| {
            let recorded = self.by_address.range(low..=high).map(|(address, _)| *address);
            let flying = self.flights.range(low..=high);
            let flying = flying.filter(|(_, f)| matches!(f, Flight::Create { .. })).map(|(address, _)| *address);
            recorded.chain(flying).chain(self.unknown.range(low..=high).copied())
        };
        spans.ranges().flat_map(within).collect()
    }

    pub fn is_taken(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
            || self.is_unknown(address)
            || matches!(self.flights.get(&address), Some(Flight::Create { .. }))
    }

    /// The addresses recorded for a load balancer of this name, whichever its uid.
    pub fn of_name(&self, key: &Key) -> impl Iterator<Item = (IpAddr, &Arc<IPAllocation>)> {
        let addresses = self.by_owner.get(key).into_iter().flatten();
        addresses.filter_map(|address| self.by_address.get(address).map(|object| (*address, object)))
    }

    /// The addresses recorded for this very load balancer.
    pub fn of<'a>(&'a self, key: &'a Key, uid: &'a str) -> impl Iterator<Item = (IpAddr, &'a Arc<IPAllocation>)> {
        self.of_name(key).filter(move |(_, object)| find_owner(object, key, uid).is_some())
    }

    /// The addresses that a load balancer of this name had last, and that nobody has now: those that are kept for it first.
    pub fn formerly(&self, key: &Key) -> impl Iterator<Item = IpAddr> {
        let kept = self.held.get(&key.namespace).and_then(|held| held.get(key)).into_iter().flatten();
        kept.copied().chain(self.former.of(key))
    }

    /// How many addresses are kept for the load balancers of a namespace.
    pub fn held_in(&self, namespace: &str) -> usize {
        self.held.get(namespace).into_iter().flatten().map(|(_, addresses)| addresses.len()).sum()
    }

    /// When the first address is kept no longer, of those with which nothing is under way.
    pub fn first_end(&self) -> Option<Timestamp> {
        self.holds.iter().find(|(_, address)| !self.flights.contains_key(address)).map(|(until, _)| *until)
    }

    /// The addresses that are kept no longer.
    pub fn ended(&self, now: Timestamp) -> impl Iterator<Item = IpAddr> {
        self.holds.iter().take_while(move |(until, _)| *until <= now).map(|(_, address)| *address)
    }

    /// The addresses that are being created for it.
    pub fn coming(&self, key: &Key) -> impl Iterator<Item = IpAddr> {
        self.coming.get(key).into_iter().flatten().copied()
    }

    /// Addresses that are recorded or being recorded for the load balancers of a namespace.
    pub fn count_in(&self, namespace: &str) -> u32 {
        self.counts.get(namespace).copied().unwrap_or(0)
    }

    fn count(&mut self, namespace: &Arc<str>, change: i32) {
        let count = self.counts.entry(Arc::clone(namespace)).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            self.counts.remove(namespace);
        }
    }

    pub fn tally(&self, pool: &str) -> Tally {
        self.tallies.get(pool).copied().unwrap_or_default()
    }

    pub fn flight(&self, address: IpAddr) -> Option<&Flight> {
        self.flights.get(&address)
    }

    /// Whether the address is being released.
    pub fn is_leaving(&self, address: IpAddr) -> bool {
        matches!(self.flights.get(&address), Some(Flight::Release { .. }))
    }

    /// The addresses that are recorded in a pool, be they kept for somebody only.
    pub fn of_pool(&self, pool: &str) -> impl Iterator<Item = IpAddr> {
        self.by_pool.get(pool).into_iter().flatten().copied()
    }

    /// The addresses of a pool that the load balancers of a namespace own.
    pub fn of_tenant(&self, namespace: &Arc<str>, pool: &str) -> impl Iterator<Item = IpAddr> {
        self.by_tenant.get(&(Arc::clone(namespace), pool.to_owned())).into_iter().flatten().copied()
    }

    /// From now on this is under way on the address.
    pub fn depart(&mut self, address: IpAddr, flight: Flight) {
        for owner in promised(&flight) {
            self.coming.entry(owner.clone()).or_default().insert(address);
        }
        self.pledge(address, &flight);
        self.flights.insert(address, flight);
    }

    /// Counts what is under way for whom it is new.
    fn pledge(&mut self, address: IpAddr, flight: &Flight) {
        let mut namespaces: Vec<Arc<str>> = promised(flight).map(|owner| Arc::clone(&owner.namespace)).collect();
        if !is_everywhere(address) {
            namespaces.sort();
            namespaces.dedup();
            namespaces.retain(|namespace| !self.is_in(address, namespace));
        }
        for namespace in &namespaces {
            self.count(namespace, 1);
        }
        for namespace in self.pledged.insert(address, namespaces).unwrap_or_default() {
            self.count(&namespace, -1);
        }
    }

    /// Whether a load balancer of the namespace has the address.
    pub fn is_in(&self, address: IpAddr, namespace: &str) -> bool {
        let owners = self.by_address.get(&address).into_iter().flat_map(|object| &object.spec.owners);
        owners.into_iter().any(|owner| owner.namespace == *namespace)
    }

    /// The load balancer, too, gets the address by what is under way on it.
    pub fn board(&mut self, address: IpAddr, key: &Key) {
        let Some(mut flight) = self.flights.remove(&address) else { return };
        match &mut flight {
            Flight::Create { owners } | Flight::Replace { owners } => {
                owners.insert(key.clone());
                self.coming.entry(key.clone()).or_default().insert(address);
            }
            Flight::Release { .. } => {}
        }
        self.pledge(address, &flight);
        self.flights.insert(address, flight);
    }

    /// Forgets what was under way on the address; returns who was promised it.
    pub fn abort(&mut self, address: IpAddr) -> BTreeSet<Key> {
        let Some(flight) = self.flights.remove(&address) else { return BTreeSet::new() };
        for namespace in self.pledged.remove(&address).unwrap_or_default() {
            self.count(&namespace, -1);
        }
        for owner in promised(&flight) {
            if let Some(coming) = self.coming.get_mut(owner) {
                coming.remove(&address);
                if coming.is_empty() {
                    self.coming.remove(owner);
                }
            }
        }
        match flight {
            Flight::Create { owners } | Flight::Replace { owners } => owners,
            Flight::Release { .. } => BTreeSet::new(),
        }
    }

    /// Everything that is under way.
    pub fn flying(&self) -> Vec<IpAddr> {
        self.flights.keys().copied().collect()
    }

    /// What was under way ends with a look at the object; a release only when it is gone or another one.
    fn land(&mut self, address: IpAddr, after: Option<&IPAllocation>) -> BTreeSet<Key> {
        if let (Some(Flight::Release { uid }), Some(after)) = (self.flights.get(&address), after)
            && after.metadata.uid.as_ref() == Some(uid)
        {
            return BTreeSet::new();
        }
        self.abort(address)
    }

    fn join(&mut self, address: IpAddr, object: &IPAllocation, owners: &mut BTreeSet<Key>) {
        self.former.forget(address);
        for owner in object.spec.owners.iter().filter_map(owner_key) {
            self.by_owner.entry(owner.clone()).or_default().insert(address);
            owners.insert(owner);
        }
        for (namespace, count) in namespaces(address, object) {
            self.count(&namespace, count);
            self.by_tenant.entry((namespace, object.spec.pool.clone())).or_default().insert(address);
        }
        self.by_pool.entry(object.spec.pool.clone()).or_default().insert(address);
        if let Some(Hold { owner, until }) = Hold::of(object) {
            self.holds.insert((until, address));
            self.held.entry(Arc::clone(&owner.namespace)).or_default().entry(owner).or_default().insert(address);
        }
        let tally = self.tallies.entry(object.spec.pool.clone()).or_default();
        *tally.side(object) += 1;
    }

    fn leave(&mut self, address: IpAddr, object: &IPAllocation, owners: &mut BTreeSet<Key>) {
        for owner in object.spec.owners.iter().filter_map(owner_key) {
            remove_from(&mut self.by_owner, &owner, address);
            owners.insert(owner);
        }
        for (namespace, count) in namespaces(address, object) {
            self.count(&namespace, -count);
            remove_from(&mut self.by_tenant, &(namespace, object.spec.pool.clone()), address);
        }
        remove_from(&mut self.by_pool, &object.spec.pool, address);
        if let Some(Hold { owner, until }) = Hold::of(object) {
            self.holds.remove(&(until, address));
            let held = self.held.entry(Arc::clone(&owner.namespace)).or_default();
            remove_from(held, &owner, address);
            if held.is_empty() {
                self.held.remove(&owner.namespace);
            }
        }
        if let Some(tally) = self.tallies.get_mut(&object.spec.pool) {
            let side = tally.side(object);
            *side = side.saturating_sub(1);
        }
    }
}

/// Who gets the address by what is under way.
fn promised(flight: &Flight) -> impl Iterator<Item = &Key> {
    let owners = match flight {
        Flight::Create { owners } | Flight::Replace { owners } => Some(owners),
        Flight::Release { .. } => None,
    };
    owners.into_iter().flatten()
}

/// The namespaces of an allocation's owners, and how many addresses each has by it.
fn namespaces(address: IpAddr, object: &IPAllocation) -> BTreeMap<Arc<str>, i32> {
    let mut counts = BTreeMap::new();
    for owner in &object.spec.owners {
        let count: &mut i32 = counts.entry(Arc::from(owner.namespace.as_str())).or_default();
        *count = if is_everywhere(address) { count.saturating_add(1) } else { 1 };
    }
    counts
}

/// What each load balancer has by an allocation.
fn shares(object: &IPAllocation) -> BTreeMap<Key, &Owner> {
    object.spec.owners.iter().filter_map(|owner| Some((owner_key(owner)?, owner))).collect()
}

fn remove_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<IpAddr>>, at: &K, address: IpAddr) {
    if let Some(addresses) = map.get_mut(at) {
        addresses.remove(&address);
        if addresses.is_empty() {
            map.remove(at);
        }
    }
}

impl Tally {
    fn side(&mut self, object: &IPAllocation) -> &mut u32 {
        if object.spec.owners.is_empty() { &mut self.held } else { &mut self.used }
    }
}
