//! A client of either dialect as Envoy is one, in a few words: what it wants, what it holds, what it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nave_xds::resource::{Resource, ResourceType};
use proptest::prelude::*;

use super::conversation::{Said, Told};

/// How a client behaves.
#[allow(clippy::struct_excessive_bools, reason = "four habits that have nothing to do with each other")]
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub delta: bool,
    /// Whether it says which resources it refuses.
    pub names_culprits: bool,
    /// Whether it applies the good ones of a response that it refuses. Clusters and listeners only, as Envoy does.
    pub applies_siblings: bool,
    /// Whether it asks for endpoints of clusters that it gets, as Envoy does, or for what it is told to want.
    pub follows_clusters: bool,
    /// Whether it asks for listeners before clusters.
    pub listeners_first: bool,
}

pub fn manners() -> impl Strategy<Value = Manner> {
    any::<(bool, bool, bool, bool)>().prop_map(
        |(names_culprits, applies_siblings, follows_clusters, listeners_first)| Manner {
            delta: true,
            names_culprits,
            applies_siblings,
            follows_clusters,
            listeners_first,
        },
    )
}

type Set = BTreeMap<Arc<str>, Resource>;

pub struct Client {
    manner: Manner,
    /// Endpoints wanted.
    wants: BTreeSet<Arc<str>>,
    /// What is applied.
    applied: BTreeMap<ResourceType, Set>,
    /// What it would say that it holds: what came in responses that it acknowledged.
    recorded: BTreeMap<ResourceType, Set>,
    versions: BTreeMap<ResourceType, String>,
    nonces: BTreeMap<ResourceType, String>,
    /// Whether a listener may not be without its cluster. Ends with the server's patience.
    pub order_matters: bool,
}

impl Client {
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            wants: BTreeSet::new(),
            applied: BTreeMap::new(),
            recorded: BTreeMap::new(),
            versions: BTreeMap::new(),
            nonces: BTreeMap::new(),
            order_matters: true,
        }
    }

    pub fn is_bad(resource: &Resource) -> bool {
        resource.body().starts_with(b"bad")
    }

    pub fn held(&self, kind: ResourceType) -> Set {
        self.applied.get(&kind).cloned().unwrap_or_default()
    }

    pub fn wants(&self, kind: ResourceType, name: &str) -> bool {
        kind != ResourceType::Endpoints || self.wants.contains(name)
    }

    /// Whether the dialect can say that something of this type is gone.
    pub fn absence_is_said(&self, kind: ResourceType) -> bool {
        self.manner.delta || kind != ResourceType::Endpoints
    }

    /// The first request of each type on a new stream.
    pub fn greetings(&self) -> Vec<(ResourceType, Said)> {
        let mut kinds = [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener];
        if self.manner.listeners_first {
            kinds.reverse();
        }
        kinds.into_iter().map(|kind| (kind, self.greeting(kind))).collect()
    }

    fn greeting(&self, kind: ResourceType) -> Said {
        let names = self.names(kind);
        let recorded = self.recorded.get(&kind).into_iter().flatten();
        let text = |resource: &Resource| String::from_utf8(resource.body().to_vec()).expect("text");
        Said {
            subscribe: names.clone(),
            names,
            holds: recorded.map(|(name, resource)| (name.to_string(), text(resource))).collect(),
            version: self.versions.get(&kind).cloned().unwrap_or_default(),
            ..Said::default()
        }
    }

    fn names(&self, kind: ResourceType) -> Vec<String> {
        if kind == ResourceType::Endpoints { self.wants.iter().map(ToString::to_string).collect() } else { Vec::new() }
    }

    /// The stream broke. A client that starts anew forgets everything.
    pub fn reset(&mut self, fresh: bool) {
        self.nonces.clear();
        if fresh {
            self.applied.clear();
            self.recorded.clear();
            self.versions.clear();
            if self.manner.follows_clusters {
                self.wants.clear();
            }
        }
    }

    /// Wants these endpoints from now on, unless it follows its clusters.
    pub fn want(&mut self, names: BTreeSet<Arc<str>>) -> Vec<(ResourceType, Said)> {
        if self.manner.follows_clusters { Vec::new() } else { self.want_endpoints(names).into_iter().collect() }
    }

    fn want_endpoints(&mut self, names: BTreeSet<Arc<str>>) -> Option<(ResourceType, Said)> {
        let kind = ResourceType::Endpoints;
        let before = std::mem::replace(&mut self.wants, names);
        let subscribe: Vec<_> = self.wants.difference(&before).map(ToString::to_string).collect();
        let unsubscribe: Vec<_> = before.difference(&self.wants).map(ToString::to_string).collect();
        for sets in [&mut self.applied, &mut self.recorded] {
            sets.entry(kind).or_default().retain(|name, _| self.wants.contains(name));
        }
        let changed = !subscribe.is_empty() || !unsubscribe.is_empty();
        let mut said = Said { subscribe, unsubscribe, names: self.names(kind), ..Said::default() };
        if !self.manner.delta {
            said.nonce = self.nonces.get(&kind).cloned().unwrap_or_default();
            said.version = self.versions.get(&kind).cloned().unwrap_or_default();
        }
        changed.then_some((kind, said))
    }

    /// Takes a response; returns the answer, and what comes of it.
    pub fn take(&mut self, told: Told) -> Vec<(ResourceType, Said)> {
        let Told { kind, resources, removed, nonce, version } = told;
        self.nonces.insert(kind, nonce.clone());
        let (bad, good): (Vec<_>, Vec<_>) = resources.into_iter().partition(Self::is_bad);
        let partial = self.manner.applies_siblings && self.absence_is_said(kind) && kind != ResourceType::Endpoints;
        if bad.is_empty() || partial {
            let kept: BTreeSet<_> = bad.iter().map(|resource| Arc::clone(resource.name())).collect();
            self.apply(kind, &good, &kept, &removed);
        }
        let mut answer = Said { nonce, names: self.names(kind), ..Said::default() };
        if bad.is_empty() {
            let applied = self.applied.get(&kind).cloned().unwrap_or_default();
            let recorded = self.recorded.entry(kind).or_default();
            for resource in &good {
                recorded.insert(Arc::clone(resource.name()), resource.clone());
            }
            recorded.retain(|name, _| applied.contains_key(name));
            self.versions.extend(version.map(|version| (kind, version)));
        } else {
            let names: Vec<_> = bad.iter().map(|resource| format!("{}: no", resource.name())).collect();
            answer.error = Some(if self.manner.names_culprits { names.join("\n") } else { "no".to_owned() });
        }
        answer.version = self.versions.get(&kind).cloned().unwrap_or_default();
        let mut said = vec![(kind, answer)];
        if kind == ResourceType::Cluster && self.manner.follows_clusters {
            let clusters = self.applied.entry(kind).or_default().keys().cloned().collect();
            said.extend(self.want_endpoints(clusters));
        }
        said
    }

    /// Applies what is good. In the state of the world what is missing is gone, except what is refused.
    fn apply(&mut self, kind: ResourceType, good: &[Resource], kept: &BTreeSet<Arc<str>>, removed: &[Arc<str>]) {
        let everything = !self.manner.delta && kind != ResourceType::Endpoints;
        let wants = &self.wants;
        let set = self.applied.entry(kind).or_default();
        if everything {
            set.retain(|name, _| kept.contains(name) || good.iter().any(|resource| resource.name() == name));
        }
        set.retain(|name, _| !removed.contains(name));
        let wanted = good.iter().filter(|r| kind != ResourceType::Endpoints || wants.contains(r.name()));
        set.extend(wanted.map(|resource| (Arc::clone(resource.name()), resource.clone())));
        self.assert_order(kind, good, removed);
    }

    /// Make before break: whatever a listener leads to was there first, and nothing goes that a listener leads to.
    fn assert_order(&self, kind: ResourceType, good: &[Resource], removed: &[Arc<str>]) {
        if !self.order_matters || !self.manner.delta {
            return;
        }
        let _ = good;
        if kind == ResourceType::Cluster {
            let listeners = self.applied.get(&ResourceType::Listener);
            for listener in listeners.into_iter().flat_map(BTreeMap::values) {
                for cluster in listener.clusters().iter() {
                    assert!(!removed.contains(cluster), "{cluster} goes while {listener:?} leads to it");
                }
            }
        }
    }
}
