//! The client's answers: what it took, what it refused, and who is to blame for a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Due, Set, Sotw, set};
use crate::protocol::Quarantine;
use crate::protocol::blame::blame;
use crate::report::{Event, Held, Refusal};
use crate::resource::{Resource, ResourceType};

impl Sotw {
    pub(super) fn answered(
        &mut self,
        kind: ResourceType,
        error: Option<String>,
        quarantine: &mut Quarantine,
        events: &mut Vec<Event>,
    ) {
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        if subscription.in_flight.take().is_none() {
            return;
        }
        subscription.due = subscription.due.max(Due::IfChanged);
        let Some(message) = error else {
            let before = std::mem::replace(&mut subscription.accepted, subscription.sent.clone());
            events.extend(set::news(&subscription.accepted, &before));
            events.extend(gone(kind, &subscription.accepted, &before));
            if kind == ResourceType::Listener || kind == ResourceType::Route {
                self.due(ResourceType::Cluster);
            }
            return;
        };
        self.refused(kind, &message, quarantine, events);
    }

    fn refused(&mut self, kind: ResourceType, message: &str, quarantine: &mut Quarantine, events: &mut Vec<Event>) {
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        let sent = std::mem::replace(&mut subscription.sent, subscription.accepted.clone());
        let accepted = &subscription.accepted;
        let is_new =
            |resource: &&Resource| accepted.get(resource.name()).map(Resource::version) != Some(resource.version());
        let new: Vec<Resource> = sent.values().filter(is_new).cloned().collect();
        if !new.is_empty() {
            // What was not to blame and went along was refused with the rest, though it had been accepted before.
            subscription.due = Due::Anyway;
        }
        let names: BTreeSet<_> = new.iter().map(|resource| Arc::clone(resource.name())).collect();
        let culprits = if new.len() == 1 { names } else { blame(message, &names) };
        let message = Refusal::words(message);
        let mut others = Vec::new();
        for resource in new {
            let key = resource.key();
            if !culprits.contains(&key.1) {
                others.push(resource);
                continue;
            }
            let version = resource.version();
            quarantine.refuse(key.clone(), version, Arc::clone(&message));
            let held = Held { kind, name: Arc::clone(&key.1), version };
            self.told.insert(key, version);
            events.push(Event::Refused(Refusal { held, message: Arc::clone(&message) }));
        }
        if others.is_empty() {
            return;
        }
        if culprits.is_empty() {
            let second = others.split_off(others.len() / 2);
            subscription.suspects.push_front(second);
        }
        subscription.suspects.push_front(others);
    }
}

/// What was in the set before and is no longer. Of endpoints and routes absence means nothing.
fn gone(kind: ResourceType, now: &Set, before: &Set) -> Option<Event> {
    let gone: Vec<_> =
        before.keys().filter(|name| !now.contains_key(*name)).map(|name| (kind, Arc::clone(name))).collect();
    (kind.has_legacy_wildcard() && !gone.is_empty()).then_some(Event::Removed(gone))
}
