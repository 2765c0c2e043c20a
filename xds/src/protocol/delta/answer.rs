//! The client's answers: what it took, what it refused, and who is to blame for a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::subscription::{Holding, InFlight, Origin, Sent, Tried};
use super::{Delta, leads_somewhere};
use crate::protocol::Quarantine;
use crate::protocol::blame::blame;
use crate::report::{Event, Held, Refusal};
use crate::resource::{ResourceType, Version};

impl Delta {
    /// Takes an answer in. An answer to anything but the response on its way means nothing.
    pub(super) fn answered(
        &mut self,
        kind: ResourceType,
        nonce: &str,
        error: Option<String>,
        quarantine: &mut Quarantine,
        events: &mut Vec<Event>,
    ) {
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        let Some(in_flight) = subscription.in_flight.take_if(|sent| sent.nonce == nonce) else { return };
        for sent in &in_flight.sent {
            self.note_wanted_again(kind, &sent.name);
        }
        match error {
            None => self.accepted(kind, in_flight, quarantine, events),
            Some(message) => self.refused(kind, in_flight, &message, quarantine, events),
        }
    }

    /// A name that was unsubscribed and subscribed again while it was on its way: the client may have dropped it, or
    /// not.
    fn note_wanted_again(&mut self, kind: ResourceType, name: &Arc<str>) {
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        if subscription.covers(name) && !subscription.held.contains_key(name) {
            subscription.held.insert(Arc::clone(name), Holding::in_doubt());
            if leads_somewhere(kind) {
                self.users.hold(&(kind, Arc::clone(name)), None);
            }
        }
    }

    fn accepted(
        &mut self,
        kind: ResourceType,
        in_flight: InFlight,
        quarantine: &mut Quarantine,
        events: &mut Vec<Event>,
    ) {
        let InFlight { nonce: _, sent, removed, at: _ } = in_flight;
        let mut held = Vec::with_capacity(sent.len());
        for Sent { name, version, before } in sent {
            if let Some(before) = before {
                self.left(&(kind, Arc::clone(&name)), &before);
            }
            quarantine.doubt((kind, Arc::clone(&name)), false);
            held.push(Held { kind, name, version });
        }
        if !held.is_empty() {
            events.push(Event::Accepted(held));
        }
        self.removal_done(kind, removed, quarantine, events);
    }

    fn removal_done(
        &mut self,
        kind: ResourceType,
        removed: Vec<(Arc<str>, Option<Holding>)>,
        quarantine: &mut Quarantine,
        events: &mut Vec<Event>,
    ) {
        let mut gone = Vec::with_capacity(removed.len());
        for (name, before) in removed {
            if let Some(before) = before {
                self.left(&(kind, Arc::clone(&name)), &before);
                gone.push((kind, Arc::clone(&name)));
            }
            self.arrived(kind, &name);
            quarantine.doubt((kind, name), false);
        }
        if !gone.is_empty() {
            events.push(Event::Removed(gone));
        }
    }

    /// The client may have applied some of a refused response, and does not say which. So whoever is not to blame is
    /// sent again, apart from those who are, until every content is either acknowledged or refused by itself.
    fn refused(
        &mut self,
        kind: ResourceType,
        in_flight: InFlight,
        message: &str,
        quarantine: &mut Quarantine,
        events: &mut Vec<Event>,
    ) {
        let InFlight { nonce: _, sent, removed, at: _ } = in_flight;
        if sent.is_empty() {
            // Nothing is left to try: the client keeps what it was told to drop.
            self.removal_done(kind, removed, quarantine, events);
            return;
        }
        let names: BTreeSet<_> = sent.iter().map(|sent| Arc::clone(&sent.name)).collect();
        let culprits = if sent.len() == 1 { names } else { blame(message, &names) };
        let message = Refusal::words(message);
        let mut others = Vec::new();
        for Sent { name, version, before } in sent {
            if culprits.contains(&name) {
                quarantine.refuse((kind, Arc::clone(&name)), version, Arc::clone(&message));
                self.told.insert((kind, Arc::clone(&name)), version);
                let held = Held { kind, name: Arc::clone(&name), version };
                events.push(Event::Refused(Refusal { held, message: Arc::clone(&message) }));
                self.restore(kind, name, before, Applied::No, quarantine);
            } else {
                others.push((Arc::clone(&name), version));
                self.restore(kind, name, before, Applied::Perhaps, quarantine);
            }
        }
        for (name, before) in removed {
            self.restore(kind, name, before, Applied::Perhaps, quarantine);
        }
        self.retry(kind, others, culprits.is_empty());
    }

    /// The client holds what it held before the refused response, unless it applied some of it; and the name is looked
    /// at again.
    fn restore(
        &mut self,
        kind: ResourceType,
        name: Arc<str>,
        before: Option<Holding>,
        applied: Applied,
        quarantine: &mut Quarantine,
    ) {
        let key = (kind, Arc::clone(&name));
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        let refused = subscription.held.remove(&name);
        let held = if subscription.covers(&name) {
            subscription.due.insert(Arc::clone(&name));
            match applied {
                Applied::Perhaps => either(before.clone(), refused.as_ref()),
                Applied::No => surely(before.clone(), refused.as_ref()),
            }
        } else {
            None
        };
        let doubted = held.as_ref().is_some_and(|held| held.origin == Origin::Doubted);
        quarantine.doubt(key.clone(), doubted);
        if leads_somewhere(kind)
            && let Some(held) = &held
        {
            self.users.hold(&key, held.clusters.as_ref());
        }
        if let Some(subscription) = &mut self.subscriptions[kind.index()] {
            subscription.held.extend(held.map(|held| (name, held)));
        }
        for holding in before.into_iter().chain(refused) {
            self.left(&key, &holding);
        }
    }

    fn retry(&mut self, kind: ResourceType, mut others: Vec<(Arc<str>, Version)>, in_halves: bool) {
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        if in_halves {
            let second = others.split_off(others.len() / 2);
            subscription.suspects.push_front(second);
        }
        subscription.suspects.push_front(others);
    }
}

/// Whether the client may have applied a content that came in a response it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    Perhaps,
    No,
}

/// What the client holds when it is one of two, or is what it was or gone: no version that could be taken for current,
/// and the clusters of both.
fn either(before: Option<Holding>, refused: Option<&Holding>) -> Option<Holding> {
    let Some(refused) = refused else {
        return before.map(|before| Holding { version: Version::FOREIGN, origin: Origin::Doubted, ..before });
    };
    let clusters = match &before {
        None => refused.clusters.clone(),
        Some(before) => {
            let both = before.clusters.iter().zip(&refused.clusters);
            both.map(|(one, other)| one.iter().chain(other.iter()).cloned().collect()).next()
        }
    };
    // What was tried before this, and may have been applied, is not forgotten for a second try.
    let tried = match before {
        Some(Holding { tried: Some(tried), .. }) if tried.version == refused.version => tried,
        before => Box::new(Tried { version: refused.version, before }),
    };
    Some(Holding { version: Version::FOREIGN, clusters, origin: Origin::Doubted, tried: Some(tried) })
}

/// What the client holds when it surely did not apply the refused content: it did not when that was tried before, either.
fn surely(before: Option<Holding>, refused: Option<&Holding>) -> Option<Holding> {
    match before {
        Some(Holding { tried: Some(tried), .. }) if refused.is_some_and(|refused| refused.version == tried.version) => {
            tried.before
        }
        before => before,
    }
}
