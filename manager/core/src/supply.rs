//! What providers deliver, what of it was ordered or withdrawn and is not seen yet, and which orders they refuse. Knows orders by name; decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Delivery, Refusal};

/// All deliveries.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    by_id: BTreeMap<String, Delivery>,
    said: BTreeMap<String, Saying>,
    /// Orders that are not taken, by name.
    refusals: BTreeMap<String, Refusal>,
    /// How many addresses and names each pool was given.
    counts: BTreeMap<String, u32>,
    listed: bool,
}

/// What was said of a delivery last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Saying {
    Order { digest: String },
    Withdraw,
}

impl Supply {
    /// Takes a complete list in; returns what there was and is, of what differs.
    pub fn replace(&mut self, all: Vec<Delivery>) -> Vec<(Option<Delivery>, Option<Delivery>)> {
        self.listed = true;
        let now: BTreeSet<&str> = all.iter().map(|delivery| delivery.id.as_str()).collect();
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
            Some(Saying::Withdraw) => now.is_none(),
            None => false,
        };
        if is_as_said {
            self.said.remove(id);
        }
        let is_taken = |delivery: &Delivery| self.refusals.get(id).is_some_and(|r| r.digest == delivery.digest);
        if now.as_ref().is_some_and(is_taken) {
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
        (is_as_said || before != now).then_some((before, now))
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
            Some(Saying::Withdraw) => None,
            None => self.by_id.get(id).map(|delivery| delivery.digest.as_str()),
        }
    }

    /// Whether something is delivered under this name, will be, or was until a moment ago.
    pub fn may_deliver(&self, id: &str) -> bool {
        self.by_id.contains_key(id) || self.said.contains_key(id)
    }

    /// It is ordered like that; whether it was refused when it was ordered otherwise.
    pub fn ordered(&mut self, id: &str, digest: String) -> bool {
        let is_mended = self.refusals.get(id).is_some_and(|refusal| refusal.digest != digest);
        if is_mended {
            self.refusals.remove(id);
        }
        self.said.insert(id.to_owned(), Saying::Order { digest });
        is_mended
    }

    pub fn withdrawn(&mut self, id: &str) {
        self.said.insert(id.to_owned(), Saying::Withdraw);
    }

    /// An order is not taken; whether that is news. What is not ordered any more is none.
    pub fn refused(&mut self, refusal: Refusal) -> bool {
        let is_this = |saying: &Saying| matches!(saying, Saying::Order { digest } if *digest == refusal.digest);
        let is_wanted = self.said.get(&refusal.id).is_some_and(is_this);
        let is_news = is_wanted && self.refusals.get(&refusal.id) != Some(&refusal);
        if is_news {
            self.refusals.insert(refusal.id.clone(), refusal);
        }
        is_news
    }

    /// Nobody orders it any more; whether it was refused.
    pub fn forget_refusal(&mut self, id: &str) -> bool {
        self.refusals.remove(id).is_some()
    }

    /// Why the order of this name is not taken.
    pub fn refusal(&self, id: &str) -> Option<&Refusal> {
        self.refusals.get(id)
    }

    /// The orders of a pool that are not taken.
    pub fn refusals(&self, pool: &str) -> impl Iterator<Item = &Refusal> {
        self.refusals.values().filter(move |refusal| refusal.pool == pool)
    }

    /// Forgets what was said of this one.
    pub fn forget(&mut self, id: &str) {
        self.said.remove(id);
    }

    /// Forgets what was said of deliveries that differ from it still: what was ordered may have been changed unseen.
    pub fn forget_differing(&mut self) {
        self.said.retain(|id, saying| !(matches!(saying, Saying::Order { .. }) && self.by_id.contains_key(id)));
    }

    /// Forgets everything that was said.
    pub fn forget_all(&mut self) {
        self.said.clear();
    }
}

fn given(delivery: &Delivery) -> u32 {
    u32::try_from(delivery.addresses.len().max(delivery.hostnames.len())).unwrap_or(u32::MAX)
}
