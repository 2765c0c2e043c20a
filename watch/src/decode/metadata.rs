//! Metadata of an object, field by field: one that cannot be read is as if it were absent, and leaves the others alone. Knows
//! what is decided with; knows no kind.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{Fields, fields};

/// Reads what agents and managers decide with: names, versions, times, labels, annotations, finalizers.
///
/// A time beyond what can be counted is the last one that can: an object was made then, which makes it the youngest.
/// A deletion counts by its presence, whatever its time.
pub(super) fn read(raw: &RawValue) -> ObjectMeta {
    let Ok(fields) = fields(raw) else { return ObjectMeta::default() };
    ObjectMeta {
        name: value(&fields, "name"),
        generate_name: None,
        namespace: value(&fields, "namespace"),
        uid: value(&fields, "uid"),
        resource_version: value(&fields, "resourceVersion"),
        generation: value(&fields, "generation"),
        creation_timestamp: time(&fields, "creationTimestamp"),
        deletion_timestamp: time(&fields, "deletionTimestamp"),
        deletion_grace_period_seconds: None,
        labels: texts(&fields, "labels"),
        annotations: texts(&fields, "annotations"),
        finalizers: list(&fields, "finalizers"),
        owner_references: None,
        managed_fields: None,
        self_link: None,
    }
}

fn present<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.get(name).copied().filter(|raw| raw.get() != "null")
}

fn value<T: DeserializeOwned>(fields: &Fields<'_>, name: &str) -> Option<T> {
    present(fields, name).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn time(fields: &Fields<'_>, name: &str) -> Option<Time> {
    let raw = present(fields, name)?;
    Some(serde_json::from_str(raw.get()).unwrap_or(Time(Timestamp::MAX)))
}

/// The entries that are texts.
fn texts(fields: &Fields<'_>, name: &str) -> Option<BTreeMap<String, String>> {
    let raw = present(fields, name)?;
    serde_json::from_str(raw.get()).ok().or_else(|| {
        let entries = super::fields(raw).ok()?;
        let text = |(name, raw): (String, &RawValue)| Some((name, serde_json::from_str(raw.get()).ok()?));
        Some(entries.into_iter().filter_map(text).collect())
    })
}

/// The items that are texts.
fn list(fields: &Fields<'_>, name: &str) -> Option<Vec<String>> {
    let items: Vec<&RawValue> = present(fields, name).and_then(|raw| serde_json::from_str(raw.get()).ok())?;
    Some(items.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metadata(value: &Value) -> ObjectMeta {
        read(&serde_json::value::to_raw_value(value).unwrap())
    }

    #[test]
    fn metadata_read_as_they_are_written() {
        let written = json!({"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}, "annotations": {"c": "d"},
            "finalizers": ["nave.dev/agent"]});
        assert_eq!(serde_json::to_value(metadata(&written)).unwrap(), written);
    }

    #[test]
    fn a_field_that_cannot_be_read_leaves_the_others_alone() {
        let read = metadata(&json!({"name": "web", "uid": 7, "generation": "three", "labels": {"a": "b", "c": 1},
            "annotations": [], "finalizers": ["a", null, "b"], "creationTimestamp": null}));
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let finalizers = vec!["a".to_owned(), "b".to_owned()];
        let expected = ObjectMeta {
            name: Some("web".into()),
            labels: Some(labels),
            finalizers: Some(finalizers),
            ..ObjectMeta::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_deletion_counts_whatever_its_time() {
        for time in [json!("9999-12-31T23:59:59Z"), json!("soon"), json!(7), json!({})] {
            assert!(metadata(&json!({"deletionTimestamp": time})).deletion_timestamp.is_some(), "{time}");
        }
        assert_eq!(metadata(&json!({"deletionTimestamp": null})).deletion_timestamp, None);
    }

    #[test]
    fn an_object_that_was_made_beyond_all_times_is_the_youngest() {
        let born = metadata(&json!({"creationTimestamp": "9999-12-31T23:59:59Z"})).creation_timestamp;
        assert_eq!(born, Some(Time(Timestamp::MAX)));
    }
}
