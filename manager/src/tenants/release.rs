//! Foreign finalizers on what a tenant could write, at the tenant's end: the program that put them there may have no right left to take them off, and
//! the namespace would wait for ever. Knows how to take them off; decides nothing about when.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use nave_api::names::AGENT;
use nave_watch::Metadata;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{Error, call, call_if_same, call_if_there};

/// So many objects are looked at in one visit; the next visit sees the others.
const AT_ONCE: u32 = 500;
/// The API's own, by which it deletes in the foreground or leaves dependents behind.
const OF_THE_API: [&str; 2] = ["foregroundDeletion", "orphan"];

/// Takes the finalizers off all intents of a kind that are being deleted; each foreign one with the object that had it.
pub(super) async fn intents<K>(client: &Client, namespace: &str) -> Result<Vec<String>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    all::<K>(client, namespace, |metadata| metadata.deletion_timestamp.is_some()).await
}

/// The same of the Lease and all Secrets of a namespace that is about to be deleted. Their contents stay unseen.
pub(super) async fn others(client: &Client, namespace: &str) -> Result<Vec<String>, Error> {
    let leases: Api<Metadata<Lease>> = Api::namespaced(client.clone(), namespace);
    let mut taken = match call_if_there("look at the agent's Lease", leases.get(AGENT)).await? {
        Some(lease) => take_off(&leases, lease.meta()).await?,
        None => Vec::new(),
    };
    taken.extend(all::<Secret>(client, namespace, |_| true).await?);
    Ok(taken)
}

async fn all<K>(client: &Client, namespace: &str, which: fn(&ObjectMeta) -> bool) -> Result<Vec<String>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let objects: Api<Metadata<K>> = Api::namespaced(client.clone(), namespace);
    let page = call("look for finalizers", objects.list(&ListParams::default().limit(AT_ONCE))).await?;
    let mut taken = Vec::new();
    for object in page.items.iter().map(Resource::meta).filter(|metadata| which(metadata)) {
        taken.extend(take_off(&objects, object).await?);
    }
    Ok(taken)
}

/// Takes all finalizers off the object that was seen; each foreign one with the name of the object.
pub(super) async fn take_off<K>(objects: &Api<Metadata<K>>, seen: &ObjectMeta) -> Result<Vec<String>, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let finalizers = seen.finalizers.as_deref().unwrap_or_default();
    let name = seen.name.as_deref().unwrap_or_default();
    if finalizers.is_empty() {
        return Ok(Vec::new());
    }
    let patch = json!({"metadata": {"finalizers": null, "uid": seen.uid, "resourceVersion": seen.resource_version}});
    let (how, patch) = (PatchParams::default(), Patch::Merge(patch));
    if call_if_same("take finalizers off", objects.patch(name, &how, &patch)).await?.is_none() {
        return Ok(Vec::new()); // It is gone, or has changed: the next visit looks again.
    }
    let foreign = finalizers.iter().filter(|finalizer| !OF_THE_API.contains(&finalizer.as_str()));
    Ok(foreign.map(|finalizer| format!("{finalizer} of {} {name}", K::kind(&()))).collect())
}
