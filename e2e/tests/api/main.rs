//! The kinds before the real API server: it takes the good objects, and answers bad ones with a sentence that says what is
//! wrong, where, and how to mend it. Knows tables; what the rules are is in api/.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod bounds;
mod empty;

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use nave_e2e::control_plane::{ControlPlane, Options};
use nave_e2e::wait;
use nave_e2e::wait::PATIENCE;
use serde::Deserialize;
use serde_json::{Value, json};

/// A row of bad.yaml.
#[derive(Debug, Deserialize)]
struct Bad {
    kind: String,
    /// The good object that it spoils. Default: the first of its kind.
    of: Option<String>,
    create: Option<Value>,
    update: Option<Value>,
    says: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_good_objects_and_says_what_is_wrong_with_bad_ones() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.client();
    install_kinds(&client).await;

    let good: Vec<Value> = serde_saphyr::from_str(&table("good.yaml")).unwrap();
    let mut firsts: BTreeMap<String, Value> = BTreeMap::new();
    for object in &good {
        let taken = create(&client, object, false).await;
        if let Err(error) = taken {
            panic!("the API server refuses {object}: {error}");
        }
        firsts.entry(object["kind"].as_str().unwrap().to_owned()).or_insert_with(|| object.clone());
    }
    let kinds: Vec<String> = nave_api::crds().into_iter().map(|kind| kind.spec.names.kind).collect();
    assert_eq!(firsts.keys().cloned().collect::<Vec<_>>(), kinds, "every kind has a good object");

    let bad: Vec<Bad> = serde_saphyr::from_str(&table("bad.yaml")).unwrap();
    assert!(bad.len() >= 40);
    let mut said = Vec::new();
    for row in &bad {
        let named = |name: &String| good.iter().find(|good| good["metadata"]["name"] == **name).unwrap();
        said.push(refusal(&client, row.of.as_ref().map_or(&firsts[&row.kind], named), row).await);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        record(&said);
    }
    let taken: Vec<&Bad> =
        bad.iter().zip(&said).filter(|(_, said)| said.starts_with("nothing")).map(|(row, _)| row).collect();
    assert!(taken.is_empty(), "bad objects are taken: {taken:#?}");
    for (row, said) in bad.iter().zip(&said).filter(|_| std::env::var_os("UPDATE_GOLDEN").is_none()) {
        assert_eq!(&row.says, said, "{row:?}");
    }
}

/// What the API server says to a row.
async fn refusal(client: &kube::Client, good: &Value, row: &Bad) -> String {
    let answer = match (&row.create, &row.update) {
        (Some(change), None) => {
            let mut object = good.clone();
            if change.pointer("/metadata/name").is_none() {
                object["metadata"]["name"] = other_name(good);
            }
            merge(&mut object, change);
            create(client, &object, true).await
        }
        (None, Some(change)) => {
            let dry = PatchParams { dry_run: true, ..PatchParams::default() };
            let name = good["metadata"]["name"].as_str().unwrap();
            api(client, good).patch(name, &dry, &Patch::Merge(change)).await
        }
        _ => panic!("a row creates or updates: {row:?}"),
    };
    match answer {
        Err(kube::Error::Api(status)) => shorten(&status.message),
        Err(error) => panic!("the API server does not answer: {error}"),
        Ok(_) => "nothing: it is taken".to_owned(),
    }
}

async fn create(client: &kube::Client, object: &Value, dry_run: bool) -> kube::Result<DynamicObject> {
    let params = PostParams { dry_run, field_manager: None };
    let typed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    api(client, object).create(&params, &typed).await
}

/// The name of an allocation is its address: another name would be wrong for another reason.
fn other_name(good: &Value) -> Value {
    if good["kind"] == "IPAllocation" { good["metadata"]["name"].clone() } else { json!("bad") }
}

/// The sentence without the object's name before it, and without what the server adds when it gives up early.
fn shorten(message: &str) -> String {
    let message = message.split_once(" is invalid: ").map_or(message, |(_, rest)| rest);
    let message = message.trim_start_matches('[').trim_end_matches(']');
    let early = ", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    message.replace(early, "")
}

/// RFC 7396.
fn merge(object: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *object = change.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in change {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

async fn install_kinds(client: &kube::Client) {
    for kind in nave_api::crds() {
        nave_e2e::apply(client, &serde_json::to_value(kind).unwrap()).await.unwrap();
    }
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    wait::until("every kind is served and has a structural schema", PATIENCE, || async {
        let listed = kinds.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        for kind in listed.items {
            let conditions = kind.status.and_then(|status| status.conditions).unwrap_or_default();
            let holds = |name: &str| conditions.iter().any(|c| c.type_ == name && c.status == "True");
            if holds("NonStructuralSchema") || !holds("Established") || !holds("NamesAccepted") {
                return Err(format!("{:?}: {conditions:?}", kind.metadata.name));
            }
        }
        Ok(())
    })
    .await
    .unwrap();
}

fn api(client: &kube::Client, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().unwrap();
    let names = nave_api::crds().into_iter().map(|crd| crd.spec.names).find(|names| names.kind == kind).unwrap();
    let gvk = kube::core::GroupVersionKind::gvk(nave_api::GROUP, nave_api::VERSION, kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &names.plural);
    match object.pointer("/metadata/namespace").and_then(Value::as_str) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api").join(name)
}

fn table(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// Writes what was said into the rows, and leaves the rest of the file as people wrote it.
fn record(said: &[String]) {
    let mut said = said.iter();
    let before = table("bad.yaml");
    let lines = before.lines().map(|line| match line.strip_prefix("  says: ") {
        Some(_) => format!("  says: {}\n", Value::from(said.next().unwrap().as_str())),
        None => format!("{line}\n"),
    });
    std::fs::write(path("bad.yaml"), lines.collect::<String>()).unwrap();
}
