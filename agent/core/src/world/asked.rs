//! What we asked the hub to store where it stored something else. Knows specs and generations; knows no kind.
//!
//! A hub whose schema is older or newer than ours drops or adds fields. Asking again would change nothing and never end:
//! what has been asked, and answered with this generation, counts as done until one of the two changes.

use std::collections::BTreeMap;

use crate::Key;

/// What was asked under a key, and which generation the hub made of it.
#[derive(Debug)]
pub(super) struct Asked<S> {
    open: BTreeMap<Key, S>,
    altered: BTreeMap<Key, (S, Option<i64>)>,
}

impl<S> Default for Asked<S> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), altered: BTreeMap::new() }
    }
}

impl<S: PartialEq + Clone> Asked<S> {
    /// We ask for it now.
    pub(super) fn ask(&mut self, key: &Key, wanted: &S) {
        self.open.insert(key.clone(), wanted.clone());
    }

    /// The hub has stored this.
    pub(super) fn answered(&mut self, key: &Key, stored: &S, generation: Option<i64>) {
        let altered = self.open.remove(key).filter(|asked| asked != stored);
        match altered {
            Some(asked) => drop(self.altered.insert(key.clone(), (asked, generation))),
            None => drop(self.altered.remove(key)),
        }
    }

    /// Whether the hub has been asked for exactly this, and what it has is what it made of it.
    pub(super) fn is_done(&self, key: &Key, wanted: &S, generation: Option<i64>) -> bool {
        self.altered.get(key).is_some_and(|(asked, made)| asked == wanted && *made == generation)
    }

    /// It is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        self.open.remove(key);
        self.altered.remove(key);
    }
}
