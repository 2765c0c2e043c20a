//! The endpoints of all Services, by Service. Knows slices; knows no Service's wishes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::slices::Slice;
use crate::{Change, Key, Unreadable, slices};

/// What was seen of `EndpointSlices`.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    slices: BTreeMap<Key, Slice>,
    of: BTreeMap<Key, BTreeSet<Key>>,
    /// Slices that are there and were never read, and their Services.
    unknown: BTreeMap<Key, Key>,
    listed: bool,
}

impl Endpoints {
    /// Takes a change in; the Services whose endpoints may differ.
    pub(super) fn take(&mut self, change: Change<EndpointSlice>) -> BTreeSet<Key> {
        match change {
            Change::Seen(slice) | Change::Answered(slice) => self.put(&Key::of(&slice), Slice::of(&slice)),
            Change::Gone(metadata) => self.put(&Key::of_metadata(&metadata), None),
            Change::Unreadable(Unreadable { metadata, why: _ }) => {
                let slice = Key::of_metadata(&metadata);
                let service = slices::service(&metadata).filter(|_| !self.slices.contains_key(&slice));
                self.unknown.extend(service.clone().map(|service| (slice, service)));
                service.into_iter().collect()
            }
            Change::Listed { objects, unreadable } => {
                let mut services: BTreeSet<Key> = std::mem::take(&mut self.of).into_keys().collect();
                let mut before = std::mem::take(&mut self.slices);
                self.unknown.clear();
                self.listed = true;
                for slice in &objects {
                    services.extend(self.put(&Key::of(slice), Slice::of(slice)));
                }
                for unreadable in unreadable {
                    let key = Key::of_metadata(&unreadable.metadata);
                    match before.remove(&key) {
                        Some(known) => services.extend(self.put(&key, Some(known))),
                        None => services.extend(self.take(Change::Unreadable(unreadable))),
                    }
                }
                services
            }
        }
    }

    /// Whether all slices of a Service have been read.
    pub(super) fn are_known(&self, service: &Key) -> bool {
        !self.unknown.values().any(|of| of == service)
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
        let unknown = self.unknown.remove(key);
        if old == new && unknown.is_none() {
            self.slices.extend(new.map(|slice| (key.clone(), slice)));
            return BTreeSet::new();
        }
        let mut services: BTreeSet<Key> = unknown.into_iter().collect();
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
