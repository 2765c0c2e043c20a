//! What a client should hold of a type now, and the response that comes of it. The order between types is made here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Due, Response, Set, Sotw};
use crate::catalog::Catalog;
use crate::protocol::Quarantine;
use crate::report::{Event, Held, Refusal};
use crate::resource::{Key, Resource, ResourceType, Version};

/// The version of a set: a hash of the names and versions in it.
pub(super) fn version(set: &Set) -> String {
    let mut content = Vec::new();
    for (name, resource) in set {
        content.extend_from_slice(&(name.len() as u64).to_be_bytes());
        content.extend_from_slice(name.as_bytes());
        content.extend_from_slice(resource.version().to_string().as_bytes());
    }
    Version::of(&content).to_string()
}

/// What is in a set and was not, at this version, in the one before.
pub(super) fn news(set: &Set, before: &Set) -> Option<Event> {
    let new =
        set.iter().filter(|(name, resource)| before.get(*name).map(Resource::version) != Some(resource.version()));
    let held: Vec<_> = new
        .map(|(name, resource)| Held { kind: resource.kind(), name: Arc::clone(name), version: resource.version() })
        .collect();
    (!held.is_empty()).then_some(Event::Accepted(held))
}

impl Sotw {
    /// The next response of a type, unless one is unanswered or there is nothing to say.
    pub(super) fn response(
        &mut self,
        kind: ResourceType,
        catalog: &Catalog,
        quarantine: &Quarantine,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> Option<Response> {
        let subscription = self.subscriptions[kind.index()].as_mut()?;
        if subscription.in_flight.is_some() {
            return None;
        }
        if let Some(group) = subscription.suspects.pop_front() {
            let mut set = subscription.accepted.clone();
            set.extend(group.into_iter().map(|resource| (Arc::clone(resource.name()), resource)));
            return Some(self.send(kind, set, now));
        }
        let due = std::mem::take(&mut subscription.due);
        if due == Due::No {
            return None;
        }
        let covered = subscription.covered(kind, catalog);
        let set = self.allowed(kind, covered, catalog, quarantine, now, events);
        let subscription = self.subscriptions[kind.index()].as_mut()?;
        let changed = version(&set) != version(&subscription.sent);
        // Of endpoints and routes absence means nothing: there is nothing to say about the last one that went.
        let sayable = kind.has_legacy_wildcard() || !set.is_empty();
        (sayable && (due == Due::Anyway || changed)).then(|| self.send(kind, set, now))
    }

    /// The wanted resources as far as they may be sent now, and what must stay a while longer.
    fn allowed(
        &mut self,
        kind: ResourceType,
        covered: Set,
        catalog: &Catalog,
        quarantine: &Quarantine,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> Set {
        let mut set = Set::new();
        let mut waits = BTreeSet::new();
        for (name, resource) in covered {
            let key = resource.key();
            let Some(subscription) = &self.subscriptions[kind.index()] else { continue };
            let accepted = subscription.accepted.get(&name).cloned();
            let is_accepted = accepted.as_ref().map(Resource::version) == Some(resource.version());
            if let Some(message) = quarantine.reason(&key, resource.version()) {
                set.extend(accepted.map(|kept| (name, kept)));
                self.tell(&resource, message, events);
            } else if is_accepted
                || self.is_warm(&resource, catalog, quarantine)
                || self.waited(&key, self.patience.warming, now)
            {
                set.insert(name, resource);
            } else {
                set.extend(accepted.map(|kept| (name, kept)));
                waits.insert(key);
            }
        }
        if kind == ResourceType::Cluster {
            self.keep_used(&mut set, &mut waits, now);
        }
        self.waits.retain(|key, until| key.0 != kind || (waits.contains(key) && *until > now));
        set
    }

    /// Clusters that are gone, but that listeners of the client still lead to.
    fn keep_used(&mut self, set: &mut Set, waits: &mut BTreeSet<Key>, now: Duration) {
        let Some(clusters) = &self.subscriptions[ResourceType::Cluster.index()] else { return };
        let leaving: Vec<_> = clusters.sent.values().filter(|sent| !set.contains_key(sent.name())).cloned().collect();
        if leaving.is_empty() {
            return;
        }
        let users = [ResourceType::Listener, ResourceType::Route].map(|kind| self.subscriptions[kind.index()].as_ref());
        let used: BTreeSet<_> = users
            .into_iter()
            .flatten()
            .flat_map(|user| user.accepted.values().chain(user.sent.values()))
            .flat_map(|resource| resource.clusters().iter().map(Arc::clone))
            .collect();
        for cluster in leaving.into_iter().filter(|cluster| used.contains(cluster.name())) {
            if !self.waited(&cluster.key(), self.patience.draining, now) {
                waits.insert(cluster.key());
                set.insert(Arc::clone(cluster.name()), cluster);
            }
        }
    }

    /// Whether something has waited for so long; it waits from now on if it did not yet.
    fn waited(&mut self, key: &Key, patience: Duration, now: Duration) -> bool {
        *self.waits.entry(key.clone()).or_insert(now + patience) <= now
    }

    fn tell(&mut self, resource: &Resource, message: &Arc<str>, events: &mut Vec<Event>) {
        let (kind, name) = resource.key();
        let version = resource.version();
        if self.told.insert((kind, Arc::clone(&name)), version) != Some(version) {
            let held = Held { kind, name, version };
            events.push(Event::Refused(Refusal { held, message: Arc::clone(message) }));
        }
    }

    /// Whether the client has been sent the clusters that this leads to, and their endpoints.
    fn is_warm(&self, resource: &Resource, catalog: &Catalog, quarantine: &Quarantine) -> bool {
        let sent = |kind: ResourceType, name: &Arc<str>| {
            let Some(wanted) = catalog.find(kind, name) else { return true };
            let subscription = self.subscriptions[kind.index()].as_ref();
            let unwanted = kind == ResourceType::Cluster && subscription.is_some_and(|s| !s.covers(name));
            subscription.is_some_and(|s| s.sent.contains_key(name))
                || unwanted
                || quarantine.reason(&(kind, Arc::clone(name)), wanted.version()).is_some()
        };
        let kinds = [ResourceType::Cluster, ResourceType::Endpoints];
        resource.clusters().iter().all(|cluster| kinds.into_iter().all(|kind| sent(kind, cluster)))
    }

    fn send(&mut self, kind: ResourceType, set: Set, now: Duration) -> Response {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let response =
            Response { kind, resources: set.values().cloned().collect(), version: version(&set), nonce: nonce.clone() };
        let mut renewed = BTreeSet::new();
        if let Some(subscription) = &mut self.subscriptions[kind.index()] {
            let old = &subscription.sent;
            let changed = set.values().filter(|new| old.get(new.name()).map(Resource::version) != Some(new.version()));
            renewed.extend(changed.map(|resource| Arc::clone(resource.name())));
            subscription.sent = set;
            subscription.last_nonce = nonce;
            subscription.in_flight = Some(now);
        }
        self.after_sending(kind, &renewed);
        response
    }

    /// An updated cluster warms up anew and waits for its endpoints; listeners may wait for either.
    fn after_sending(&mut self, kind: ResourceType, renewed: &BTreeSet<Arc<str>>) {
        match kind {
            ResourceType::Cluster | ResourceType::Endpoints => {
                if kind == ResourceType::Cluster
                    && let Some(endpoints) = &mut self.subscriptions[ResourceType::Endpoints.index()]
                    && endpoints.sent.keys().any(|name| renewed.contains(name))
                {
                    endpoints.due = Due::Anyway;
                }
                self.due(ResourceType::Listener);
                self.due(ResourceType::Route);
            }
            ResourceType::Listener | ResourceType::Route | ResourceType::Runtime => {}
        }
    }
}
