//! The delta dialect, one stream: what the client subscribed to, what it holds, what is on its way. Knows no gRPC and
//! no clock.
//!
//! Work is done for names that are *due*: a change, a request, an answer or a deadline makes names due, and only those
//! are looked at. At most one response per type is unanswered; what comes due meanwhile goes with the next.

mod answer;
mod decide;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::parking::Parking;
use super::users::Users;
use super::{Excess, NAMES_BESIDES, Patience, Quarantine};
use crate::catalog::Catalog;
use crate::files::Files;
use crate::report::{Event, Held};
use crate::resource::{Key, Resource, ResourceType, Version};
use subscription::{Holding, InFlight, Origin, Sent, Subscription};

/// A request of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The type it is about.
    pub kind: ResourceType,
    /// Names wanted from now on; `*` is everything.
    pub subscribe: Vec<String>,
    /// Names no longer wanted.
    pub unsubscribe: Vec<String>,
    /// What the client holds already; only on the first request of a type.
    pub initial: Vec<(String, Version)>,
    /// The response it answers, or empty.
    pub nonce: String,
    /// The client's words, when it refuses that response.
    pub error: Option<String>,
    /// What the client says that it may open: at least the first request of a stream says who it is.
    pub files: Option<Files>,
}

/// A response to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The type it is about.
    pub kind: ResourceType,
    /// Resources that come or change.
    pub resources: Vec<Resource>,
    /// Names that are gone, or never were.
    pub removed: Vec<Arc<str>>,
    /// What the client's answer will carry.
    pub nonce: String,
}

/// One stream's state.
#[derive(Debug)]
pub struct Delta {
    patience: Patience,
    subscriptions: [Option<Subscription>; ResourceType::COUNT],
    users: Users,
    parking: Parking,
    /// Refusals that were reported on this stream, the last of each resource.
    told: BTreeMap<Key, Version>,
    cursor: u64,
    nonces: u64,
}

impl Delta {
    /// A stream that begins with this catalog.
    pub fn new(patience: Patience, catalog: &Catalog) -> Self {
        Self {
            patience,
            subscriptions: [const { None }; ResourceType::COUNT],
            users: Users::default(),
            parking: Parking::default(),
            told: BTreeMap::new(),
            cursor: catalog.head(),
            nonces: 0,
        }
    }

    /// Whether the client asks for all listeners and all clusters: only then it serves what its fleet serves.
    pub fn wants_everything(&self) -> bool {
        [ResourceType::Cluster, ResourceType::Listener]
            .into_iter()
            .all(|kind| self.subscriptions[kind.index()].as_ref().is_some_and(|subscription| subscription.wildcard))
    }

    /// Whether the stream has room for the names of a request. Call it before [`Delta::on_request`].
    pub fn room_for(&self, request: &Request, catalog: &Catalog) -> Result<(), Excess> {
        let Request { kind, subscribe, unsubscribe: _, initial, nonce: _, error: _, files: _ } = request;
        let begun = self.subscriptions[kind.index()].as_ref();
        let is_new = |name: &&String| !begun.is_some_and(|begun| begun.names.contains(name.as_str()));
        let subscribed = subscribe.iter().filter(is_new).count();
        // A client that comes back names what it holds twice: that it wants it, and that it holds it.
        let more = if begun.is_some() { subscribed } else { subscribed.max(initial.len()) };
        let kept: usize = self.subscriptions.iter().flatten().map(Subscription::kept).sum();
        Excess::unless(more == 0 || kept + more <= catalog.len() + NAMES_BESIDES)
    }

    /// Takes a request in: an answer to a response, changed subscriptions, or both.
    pub fn on_request(&mut self, request: Request, catalog: &Catalog, quarantine: &mut Quarantine) -> Vec<Event> {
        let Request { kind, subscribe, unsubscribe, initial, nonce, error, files: _ } = request;
        let mut events = Vec::new();
        let first = self.subscriptions[kind.index()].is_none();
        if first {
            self.begin(kind, initial, subscribe.is_empty(), catalog, quarantine, &mut events);
        }
        self.answered(kind, &nonce, error, quarantine, &mut events);
        self.unsubscribe(kind, unsubscribe);
        self.subscribe(kind, subscribe, first, catalog);
        events
    }

    /// Takes in what changed in the catalog since the last time.
    pub fn on_change(&mut self, catalog: &Catalog, quarantine: &mut Quarantine) {
        match catalog.since(self.cursor) {
            Some(changed) => {
                for key in changed {
                    let current = catalog.find(key.0, &key.1).map(Resource::version);
                    quarantine.forget_unless(key, current);
                    if current.is_none() {
                        self.told.remove(key);
                    }
                    if let Some(subscription) = &mut self.subscriptions[key.0.index()] {
                        subscription.changed(&key.1);
                    }
                }
            }
            None => {
                for subscription in self.subscriptions.iter_mut().flatten() {
                    subscription.look_at_all(catalog);
                }
            }
        }
        self.cursor = catalog.head();
    }

    /// What is to be sent now. `now` is the age of the stream.
    pub fn responses(
        &mut self,
        catalog: &Catalog,
        quarantine: &Quarantine,
        now: Duration,
    ) -> (Vec<Response>, Vec<Event>) {
        for (kind, name) in self.parking.overdue(now) {
            self.due(kind, name);
        }
        let mut events = Vec::new();
        let mut responses = Vec::new();
        for kind in ResourceType::ALL {
            responses.extend(self.response(kind, catalog, quarantine, now, &mut events));
        }
        (responses, events)
    }

    /// When to ask for responses again, though nothing happened; an age of the stream.
    pub fn wake(&self) -> Option<Duration> {
        self.parking.next()
    }

    /// When the oldest response was sent that the client has not answered; an age of the stream.
    pub fn unanswered_since(&self) -> Option<Duration> {
        self.subscriptions.iter().flatten().filter_map(|s| s.in_flight.as_ref().map(|sent| sent.at)).min()
    }

    fn begin(
        &mut self,
        kind: ResourceType,
        initial: Vec<(String, Version)>,
        names_nothing: bool,
        catalog: &Catalog,
        quarantine: &mut Quarantine,
        events: &mut Vec<Event>,
    ) {
        if initial.is_empty() {
            quarantine.release(kind);
        }
        // What is in doubt is not what the client believes that it holds.
        let doubted: BTreeSet<_> = quarantine.doubted(kind).map(Arc::clone).collect();
        let listed = initial.into_iter().map(|(name, version)| Held { kind, name: name.into(), version });
        let mut held: Vec<_> = listed.filter(|held| !doubted.contains(&held.name)).collect();
        held.sort_unstable();
        let mut subscription = Subscription::new(kind);
        subscription.expectant = held.is_empty();
        for Held { kind: _, name, version } in &held {
            let current = catalog.find(kind, name).filter(|resource| resource.version() == *version);
            let clusters = current.map(|resource| Arc::clone(resource.clusters()));
            let listed = Holding { version: *version, clusters, origin: Origin::Listed, tried: None };
            self.holds(&mut subscription, kind, name, listed);
        }
        for name in &doubted {
            self.holds(&mut subscription, kind, name, Holding::in_doubt());
        }
        if names_nothing && kind.has_legacy_wildcard() {
            subscription.take_all(catalog);
        }
        self.subscriptions[kind.index()] = Some(subscription);
        self.begun(kind);
        if !held.is_empty() {
            events.push(Event::Accepted(held));
        }
    }

    /// Who waited for what the client brought looks again: listeners for clusters and endpoints that it holds, clusters
    /// that are to go for news of what leads to them.
    fn begun(&mut self, kind: ResourceType) {
        let held = self.subscriptions[kind.index()].as_ref().map(|begun| begun.held.keys().map(Arc::clone).collect());
        let held: Vec<_> = held.unwrap_or_default();
        for name in held {
            self.arrived(kind, &name);
        }
        if leads_somewhere(kind) {
            self.look_at_waiting();
        }
    }

    /// The client comes with this.
    fn holds(&mut self, subscription: &mut Subscription, kind: ResourceType, name: &Arc<str>, holding: Holding) {
        if leads_somewhere(kind) {
            self.users.hold(&(kind, Arc::clone(name)), holding.clusters.as_ref());
        }
        subscription.held.insert(Arc::clone(name), holding);
    }

    fn subscribe(&mut self, kind: ResourceType, names: Vec<String>, first: bool, catalog: &Catalog) {
        for name in names {
            let sent_here = self.was_sent(ResourceType::Cluster, &name);
            let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
            if name == "*" {
                subscription.take_all(catalog);
                continue;
            }
            let name: Arc<str> = name.into();
            let listed = first && subscription.held.contains_key(&name);
            // A name that is asked for is answered, unless the client says itself what it holds; but an updated
            // cluster warms up anew and waits for its endpoints, whatever they were.
            if !listed || (kind == ResourceType::Endpoints && sent_here) {
                subscription.forced.insert(Arc::clone(&name));
            }
            subscription.due.insert(Arc::clone(&name));
            subscription.names.insert(name);
        }
    }

    fn unsubscribe(&mut self, kind: ResourceType, names: Vec<String>) {
        for name in names {
            let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
            for (name, holding) in subscription.leave(&name) {
                self.left(&(kind, name), &holding);
            }
        }
    }

    fn was_sent(&self, kind: ResourceType, name: &str) -> bool {
        let subscription = self.subscriptions[kind.index()].as_ref();
        subscription.and_then(|s| s.held.get(name)).is_some_and(|holding| holding.origin != Origin::Listed)
    }

    fn due(&mut self, kind: ResourceType, name: Arc<str>) {
        if let Some(subscription) = &mut self.subscriptions[kind.index()] {
            subscription.due.insert(name);
        }
    }

    /// A cluster or its endpoints came or went: who waited for that looks again.
    fn arrived(&mut self, kind: ResourceType, name: &str) {
        match kind {
            ResourceType::Cluster | ResourceType::Endpoints => {
                for (kind, name) in self.parking.wake(name) {
                    self.due(kind, name);
                }
            }
            ResourceType::Listener | ResourceType::Route | ResourceType::Runtime => {}
        }
    }

    /// The client no longer holds that content: clusters that it led to may go now.
    fn left(&mut self, key: &Key, holding: &Holding) {
        if !leads_somewhere(key.0) {
            return;
        }
        let was_unknown = self.users.has_unknown();
        for cluster in self.users.leave(key, holding.clusters.as_ref()) {
            self.arrived(ResourceType::Cluster, &cluster);
        }
        if was_unknown && !self.users.has_unknown() {
            self.look_at_waiting();
        }
    }

    fn look_at_waiting(&mut self) {
        let waiting: Vec<_> = self.parking.waiting().cloned().collect();
        for (kind, name) in waiting {
            self.due(kind, name);
        }
    }

    fn send(
        &mut self,
        kind: ResourceType,
        resources: Vec<Resource>,
        removed: Vec<Arc<str>>,
        now: Duration,
    ) -> Response {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let mut in_flight =
            InFlight { nonce: nonce.clone(), sent: Vec::with_capacity(resources.len()), removed: Vec::new(), at: now };
        for resource in &resources {
            in_flight.sent.push(self.note_sent(resource));
        }
        for name in &removed {
            self.parking.forget(&(kind, Arc::clone(name)));
            let before = self.subscriptions[kind.index()].as_mut().and_then(|s| s.note_removed(name));
            in_flight.removed.push((Arc::clone(name), before));
        }
        if let Some(subscription) = &mut self.subscriptions[kind.index()] {
            subscription.in_flight = Some(in_flight);
            subscription.expectant = false;
        }
        Response { kind, resources, removed, nonce }
    }

    fn note_sent(&mut self, resource: &Resource) -> Sent {
        let (kind, name) = resource.key();
        let key = (kind, Arc::clone(&name));
        self.parking.forget(&key);
        if leads_somewhere(kind) {
            self.users.hold(&key, Some(resource.clusters()));
        }
        let holding = Holding {
            version: resource.version(),
            clusters: Some(Arc::clone(resource.clusters())),
            origin: Origin::Sent,
            tried: None,
        };
        let before = self.subscriptions[kind.index()].as_mut().and_then(|s| s.note_sent(&name, holding));
        if kind == ResourceType::Cluster
            && let Some(endpoints) = &mut self.subscriptions[ResourceType::Endpoints.index()]
        {
            endpoints.again(&name);
        }
        self.arrived(kind, &name);
        Sent { name, version: resource.version(), before }
    }
}

/// Whether resources of this type send traffic to clusters.
fn leads_somewhere(kind: ResourceType) -> bool {
    match kind {
        ResourceType::Cluster | ResourceType::Endpoints | ResourceType::Runtime => false,
        ResourceType::Listener | ResourceType::Route => true,
    }
}
