//! Lists and maps that become empty, by server-side apply, as agents and managers write: what was applied is what is stored.
//! Finds the lists in the schemas; knows no kind.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use nave_api::NodeSet;
use nave_e2e::control_plane::{ControlPlane, Options};
use nave_e2e::wait::{self, PATIENCE};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::{api, install_kinds, merge, table};

// Clients live on the runtime that made them: the tests here share one, and an API server.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();

pub fn with_kinds(test: impl AsyncFnOnce(kube::Client)) {
    RUNTIME.block_on(async {
        let start = || async {
            let plane = ControlPlane::start(Options::default()).await.unwrap();
            install_kinds(&plane.client()).await;
            plane
        };
        test(PLANE.get_or_init(start).await.client()).await;
    });
}

/// Objects that together fill every list that may be empty, beside those of good.yaml.
fn fuller() -> Vec<Value> {
    let condition = json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let address = json!({"value": "203.0.113.7", "family": "IPv4", "pool": "public"});
    let owner = json!({"address": "203.0.113.7", "namespace": "tenant-shop", "name": "web"});
    let status = |kind: &str, status: Value| json!({"kind": kind, "status": status});
    vec![
        status("Tenant", json!({"conditions": [condition]})),
        status(
            "TCPLoadBalancer",
            json!({"addresses": [address], "sessions": [{"port": 53, "limit": 1000}], "conditions": [condition]}),
        ),
        status(
            "HTTPLoadBalancer",
            json!({"addresses": [address], "hostnames": [{"value": "shop.example.com", "since": "2026-01-01T00:00:00Z"}], "conditions": [condition]}),
        ),
        status("IPPool", json!({"used": 1, "held": 0, "lastOwners": [owner], "conditions": [condition]})),
        status("IPAllocation", json!({"conditions": [condition]})),
        status("Fleet", json!({"nodes": [{"name": "edge-1"}], "conditions": [condition]})),
        json!({"kind": "Fleet", "spec": {
            "nodes": {"names": ["edge-9"]},
            "revoked": [{"node": "edge-1", "before": "2026-11-30T10:00:00Z"}],
        }}),
        json!({"kind": "HTTPLoadBalancer", "spec": {
            "address": {"families": ["IPv4"], "requested": ["203.0.113.7"]},
            "rules": [{"filters": [{"requestRedirect": {"scheme": "https"}}]}],
        }}),
    ]
}

#[test]
fn kind_i_a_list_or_map_that_becomes_empty_is_stored_as_if_it_had_been_empty_from_the_start() {
    with_kinds(async |client| {
        let objects = objects();
        let mut wrong = Vec::new();
        for (kind, path) in emptiable() {
            let filled = objects.iter().rev().find(|object| object["kind"] == *kind && is_filled(object, &path));
            let outcome = match filled {
                Some(full) => empty(&client, full, &path).await,
                None => Err("no object fills it".to_owned()),
            };
            wrong.extend(outcome.err().map(|error| format!("{kind} {path}: {error}")));
        }
        assert_eq!(wrong, Vec::<String>::new());
    });
}

#[test]
fn kind_i_an_apply_empties_a_list_whose_items_another_field_manager_wrote() {
    with_kinds(async |client| {
        // As a tool does that restores a backup: everything is its own.
        let nodes = json!([{"name": "n1", "addresses": ["10.0.0.1"]}, {"name": "n2"}]);
        let sets: Api<NodeSet> = Api::namespaced(client, "default");
        let restored =
            serde_json::from_value(json!({"metadata": {"name": "restored"}, "spec": {"nodes": nodes}})).unwrap();
        let params = PostParams { field_manager: Some("restore".to_owned()), ..PostParams::default() };
        sets.create(&params, &restored).await.unwrap();
        let mut wanted = restored;
        wanted.spec.nodes.clear();
        let apply = PatchParams::apply("agent").force();
        let stored = sets.patch("restored", &apply, &Patch::Apply(&wanted)).await.unwrap();
        assert_eq!(stored.spec.nodes, []);
    });
}

/// The schema of the first releases, under a name of its own.
fn keyed() -> CustomResourceDefinition {
    let mut kind = atomic();
    let version = &mut kind.spec.versions[0];
    let mut schema = serde_json::to_value(&version.schema).unwrap();
    let nodes = schema.pointer_mut("/openAPIV3Schema/properties/spec/properties/nodes").unwrap();
    nodes["x-kubernetes-list-type"] = json!("map");
    nodes["x-kubernetes-list-map-keys"] = json!(["name"]);
    version.schema = serde_json::from_value(schema).unwrap();
    kind
}

fn atomic() -> CustomResourceDefinition {
    let mut kind = NodeSet::crd();
    kind.metadata.name = Some("oldsets.nave.dev".to_owned());
    let names = &mut kind.spec.names;
    (names.kind, names.plural) = ("OldSet".to_owned(), "oldsets".to_owned());
    (names.singular, names.short_names) = (Some("oldset".to_owned()), None);
    kind
}

#[test]
fn kind_i_a_node_list_that_an_older_schema_kept_item_by_item_can_be_emptied() {
    with_kinds(async |client| {
        let put = async |kind: CustomResourceDefinition| {
            nave_e2e::apply(&client, &serde_json::to_value(kind).unwrap()).await.unwrap();
        };
        put(keyed()).await;
        let gvk = GroupVersionKind::gvk(nave_api::GROUP, nave_api::VERSION, "OldSet");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "oldsets");
        let sets: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
        let set = |nodes: Value| {
            let (version, metadata) = (resource.api_version.clone(), json!({"name": "old"}));
            Patch::Apply(
                json!({"apiVersion": version, "kind": "OldSet", "metadata": metadata, "spec": {"nodes": nodes}}),
            )
        };
        let apply = PatchParams::apply("agent").force();
        let full = set(json!([{"name": "n1"}, {"name": "n2"}]));
        wait::until("the older kind is served", PATIENCE, || async {
            sets.patch("old", &apply, &full).await.map(drop).map_err(|error| error.to_string())
        })
        .await
        .unwrap();
        put(atomic()).await;
        // An older schema refuses two nodes of one name: it is in force no more once they pass.
        let (twice, dry) =
            (set(json!([{"name": "n1"}, {"name": "n1"}])), PatchParams { dry_run: true, ..apply.clone() });
        wait::until("the new schema is in force", PATIENCE, || async {
            sets.patch("old", &dry, &twice).await.map(drop).map_err(|error| error.to_string())
        })
        .await
        .unwrap();
        let stored = sets.patch("old", &apply, &set(json!([]))).await.unwrap();
        assert_eq!(stored.data["spec"]["nodes"], json!([]));
    });
}

/// Whether an object whose list was filled and is emptied is stored like one whose list was never filled.
async fn empty(client: &kube::Client, full: &Value, path: &str) -> Result<(), String> {
    let mut emptied = full.clone();
    let place = emptied.pointer_mut(path).unwrap();
    *place = if place.is_array() { json!([]) } else { json!({}) };
    let over = store(client, &[full, &emptied], "over").await?;
    let fresh = store(client, &[&emptied], "fresh").await?;
    let same = over["spec"] == fresh["spec"] && said(&over["status"]) == said(&fresh["status"]);
    if same { Ok(()) } else { Err(format!("{over} instead of {fresh}")) }
}

/// Applies one state of an object after the other; what is stored of its spec and its status then.
async fn store(client: &kube::Client, states: &[&Value], name: &str) -> Result<Value, String> {
    let apply = PatchParams::apply("test").force();
    let mut stored = Value::Null;
    let api: Api<DynamicObject> = api(client, states[0]);
    // The name of an allocation is its address.
    let fixed = states[0]["kind"] == "IPAllocation";
    let name = if fixed { states[0]["metadata"]["name"].as_str().unwrap() } else { name };
    let _ = api.delete(name, &DeleteParams::default()).await;
    for state in states {
        let mut object = (*state).clone();
        object["metadata"]["name"] = json!(name);
        let status = object.as_object_mut().unwrap().remove("status");
        let text = |error: kube::Error| error.to_string();
        let mut answer = api.patch(name, &apply, &Patch::Apply(&object)).await.map_err(text)?;
        if let Some(status) = status {
            let status = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "status": status});
            answer = api.patch_status(name, &apply, &Patch::Apply(&status)).await.map_err(text)?;
        }
        stored = json!({"spec": answer.data["spec"], "status": answer.data["status"]});
    }
    Ok(stored)
}

/// What a status says: an empty list in it says the same as none. In a spec the two may differ.
fn said(status: &Value) -> Value {
    let fields = status.as_object().into_iter().flatten();
    fields.filter(|(_, value)| *value != &json!([])).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The good objects, as they are and with a status.
fn objects() -> Vec<Value> {
    let good: Vec<Value> = serde_saphyr::from_str(&table("good.yaml")).unwrap();
    let mut objects = good.clone();
    for more in fuller() {
        let mut object = good.iter().find(|object| object["kind"] == more["kind"]).unwrap().clone();
        merge(&mut object, &more);
        objects.push(object);
    }
    objects
}

fn is_filled(object: &Value, path: &str) -> bool {
    let is_some = |value: &Value| {
        value.as_array().is_some_and(|list| !list.is_empty()) || value.as_object().is_some_and(|map| !map.is_empty())
    };
    object.pointer(path).is_some_and(is_some)
}

/// Every list and map that may be empty, by kind and JSON pointer. Those inside of another list are replaced with it.
fn emptiable() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for kind in nave_api::crds() {
        let schema = serde_json::to_value(&kind.spec.versions[0].schema).unwrap();
        walk(&schema["openAPIV3Schema"], "", &mut |path| {
            found.insert((kind.spec.names.kind.clone(), path));
        });
    }
    found
}

fn walk(schema: &Value, path: &str, found: &mut impl FnMut(String)) {
    let least = |bound: &str| schema[bound].as_u64().unwrap_or(0);
    if schema["type"] == "array" && least("minItems") == 0
        || schema["additionalProperties"].is_object() && least("minProperties") == 0
    {
        found(path.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}/{name}"), found);
    }
}
