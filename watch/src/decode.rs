//! Objects as API servers send them. An object that cannot be read is that object's problem: it never ends a watch or a list.
//! Knows JSON and metadata; knows no kind.
//!
//! Every watch, list and answer of an API server is read as [`Decoded`]. Metadata are read leniently and apart from the rest,
//! managed fields not at all: nothing is decided with them, and they are most of an object's memory.

mod metadata;
mod raw;

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::Resource;
use kube::core::{ObjectMeta, PartialObjectMeta};
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub use raw::Raw;

/// The longest explanation that is kept, in characters.
const LONGEST: usize = 256;

/// The metadata of an object alone, asked for and read as such.
pub type Metadata<K> = Decoded<PartialObjectMeta<K>>;

/// An object of an API server's answer.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "every kind has metadata, which is what is large in both")]
pub enum Decoded<K> {
    /// It could be read.
    Object(K),
    /// It is there, and cannot be read.
    Unreadable(Unreadable),
}

/// What is known of an object that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Its metadata, as far as they can be read.
    pub metadata: ObjectMeta,
    /// Why it cannot be read: the field and what is wrong, at most 256 printable characters.
    pub why: String,
    /// Its `spec` as it came, of which some fields may still be read each on its own.
    pub spec: Option<Raw>,
}

impl<K> Decoded<K> {
    /// The object, or why there is none.
    #[allow(clippy::result_large_err, reason = "it is as large as an object: both have metadata")]
    pub fn read(self) -> Result<K, Unreadable> {
        match self {
            Self::Object(object) => Ok(object),
            Self::Unreadable(unreadable) => Err(unreadable),
        }
    }

    /// The object, if it could be read.
    pub fn readable(self) -> Option<K> {
        self.read().ok()
    }
}

impl<K: Resource> Resource for Decoded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Object(object) => object.meta(),
            Self::Unreadable(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Object(object) => object.meta_mut(),
            Self::Unreadable(unreadable) => &mut unreadable.metadata,
        }
    }
}

/// For writes, which take what they answer with. An object that cannot be read cannot be written.
impl<K: Serialize> Serialize for Decoded<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(object) => object.serialize(serializer),
            Self::Unreadable(_) => Err(serde::ser::Error::custom("an object that cannot be read is not written")),
        }
    }
}

impl<'de, K: Resource<DynamicType = ()> + DeserializeOwned> Deserialize<'de> for Decoded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| decode(&raw))
    }
}

/// The fields of a JSON object, by name.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

fn fields(raw: &RawValue) -> Result<Fields<'_>, serde_json::Error> {
    serde_json::from_str(raw.get())
}

const METADATA: &str = "metadata";

fn decode<K: Resource<DynamicType = ()> + DeserializeOwned>(raw: &RawValue) -> Decoded<K> {
    let unreadable = |metadata, why, spec| Decoded::Unreadable(Unreadable { metadata, why, spec });
    let mut fields = match fields(raw) {
        Ok(fields) => fields,
        Err(error) => return unreadable(ObjectMeta::default(), printable(&error.to_string()), None),
    };
    let metadata = fields.remove(METADATA).map(metadata::read).unwrap_or_default();
    match K::deserialize(typed(&fields)) {
        Ok(mut object) => {
            *object.meta_mut() = metadata;
            Decoded::Object(object)
        }
        Err(error) => unreadable(metadata, explain::<K>(&fields, &error), fields.get("spec").map(|spec| Raw::of(spec))),
    }
}

/// The fields as a typed object reads them, with empty metadata.
fn typed<'a>(fields: &'a Fields<'a>) -> impl Deserializer<'a, Error = serde_json::Error> {
    let empty: &RawValue = serde_json::from_str("{}").unwrap_or(RawValue::NULL);
    let fields = fields.iter().map(|(name, value)| (name.as_str(), *value));
    MapDeserializer::new(fields.chain([(METADATA, empty)]))
}

/// Which field is wrong, and how. What a Secret holds is shown nowhere, not even in part.
fn explain<K: Resource<DynamicType = ()> + DeserializeOwned>(fields: &Fields<'_>, error: &serde_json::Error) -> String {
    if K::kind(&()) == "Secret" {
        return "its fields are not those of a Secret".to_owned();
    }
    let path = serde_path_to_error::deserialize::<_, K>(typed(fields)).err().map(|error| error.path().to_string());
    let error = error.to_string();
    let what = error.split(" at line ").next().unwrap_or_default();
    match path.filter(|path| path != ".") {
        Some(path) => printable(&format!("{path}: {what}")),
        None => printable(what),
    }
}

/// So much of a text of another party as a line of a log may show.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1::{Node, Secret, Service};
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

    use super::*;

    fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(object: &Value) -> Decoded<K> {
        serde_json::from_str(&object.to_string()).expect("any JSON object is read as something")
    }

    fn why<K: Resource<DynamicType = ()> + DeserializeOwned>(object: &Value) -> String {
        read::<K>(object).read().err().map(|unreadable| unreadable.why).unwrap_or_default()
    }

    #[test]
    fn a_managed_fields_makes_an_object_unreadable_in_no_form() {
        for fields in [json!([{"time": "9999-12-31T23:59:59Z"}]), json!([{"time": 7, "fieldsV1": [[]]}]), json!("none")]
        {
            let object = json!({"metadata": {"name": "web", "managedFields": fields}, "spec": {"type": "ClusterIP"}});
            let service: Service = read(&object).readable().unwrap();
            assert_eq!((service.metadata.name.as_deref(), service.metadata.managed_fields), (Some("web"), None));
            assert_eq!(service.spec.unwrap().type_.as_deref(), Some("ClusterIP"));
        }
    }

    #[test]
    fn an_unreadable_field_leaves_the_metadata_readable_and_is_named() {
        let metadata = json!({"name": "agent", "namespace": "tenant-shop", "uid": "u1", "resourceVersion": "7"});
        let lease = json!({"metadata": metadata, "spec": {"renewTime": "9999-12-31T23:59:59.000000Z"}});
        let Decoded::Unreadable(Unreadable { metadata, why, spec: _ }) = read::<Lease>(&lease) else {
            panic!("readable")
        };
        assert_eq!((metadata.uid.as_deref(), metadata.resource_version.as_deref()), (Some("u1"), Some("7")));
        assert!(why.starts_with("spec.renewTime: "), "{why}");
    }

    #[test]
    fn an_unreadable_object_takes_neither_its_list_nor_its_watch_with_it() {
        let bad = json!({"metadata": {"name": "bad"}, "spec": {"ports": [{"port": "http"}]}});
        let good = json!({"metadata": {"name": "good"}, "spec": {}});
        let list = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {}, "items": [bad, good, 7]});
        let list: ObjectList<Decoded<Service>> = serde_json::from_str(&list.to_string()).unwrap();
        let readable: Vec<bool> = list.items.into_iter().map(|item| item.readable().is_some()).collect();
        assert_eq!(readable, [false, true, false]);
        // The order in which API servers write the two fields.
        let event = format!(r#"{{"type": "MODIFIED", "object": {bad}}}"#);
        let event: WatchEvent<Decoded<Service>> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, WatchEvent::Modified(Decoded::Unreadable(_))));
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secret = json!({"metadata": {"name": "agent"}, "data": {"password": "aHVudGVy!"}, "type": 7});
        assert_eq!(why::<Secret>(&secret), "its fields are not those of a Secret");
        let stored = json!({"metadata": {"name": "agent"}, "stringData": ["hunter2"]});
        assert!(!why::<Secret>(&stored).contains("hunter"));
    }

    #[test]
    fn an_explanation_is_short_and_printable() {
        let long = format!("\u{1b}[31m{}", "x".repeat(100_000));
        let why = why::<Node>(&json!({"metadata": {"name": "n1"}, "spec": {"unschedulable": long}}));
        assert!(why.chars().count() <= LONGEST && !why.contains('\u{1b}'), "{why}");
    }

    #[test]
    fn what_is_read_is_written_again() {
        let object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": "NodePort"}});
        assert_eq!(serde_json::to_value(read::<Service>(&object)).unwrap(), object);
        assert!(serde_json::to_value(read::<Service>(&json!({"spec": 7}))).is_err());
    }
}
