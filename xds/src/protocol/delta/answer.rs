//! The client's answers: what it took, what it refused, and who is to blame for a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Delta;
use super::subscription::{Holding, InFlight, Sent};
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
        match error {
            None => self.accepted(kind, in_flight, events),
            Some(message) => self.refused(kind, in_flight, &message, quarantine, events),
        }
    }

    fn accepted(&mut self, kind: ResourceType, in_flight: InFlight, events: &mut Vec<Event>) {
        let InFlight { nonce: _, sent, removed, at: _ } = in_flight;
        let mut held = Vec::with_capacity(sent.len());
        for Sent { name, version, before } in sent {
            if let Some(before) = before {
                self.left(&(kind, Arc::clone(&name)), &before);
            }
            held.push(Held { kind, name, version });
        }
        if !held.is_empty() {
            events.push(Event::Accepted(held));
        }
        self.removal_done(kind, removed, events);
    }

    fn removal_done(&mut self, kind: ResourceType, removed: Vec<(Arc<str>, Option<Holding>)>, events: &mut Vec<Event>) {
        let mut gone = Vec::with_capacity(removed.len());
        for (name, before) in removed {
            if let Some(before) = before {
                self.left(&(kind, Arc::clone(&name)), &before);
                gone.push((kind, Arc::clone(&name)));
            }
            self.arrived(kind, &name);
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
            self.removal_done(kind, removed, events);
            return;
        }
        let names: BTreeSet<_> = sent.iter().map(|sent| Arc::clone(&sent.name)).collect();
        let culprits = if sent.len() == 1 { names } else { blame(message, &names) };
        let message: Arc<str> = message.into();
        let mut others = Vec::new();
        for Sent { name, version, before } in sent {
            if culprits.contains(&name) {
                quarantine.refuse((kind, Arc::clone(&name)), version, Arc::clone(&message));
                self.told.insert(((kind, Arc::clone(&name)), version));
                let held = Held { kind, name: Arc::clone(&name), version };
                events.push(Event::Refused(Refusal { held, message: Arc::clone(&message) }));
            } else {
                others.push((Arc::clone(&name), version));
            }
            self.restore(kind, name, before);
        }
        for (name, before) in removed {
            self.restore(kind, name, before);
        }
        self.retry(kind, others, culprits.is_empty());
    }

    /// The client holds what it held before the refused response, and the name is looked at again.
    fn restore(&mut self, kind: ResourceType, name: Arc<str>, before: Option<Holding>) {
        let key = (kind, Arc::clone(&name));
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        let covered = subscription.covers(&name);
        let refused = subscription.held.remove(&name);
        let dropped = if covered {
            subscription.held.extend(before.map(|before| (Arc::clone(&name), before)));
            subscription.due.insert(name);
            None
        } else {
            before
        };
        for holding in refused.into_iter().chain(dropped) {
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
