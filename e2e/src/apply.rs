//! Server-side apply of any object, as `kubectl apply` would. Knows no kind: the API server is asked what it serves.
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use serde_json::Value;

use crate::error::{Act, Error, Result};

/// The lab's name as a field manager.
const MANAGER: &str = "nave-lab";

/// Applies an object; the answer is what the API server made of it.
pub async fn apply(client: &kube::Client, object: &Value) -> Result<DynamicObject> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    let what = || format!("apply {kind} {name}");
    let kind_of = GroupVersionKind::gvk(group, version, kind);
    let (resource, capabilities) = discovery::pinned_kind(client, &kind_of).await.act(what)?;
    let namespace = match text("/metadata/namespace") {
        "" => "default",
        namespace => namespace,
    };
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    if name.is_empty() {
        return Err(Error::new(format!("apply {kind}: it has no name")));
    }
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await.act(what)
}
