//! The state-of-the-world dialect, one stream: every response names all that the client should hold of a type. Knows
//! no gRPC and no clock. For clients that cannot speak delta: a change costs as much as is present.
//!
//! A refused resource is replaced by what the client took of it last on this stream, or left out when it never took
//! any. That is all this dialect allows: a client that comes back with older content from an earlier stream, which
//! nobody keeps, loses it, for to leave a name out is to delete it, and to send what is refused is to have the whole
//! response refused for ever. Delta clients keep it.

mod answer;
mod set;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Excess, NAMES_BESIDES, Patience, Quarantine};
use crate::catalog::Catalog;
use crate::files::Files;
use crate::report::Event;
use crate::resource::{Key, Resource, ResourceType, Version};

/// A request of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The type it is about.
    pub kind: ResourceType,
    /// All names wanted from now on; none at first, or `*`, is everything.
    pub names: Vec<String>,
    /// The version that the client accepted last.
    pub version: String,
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
    /// All that the client should hold.
    pub resources: Vec<Resource>,
    /// A hash of the above.
    pub version: String,
    /// What the client's answer will carry.
    pub nonce: String,
}

/// Resources by name.
type Set = BTreeMap<Arc<str>, Resource>;

/// One stream's state.
#[derive(Debug)]
pub struct Sotw {
    patience: Patience,
    subscriptions: [Option<Subscription>; ResourceType::COUNT],
    /// What waits for the order of things, and until when.
    waits: BTreeMap<Key, Duration>,
    /// Refusals that were reported on this stream, the last of each resource.
    told: BTreeMap<Key, Version>,
    cursor: u64,
    nonces: u64,
}

/// Whether a type must be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    #[default]
    No,
    /// And answered if something changed.
    IfChanged,
    /// And answered even if nothing changed.
    Anyway,
}

#[derive(Debug)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    due: Due,
    /// What the client acknowledged on this stream.
    accepted: Set,
    /// What it was sent last.
    sent: Set,
    last_nonce: String,
    in_flight: Option<Duration>,
    /// Parts of a refused response that are tried again, each alone, before anything else.
    suspects: VecDeque<Vec<Resource>>,
}

impl Sotw {
    /// A stream that begins with this catalog.
    pub fn new(patience: Patience, catalog: &Catalog) -> Self {
        Self {
            patience,
            subscriptions: [const { None }; ResourceType::COUNT],
            waits: BTreeMap::new(),
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

    /// Whether the stream has room for the names of a request. Call it before [`Sotw::on_request`].
    pub fn room_for(&self, request: &Request, catalog: &Catalog) -> Result<(), Excess> {
        let Request { kind, names, version: _, nonce: _, error: _, files: _ } = request;
        // The names of a request replace those of the last one.
        let others = ResourceType::ALL.into_iter().filter(|other| other != kind);
        let others = others.filter_map(|other| self.subscriptions[other.index()].as_ref());
        let kept: usize = others.map(|subscription| subscription.names.len()).sum();
        Excess::unless(names.is_empty() || kept + names.len() <= catalog.len() + NAMES_BESIDES)
    }

    /// Takes a request in. One that answers an older response than the last is void: the client will say more.
    pub fn on_request(&mut self, request: Request, catalog: &Catalog, quarantine: &mut Quarantine) -> Vec<Event> {
        let Request { kind, names, version, nonce, error, files: _ } = request;
        let mut events = Vec::new();
        let first = self.subscriptions[kind.index()].is_none();
        if first {
            if version.is_empty() {
                quarantine.release(kind);
            }
            self.subscriptions[kind.index()] = Some(Subscription::new());
        } else if self.subscriptions[kind.index()].as_ref().is_some_and(|s| s.last_nonce != nonce) {
            return events;
        } else {
            self.answered(kind, error, quarantine, &mut events);
        }
        self.subscribe(kind, names, first);
        if first && !version.is_empty() {
            self.resume(kind, &version, catalog, &mut events);
        }
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
                    self.due(key.0);
                }
            }
            None => ResourceType::ALL.into_iter().for_each(|kind| self.due(kind)),
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
        let overdue: Vec<_> =
            self.waits.iter().filter(|(_, until)| **until <= now).map(|((kind, _), _)| *kind).collect();
        for kind in overdue {
            self.due(kind);
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
        let idle =
            |kind: ResourceType| self.subscriptions[kind.index()].as_ref().is_some_and(|s| s.in_flight.is_none());
        self.waits.iter().filter(|((kind, _), _)| idle(*kind)).map(|(_, until)| *until).min()
    }

    /// When the oldest response was sent that the client has not answered; an age of the stream.
    pub fn unanswered_since(&self) -> Option<Duration> {
        self.subscriptions.iter().flatten().filter_map(|s| s.in_flight).min()
    }

    fn due(&mut self, kind: ResourceType) {
        if let Some(subscription) = &mut self.subscriptions[kind.index()] {
            subscription.due = subscription.due.max(Due::IfChanged);
        }
    }

    fn subscribe(&mut self, kind: ResourceType, names: Vec<String>, first: bool) {
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        let nothing_named = names.is_empty();
        let (stars, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name == "*");
        let names: BTreeSet<Arc<str>> = names.into_iter().map(Arc::from).collect();
        let never_named = first || (subscription.wildcard && subscription.names.is_empty());
        let legacy = nothing_named && never_named && kind.has_legacy_wildcard();
        let wildcard = legacy || !stars.is_empty();
        let wants_more = first || (wildcard && !subscription.wildcard) || !names.is_subset(&subscription.names);
        let due = match (wants_more, names != subscription.names || wildcard != subscription.wildcard) {
            (true, _) => Due::Anyway,
            (false, true) => Due::IfChanged,
            (false, false) => Due::No,
        };
        subscription.due = subscription.due.max(due);
        subscription.wildcard = wildcard;
        subscription.names = names;
    }

    /// The client comes back. If everything that it took last is everything that it would get now, it gets nothing. Of
    /// names the version says nothing: it may have dropped one and want it again.
    fn resume(&mut self, kind: ResourceType, version: &str, catalog: &Catalog, events: &mut Vec<Event>) {
        let Some(subscription) = &mut self.subscriptions[kind.index()] else { return };
        let current = subscription.covered(kind, catalog);
        if subscription.wildcard && set::version(&current) == version {
            events.extend(set::news(&current, &Set::new()));
            subscription.accepted.clone_from(&current);
            subscription.sent = current;
            subscription.due = Due::IfChanged;
        }
    }
}

impl Subscription {
    fn new() -> Self {
        Self {
            wildcard: false,
            names: BTreeSet::new(),
            due: Due::No,
            accepted: Set::new(),
            sent: Set::new(),
            last_nonce: String::new(),
            in_flight: None,
            suspects: VecDeque::new(),
        }
    }

    fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// The resources that the client wants and that there are.
    fn covered(&self, kind: ResourceType, catalog: &Catalog) -> Set {
        if self.wildcard {
            return catalog.all(kind).map(|resource| (Arc::clone(resource.name()), resource.clone())).collect();
        }
        let named = self.names.iter().filter_map(|name| catalog.find(kind, name));
        named.map(|resource| (Arc::clone(resource.name()), resource.clone())).collect()
    }
}
