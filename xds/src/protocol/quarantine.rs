//! What one node refused. Outlives its streams; knows no content, only versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::resource::{Key, ResourceType, Version};

/// The resources that a node refused, each at one version, with the node's words. The same content is not sent to it
/// again: it would be refused again. New content gets its own chance.
#[derive(Debug, Default)]
pub struct Quarantine {
    refused: BTreeMap<Key, (Version, Arc<str>)>,
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

    /// Whether any content of that resource was refused.
    pub fn names(&self, key: &Key) -> bool {
        self.refused.contains_key(key)
    }

    /// Forgets a refusal of content that is no longer current.
    pub fn forget_unless(&mut self, key: &Key, current: Option<Version>) {
        if self.refused.get(key).is_some_and(|(refused, _)| Some(*refused) != current) {
            self.refused.remove(key);
        }
    }

    /// Forgets a type: the node came back without anything, so what it refused may do now.
    pub fn release(&mut self, kind: ResourceType) {
        self.refused.retain(|(refused, _), _| *refused != kind);
    }
}
