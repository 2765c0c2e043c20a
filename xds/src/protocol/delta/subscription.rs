//! One type of one stream: the names wanted, the contents held, what is due and what is on its way. Knows no other type.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::Catalog;
use crate::resource::{ResourceType, Version};

#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    pub(super) wildcard: bool,
    /// The client came with nothing and has heard nothing: it waits for an answer, be it that there is nothing.
    pub(super) expectant: bool,
    pub(super) names: BTreeSet<Arc<str>>,
    /// What the client holds, once it has what is on its way.
    pub(super) held: BTreeMap<Arc<str>, Holding>,
    /// Names to look at.
    pub(super) due: BTreeSet<Arc<str>>,
    /// Names to answer even if the client holds the content.
    pub(super) forced: BTreeSet<Arc<str>>,
    pub(super) in_flight: Option<InFlight>,
    /// Parts of a refused response that are tried again, each alone, before anything else.
    pub(super) suspects: VecDeque<Vec<(Arc<str>, Version)>>,
}

/// What the client holds of one resource.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) version: Version,
    /// Where it leads to; nothing when the content is not ours to look up any more.
    pub(super) clusters: Option<Arc<[Arc<str>]>>,
    pub(super) origin: Origin,
    /// Set when the client refused a response with other content of this resource in it, without saying whether it
    /// was that: then the version is unknown, and the clusters are those of both.
    pub(super) tried: Option<Box<Tried>>,
}

impl Holding {
    /// Something, perhaps.
    pub(super) fn in_doubt() -> Self {
        Self { version: Version::FOREIGN, clusters: None, origin: Origin::Doubted, tried: None }
    }
}

/// How we know of what the client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It listed it when it came.
    Listed,
    /// It was sent on this stream.
    Sent,
    /// It was sent in a response that was refused, and the client may have applied it, or not.
    Doubted,
}

/// Content that the client may have applied.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    pub(super) version: Version,
    /// What the client holds if it did not.
    pub(super) before: Option<Holding>,
}

/// A response that the client has not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) sent: Vec<Sent>,
    pub(super) removed: Vec<(Arc<str>, Option<Holding>)>,
    pub(super) at: Duration,
}

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) name: Arc<str>,
    pub(super) version: Version,
    pub(super) before: Option<Holding>,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            wildcard: false,
            expectant: false,
            names: BTreeSet::new(),
            held: BTreeMap::new(),
            due: BTreeSet::new(),
            forced: BTreeSet::new(),
            in_flight: None,
            suspects: VecDeque::new(),
        }
    }

    /// How many names it keeps. A name that is no longer wanted stays due until the next response.
    pub(super) fn kept(&self) -> usize {
        self.names.len().max(self.held.len()).max(self.due.len())
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Wants everything from now on.
    pub(super) fn take_all(&mut self, catalog: &Catalog) {
        if !self.wildcard {
            self.wildcard = true;
            self.look_at_all(catalog);
        }
    }

    /// Makes everything due that may differ from what the client holds.
    pub(super) fn look_at_all(&mut self, catalog: &Catalog) {
        self.due.extend(self.held.keys().map(Arc::clone));
        self.due.extend(self.names.iter().map(Arc::clone));
        if self.wildcard {
            self.due.extend(catalog.all(self.kind).map(|resource| Arc::clone(resource.name())));
        }
    }

    pub(super) fn changed(&mut self, name: &Arc<str>) {
        if self.covers(name) {
            self.due.insert(Arc::clone(name));
        }
    }

    /// Sends a name again if the client asked for it.
    pub(super) fn again(&mut self, name: &Arc<str>) {
        if self.covers(name) {
            self.forced.insert(Arc::clone(name));
            self.due.insert(Arc::clone(name));
        }
    }

    /// Ends a subscription; returns what the client drops with it.
    pub(super) fn leave(&mut self, name: &str) -> Vec<(Arc<str>, Holding)> {
        if name == "*" {
            if !std::mem::take(&mut self.wildcard) {
                return Vec::new();
            }
            let names = &self.names;
            return self.held.extract_if(.., |name, _| !names.contains(name)).collect();
        }
        let Some(name) = self.names.take(name) else { return Vec::new() };
        if self.wildcard {
            // The client has dropped it, but everything still covers it: it is sent once more.
            if self.held.contains_key(&name) {
                self.forced.insert(Arc::clone(&name));
                self.due.insert(name);
            } else {
                self.forced.remove(&name);
            }
            return Vec::new();
        }
        self.forced.remove(&name);
        self.held.remove_entry(&name).into_iter().collect()
    }

    pub(super) fn note_sent(&mut self, name: &Arc<str>, holding: Holding) -> Option<Holding> {
        self.forced.remove(name);
        self.held.insert(Arc::clone(name), holding)
    }

    pub(super) fn note_removed(&mut self, name: &Arc<str>) -> Option<Holding> {
        self.forced.remove(name);
        self.held.remove(name)
    }
}
