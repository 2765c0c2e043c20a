//! Which objects cannot be read now: counted for a metric, and logged, each at most once a minute. Knows kinds by name; decides
//! nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::Resource;
use kube::runtime::watcher::Event;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::{Decoded, Unreadable};

/// One object is logged again after this time at the earliest.
const AGAIN: Duration = Duration::from_mins(1);

/// The objects of all kinds that are there and cannot be read. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Unreadables(Arc<Mutex<BTreeMap<String, OfKind>>>);

/// Of one kind.
#[derive(Debug, Default)]
struct OfKind {
    present: BTreeMap<Name, Instant>,
    /// What a list that is under way has shown so far.
    listing: BTreeSet<Name>,
}

/// Namespace and name.
type Name = (String, String);

impl Unreadables {
    /// Takes in what a watch shows.
    pub fn note<K: Resource<DynamicType = ()>>(&self, event: &Event<Decoded<K>>) {
        let kind = K::kind(&());
        match event {
            Event::Init => self.of(&kind, |of| of.listing.clear()),
            Event::InitApply(Decoded::Object(_)) => {}
            Event::InitApply(Decoded::Unreadable(unreadable)) => {
                self.of(&kind, |of| {
                    of.listing.insert(name(unreadable));
                });
                self.seen(&kind, unreadable);
            }
            Event::InitDone => self.of(&kind, |of| {
                let listed = std::mem::take(&mut of.listing);
                of.present.retain(|name, _| listed.contains(name));
            }),
            Event::Apply(Decoded::Unreadable(unreadable)) => self.seen(&kind, unreadable),
            Event::Apply(object @ Decoded::Object(_)) | Event::Delete(object) => {
                let metadata = object.meta();
                let name = (metadata.namespace.clone(), metadata.name.clone());
                let name = (name.0.unwrap_or_default(), name.1.unwrap_or_default());
                self.of(&kind, |of| {
                    of.present.remove(&name);
                });
            }
        }
    }

    /// How many there are, by kind; kinds that were watched and have none among them.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.lock().iter().map(|(kind, of)| (kind.clone(), of.present.len())).collect()
    }

    fn seen(&self, kind: &Cow<'_, str>, unreadable: &Unreadable) {
        let now = Instant::now();
        let name = name(unreadable);
        let mut all = self.lock();
        let present = &mut all.entry(kind.to_string()).or_default().present;
        if present.get(&name).is_some_and(|logged| now.duration_since(*logged) < AGAIN) {
            return;
        }
        let (namespace, name_only) = &name;
        tracing::warn!(%kind, namespace, name = name_only, why = unreadable.why, "an object cannot be read: it stays as it was");
        present.insert(name, now);
    }

    fn of(&self, kind: &str, change: impl FnOnce(&mut OfKind)) {
        change(self.lock().entry(kind.to_owned()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OfKind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(unreadable: &Unreadable) -> Name {
    let metadata = &unreadable.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

impl Collector for Unreadables {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let help = "Objects that are there and cannot be read, by kind: what they were last stays in force";
        let mut family = encoder.encode_descriptor("unreadable_objects", help, None, MetricType::Gauge)?;
        for (kind, count) in self.counts() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    fn decoded(name: &str, port: &serde_json::Value) -> Decoded<Service> {
        let object = json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"ports": [{"port": port}]}});
        serde_json::from_str(&object.to_string()).unwrap()
    }

    #[test]
    fn an_unreadable_object_counts_until_it_can_be_read_is_deleted_or_is_no_longer_listed() {
        let all = Unreadables::default();
        let count = || all.counts()["Service"];
        let bad = |name| decoded(name, &json!("http"));
        all.note(&Event::Apply(bad("a")));
        all.note(&Event::Apply(bad("a")));
        assert_eq!(count(), 1);
        all.note(&Event::Apply(decoded("a", &json!(80))));
        assert_eq!(count(), 0);
        for event in [Event::Init, Event::InitApply(bad("a")), Event::InitApply(bad("b")), Event::InitDone] {
            all.note(&event);
        }
        assert_eq!(count(), 2);
        all.note(&Event::Delete(bad("a")));
        assert_eq!(count(), 1);
        all.note::<Service>(&Event::Init);
        all.note::<Service>(&Event::InitDone);
        assert_eq!(count(), 0);
    }
}
