//! What to do with each due name, and the response that comes of it. The order between types is made here.

use std::sync::Arc;
use std::time::Duration;

use super::subscription::Origin;
use super::{Delta, Response, leads_somewhere};
use crate::catalog::Catalog;
use crate::protocol::Quarantine;
use crate::report::{Event, Held, Refusal};
use crate::resource::{Key, Resource, ResourceType};

/// What becomes of a due name.
enum Decision {
    Send(Resource),
    Remove,
    Nothing,
    Refused(Refusal),
    Wait { cluster: Arc<str>, deadline: Duration },
}

/// The outside that decisions look at.
#[derive(Clone, Copy)]
struct Outside<'a> {
    catalog: &'a Catalog,
    quarantine: &'a Quarantine,
    now: Duration,
}

impl Outside<'_> {
    /// Whether what is wanted of a resource now was refused.
    fn is_refused(&self, key: &Key) -> bool {
        let wanted = self.catalog.find(key.0, &key.1);
        wanted.is_some_and(|wanted| self.quarantine.reason(key, wanted.version()).is_some())
    }
}

impl Delta {
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
        while let Some(group) = subscription.suspects.pop_front() {
            let current = |(name, version)| catalog.find(kind, name).filter(|found| found.version() == version);
            let resources: Vec<_> = group
                .iter()
                .filter(|(name, _)| subscription.covers(name))
                .filter_map(|(name, version)| current((name, *version)).cloned())
                .collect();
            if !resources.is_empty() {
                return Some(self.send(kind, resources, Vec::new(), now));
            }
        }
        let due = std::mem::take(&mut subscription.due);
        let (resources, removed) = self.sort(kind, due, Outside { catalog, quarantine, now }, events);
        // A fresh client that wants everything would wait in vain to hear of nothing: Envoy, fifteen seconds per type.
        let subscription = self.subscriptions[kind.index()].as_ref()?;
        let expects = subscription.wildcard && subscription.expectant && catalog.count(kind) == 0;
        let nothing = resources.is_empty() && removed.is_empty() && !expects;
        (!nothing).then(|| self.send(kind, resources, removed, now))
    }

    fn sort(
        &mut self,
        kind: ResourceType,
        due: impl IntoIterator<Item = Arc<str>>,
        outside: Outside<'_>,
        events: &mut Vec<Event>,
    ) -> (Vec<Resource>, Vec<Arc<str>>) {
        let (mut resources, mut removed) = (Vec::new(), Vec::new());
        for name in due {
            match self.decide(kind, &name, outside) {
                Decision::Send(resource) => resources.push(resource),
                Decision::Remove => removed.push(name),
                Decision::Wait { cluster, deadline } => self.parking.park(&(kind, name), &cluster, deadline),
                Decision::Nothing => self.parking.forget(&(kind, name)),
                Decision::Refused(refusal) => {
                    self.parking.forget(&(kind, Arc::clone(&name)));
                    let version = refusal.held.version;
                    if self.told.insert((kind, name), version) != Some(version) {
                        events.push(Event::Refused(refusal));
                    }
                }
            }
        }
        // A cluster goes in a response of its own, after those that replace it are there.
        if kind == ResourceType::Cluster && !resources.is_empty() {
            for name in removed.drain(..) {
                self.due(kind, name);
            }
        }
        (resources, removed)
    }

    fn decide(&self, kind: ResourceType, name: &Arc<str>, outside: Outside<'_>) -> Decision {
        let Some(subscription) = &self.subscriptions[kind.index()] else { return Decision::Nothing };
        let held = subscription.held.get(name);
        let forced = subscription.forced.contains(name);
        let Some(resource) = outside.catalog.find(kind, name) else {
            let unheard = held.is_none() && !forced;
            return if unheard || outside.catalog.keeps(kind, name) {
                Decision::Nothing
            } else {
                self.decide_removal(kind, name, outside)
            };
        };
        if !subscription.covers(name) || (!forced && held.is_some_and(|held| held.version == resource.version())) {
            return Decision::Nothing;
        }
        let key = (kind, Arc::clone(name));
        if let Some(message) = outside.quarantine.reason(&key, resource.version()) {
            let held = Held { kind, name: Arc::clone(name), version: resource.version() };
            return Decision::Refused(Refusal { held, message: Arc::clone(message) });
        }
        if leads_somewhere(kind) && !self.parking.is_overdue(&key, outside.now) {
            let missing = resource.clusters().iter().find(|cluster| !self.is_warm(cluster, outside));
            if let Some(cluster) = missing {
                let deadline = outside.now + self.patience.warming;
                return Decision::Wait { cluster: Arc::clone(cluster), deadline };
            }
        }
        Decision::Send(resource.clone())
    }

    /// Whether the client has been sent this cluster and its endpoints, as far as they will ever be sent to it.
    fn is_warm(&self, cluster: &Arc<str>, outside: Outside<'_>) -> bool {
        [ResourceType::Cluster, ResourceType::Endpoints].into_iter().all(|kind| {
            let Some(wanted) = outside.catalog.find(kind, cluster) else { return true };
            let subscription = self.subscriptions[kind.index()].as_ref();
            let held = subscription.is_some_and(|s| s.held.contains_key(cluster));
            // A client that asks for clusters by name knows what it does; endpoints it asks for after the cluster.
            let unwanted = kind == ResourceType::Cluster && subscription.is_some_and(|s| !s.covers(cluster));
            held || unwanted || outside.quarantine.reason(&(kind, Arc::clone(cluster)), wanted.version()).is_some()
        })
    }

    fn decide_removal(&self, kind: ResourceType, name: &Arc<str>, outside: Outside<'_>) -> Decision {
        let key = (kind, Arc::clone(name));
        let patience = match kind {
            ResourceType::Cluster => self.patience_with_users(name, outside),
            ResourceType::Endpoints => {
                let leaving = outside.catalog.find(ResourceType::Cluster, name).is_none();
                let held = self.subscriptions[ResourceType::Cluster.index()].as_ref();
                (leaving && held.is_some_and(|s| s.held.contains_key(name))).then_some(self.patience.draining)
            }
            ResourceType::Listener | ResourceType::Route | ResourceType::Runtime => None,
        };
        match patience {
            Some(patience) if !self.parking.is_overdue(&key, outside.now) => {
                Decision::Wait { cluster: Arc::clone(name), deadline: outside.now.saturating_add(patience) }
            }
            // A listener whose new content was refused goes on with its old one, and needs the old cluster for that.
            Some(_) if kind == ResourceType::Cluster && self.users.of(name).any(|user| outside.is_refused(user)) => {
                Decision::Wait { cluster: Arc::clone(name), deadline: Duration::MAX }
            }
            Some(_) | None => Decision::Remove,
        }
    }

    /// How long the removal of a cluster waits for its users to go.
    fn patience_with_users(&self, cluster: &str, outside: Outside<'_>) -> Option<Duration> {
        if self.users.of(cluster).next().is_some() || self.users.has_unknown() {
            return Some(self.patience.draining);
        }
        // After a reconnect the client lists its clusters first and its listeners a moment later.
        let listed = self.subscriptions[ResourceType::Cluster.index()].as_ref();
        let listed = listed.and_then(|s| s.held.get(cluster)).is_some_and(|holding| holding.origin != Origin::Sent);
        let unheard = self.subscriptions[ResourceType::Listener.index()].is_none();
        (listed && unheard && outside.now < self.patience.warming).then_some(self.patience.warming)
    }
}
