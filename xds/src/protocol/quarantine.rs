//! What one node refused, and what it may hold without knowing. Outlives the node's streams; knows no content, only
//! versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::{Key, ResourceType, Version};

/// The resources that a node refused, each at one version, with the node's words. The same content is not sent to it
/// again: it would be refused again. New content gets its own chance.
#[derive(Debug, Default)]
pub struct Quarantine {
    refused: BTreeMap<Key, (Version, Arc<str>)>,
    /// Came in a response that the node refused for the sake of others. It may have applied them, and does not list
    /// them when it comes back.
    doubted: BTreeSet<Key>,
}

impl Quarantine {
    /// Notes a refusal.
    pub fn refuse(&mut self, key: Key, version: Version, message: Arc<str>) {
        self.refused.insert(key, (version, message));
    }

    /// Why this content was refused, if it was.
    pub fn reason(&self, key: &Key, version: Version) -> Option<&Arc<str>> {
        self.refused.get(key).filter(|(refused, _)| *refused == version).map(|(_, message)| message)
    }

    /// Forgets a refusal of content that is no longer current.
    pub fn forget_unless(&mut self, key: &Key, current: Option<Version>) {
        if self.refused.get(key).is_some_and(|(refused, _)| Some(*refused) != current) {
            self.refused.remove(key);
        }
    }

    /// Notes whether the node may hold something of this resource that it will not list when it comes back.
    pub fn doubt(&mut self, key: Key, doubted: bool) {
        if doubted {
            self.doubted.insert(key);
        } else {
            self.doubted.remove(&key);
        }
    }

    /// The resources of a type that the node may hold though it does not list them.
    pub fn doubted(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<str>> {
        self.doubted.iter().filter(move |(doubted, _)| *doubted == kind).map(|(_, name)| name)
    }

    /// Forgets a type: the node came back without anything, so what it refused may do now.
    pub fn release(&mut self, kind: ResourceType) {
        self.refused.retain(|(refused, _), _| *refused != kind);
    }
}
