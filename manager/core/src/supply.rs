//! What providers deliver, what of it was ordered or withdrawn and is not seen yet, and which orders they refuse. Knows orders
//! by name; decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Answer, Delivery, Key};

/// All deliveries.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    by_id: BTreeMap<String, Delivery>,
    said: BTreeMap<String, Saying>,
    /// Orders that are not taken, by name.
    refusals: BTreeMap<String, Answer>,
    /// How many addresses and names each pool was given.
    counts: BTreeMap<String, u32>,
    listed: bool,
}

/// What was said of a delivery last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Saying {
    Order { digest: String },
    Withdraw { pool: String, owner: Option<Key> },
}

impl Supply {
    /// Takes a complete list in; returns what there was and is, of what differs.
    pub fn replace(
        &mut self,
        all: Vec<Delivery>,
        unreadable: &BTreeSet<String>,
    ) -> Vec<(Option<Delivery>, Option<Delivery>)> {
        self.listed = true;
        let readable = all.iter().map(|delivery| delivery.id.as_str());
        let now: BTreeSet<&str> = readable.chain(unreadable.iter().map(String::as_str)).collect();
        let gone: Vec<String> = self.by_id.keys().filter(|id| !now.contains(id.as_str())).cloned().collect();
        let gone = gone.into_iter().map(|id| (id, None));
        let all: Vec<_> = gone.chain(all.into_iter().map(|delivery| (delivery.id.clone(), Some(delivery)))).collect();
        all.into_iter().filter_map(|(id, delivery)| self.note(&id, delivery)).collect()
    }

    /// Takes a look at one in; returns what there was and is, if that differs.
    pub fn note(&mut self, id: &str, now: Option<Delivery>) -> Option<(Option<Delivery>, Option<Delivery>)> {
        let is_as_said = match self.said.get(id) {
            // What went after it was ordered is to be ordered again.
            Some(Saying::Order { digest }) => match &now {
                Some(delivery) => delivery.digest == *digest,
                None => self.by_id.contains_key(id),
            },
            Some(Saying::Withdraw { .. }) => now.is_none(),
            None => false,
        };
        let said = if is_as_said { self.said.remove(id) } else { None };
        let is_refused = |now: &Delivery| self.refusals.get(id).is_some_and(|answer| answer.digest == now.digest);
        if now.as_ref().is_some_and(is_refused) {
            self.refusals.remove(id);
        }
        let before = match &now {
            Some(delivery) => self.by_id.insert(id.to_owned(), delivery.clone()),
            None => self.by_id.remove(id),
        };
        if let Some(before) = &before {
            let count = self.counts.entry(before.pool.clone()).or_default();
            *count = count.saturating_sub(given(before));
        }
        if let Some(now) = &now {
            let count = self.counts.entry(now.pool.clone()).or_default();
            *count = count.saturating_add(given(now));
        }
        // What was withdrawn before it was delivered is over, too.
        let never = match said {
            Some(Saying::Withdraw { pool, owner }) if before.is_none() => Some(Delivery::none(id, pool, owner)),
            Some(_) | None => None,
        };
        (is_as_said || before != now).then_some((before.or(never), now))
    }

    pub fn is_listed(&self) -> bool {
        self.listed
    }

    pub fn find(&self, id: &str) -> Option<&Delivery> {
        self.by_id.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.by_id.values()
    }

    /// How many addresses and names a pool was given.
    pub fn count(&self, pool: &str) -> u32 {
        self.counts.get(pool).copied().unwrap_or(0)
    }

    /// The digest of what is, or will be, delivered under this name.
    pub fn digest(&self, id: &str) -> Option<&str> {
        match self.said.get(id) {
            Some(Saying::Order { digest }) => Some(digest),
            Some(Saying::Withdraw { .. }) => None,
            None => self.by_id.get(id).map(|delivery| delivery.digest.as_str()),
        }
    }

    /// Whether something is delivered under this name, will be, or was until a moment ago.
    pub fn may_deliver(&self, id: &str) -> bool {
        self.by_id.contains_key(id) || self.said.contains_key(id)
    }

    pub fn ordered(&mut self, id: &str, digest: String) {
        self.said.insert(id.to_owned(), Saying::Order { digest });
    }

    /// It is to end; the owner is for whom it was ordered.
    pub fn withdrawn(&mut self, id: &str, pool: &str, owner: Option<&Key>) {
        self.said.insert(id.to_owned(), Saying::Withdraw { pool: pool.to_owned(), owner: owner.cloned() });
        self.refusals.remove(id);
    }

    /// What is said of the order that is wanted; whether that is news. Words that change from one try to the next are none.
    pub fn answered(&mut self, answer: Answer) -> bool {
        let is_this = |saying: &Saying| matches!(saying, Saying::Order { digest } if *digest == answer.digest);
        if answer.refusal.is_none() {
            return self.digest(&answer.id) == Some(&answer.digest) && self.refusals.remove(&answer.id).is_some();
        }
        let is_known = self.refusals.get(&answer.id).is_some_and(|known| known.digest == answer.digest);
        let is_news = !is_known && self.said.get(&answer.id).is_some_and(is_this);
        if is_news {
            self.refusals.insert(answer.id.clone(), answer);
        }
        is_news
    }

    /// Whether somebody may still try to order under this name, or to withdraw it, though nothing is delivered.
    pub fn is_tried(&self, id: &str) -> bool {
        let is_said = || matches!(self.said.get(id), Some(Saying::Withdraw { .. }));
        !self.by_id.contains_key(id) && (self.refusals.contains_key(id) || is_said())
    }

    /// For whom something is to end that is not delivered: what came and went unseen ends by no delivery.
    pub fn unseen_ends(&self) -> impl Iterator<Item = (&str, Option<&Key>)> {
        let unseen = self.said.iter().filter(|(id, _)| !self.by_id.contains_key(*id));
        unseen.filter_map(|(_, saying)| match saying {
            Saying::Withdraw { pool, owner } => Some((pool.as_str(), owner.as_ref())),
            Saying::Order { .. } => None,
        })
    }

    /// The names of the orders of a pool that are refused, and why.
    pub fn refusals(&self, pool: &str) -> impl Iterator<Item = (&str, &str)> {
        let all = self.refusals.values().filter(move |answer| answer.pool == pool);
        all.filter_map(|answer| Some((answer.id.as_str(), answer.refusal.as_deref()?)))
    }

    /// Forgets what was said of this one.
    pub fn forget(&mut self, id: &str) {
        self.said.remove(id);
    }

    /// Forgets what was ordered and has not come: it may have been changed, or deleted, unseen.
    pub fn forget_orders(&mut self) {
        self.said.retain(|_, saying| matches!(saying, Saying::Withdraw { .. }));
    }

    /// Forgets everything that was said.
    pub fn forget_all(&mut self) {
        self.said.clear();
        self.refusals.clear();
    }
}

fn given(delivery: &Delivery) -> u32 {
    u32::try_from(delivery.addresses.len().max(delivery.hostnames.len())).unwrap_or(u32::MAX)
}
