//! The endpoints of all Services, by Service. Knows slices; knows no Service's wishes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::slices::Slice;
use crate::{Change, Key};

/// What was seen of `EndpointSlices`.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    slices: BTreeMap<Key, Slice>,
    of: BTreeMap<Key, BTreeSet<Key>>,
    listed: bool,
}

impl Endpoints {
    /// Takes a change in; the Services whose endpoints may differ.
    pub(super) fn take(&mut self, change: Change<EndpointSlice>) -> BTreeSet<Key> {
        match change {
            Change::Seen(slice) | Change::Answered(slice) => self.put(&Key::of(&slice), Slice::of(&slice)),
            Change::Gone(slice) => self.put(&Key::of(&slice), None),
            Change::Listed(all) => {
                let mut services: BTreeSet<Key> = std::mem::take(&mut self.of).into_keys().collect();
                self.slices.clear();
                self.listed = true;
                for slice in &all {
                    services.extend(self.put(&Key::of(slice), Slice::of(slice)));
                }
                services
            }
        }
    }

    /// The slices of a Service, sorted by name.
    pub(super) fn slices(&self, service: &Key) -> Vec<&Slice> {
        let keys = self.of.get(service).into_iter().flatten();
        keys.filter_map(|key| self.slices.get(key)).collect()
    }

    /// Whether they have been complete once.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// The Services that the slice belonged to and belongs to now, when it says something new.
    fn put(&mut self, key: &Key, new: Option<Slice>) -> BTreeSet<Key> {
        let old = self.slices.remove(key);
        if old == new {
            self.slices.extend(new.map(|slice| (key.clone(), slice)));
            return BTreeSet::new();
        }
        let mut services = BTreeSet::new();
        if let Some(old) = old {
            if let Some(keys) = self.of.get_mut(&old.service) {
                keys.remove(key);
                if keys.is_empty() {
                    self.of.remove(&old.service);
                }
            }
            services.insert(old.service);
        }
        if let Some(new) = new {
            self.of.entry(new.service.clone()).or_default().insert(key.clone());
            services.insert(new.service.clone());
            self.slices.insert(key.clone(), new);
        }
        services
    }
}
