//! The end of a tenant, in order: its right to write, its intents, its addresses, its rights, its namespace, and last our
//! finalizer. Knows the order and what to wait for; gives no address back itself.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Api, Client, Resource, ResourceExt};
use nave_api::names::{AGENT, TENANT_FINALIZER, tenant_namespace};
use nave_api::{HTTPLoadBalancer, IPAllocation, NodeSet, TCPLoadBalancer, Tenant};
use nave_watch::{Decoded, Metadata};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{Error, call, call_if_same, call_if_there};
use super::children;
use super::keep::Keeper;
use super::reconcile::apply_role;
use super::status::{Ours, unready};
use super::view::Room;

/// Goes as far towards the end as it may now.
pub(super) async fn end(tenant: &Tenant, keeper: &Keeper) -> Result<Action, Error> {
    if !tenant.finalizers().iter().any(|finalizer| finalizer == TENANT_FINALIZER) {
        return Ok(Action::await_change());
    }
    if let Some(waits) = clear(tenant, keeper).await? {
        let status = Ours::read(tenant).with(unready("Deleting", waits), tenant.metadata.generation, Timestamp::now());
        status.write(&keeper.client, tenant).await?;
        return Ok(Action::requeue(keeper.waits(&tenant.name_any(), waits, Instant::now())));
    }
    if finish(&keeper.client, tenant).await? {
        keeper.forget(&tenant.name_any());
        tracing::info!(tenant = tenant.name_any(), "a tenant has ended");
    }
    Ok(Action::await_change())
}

/// Takes the room apart; answers what has to be waited for before it can go on.
async fn clear(tenant: &Tenant, keeper: &Keeper) -> Result<Option<&'static str>, Error> {
    let name = tenant.name_any();
    let namespace = tenant_namespace(&name);
    let namespaces: Api<Metadata<Namespace>> = Api::all(keeper.client.clone());
    let Some(present) = call_if_there("look for the namespace", namespaces.get(&namespace)).await? else {
        return addresses(&keeper.client, &namespace).await;
    };
    if !children::is_ours(present.meta(), &name) {
        return vacate(&name, keeper).await;
    }
    if present.meta().deletion_timestamp.is_some() {
        return Ok(Some("the namespace is being deleted by the API's own controllers"));
    }
    apply_role(keeper, &name, &children::role_at_the_end(&name)).await?;
    if let Some(waits) = possessions(&keeper.client, &namespace).await? {
        return Ok(Some(waits));
    }
    let gone = DeleteParams::default();
    let bindings: Api<Metadata<RoleBinding>> = Api::namespaced(keeper.client.clone(), &namespace);
    call_if_there("delete the agent's binding", bindings.delete(AGENT, &gone)).await?;
    let accounts: Api<Metadata<ServiceAccount>> = Api::namespaced(keeper.client.clone(), &namespace);
    call_if_there("delete the agent's account", accounts.delete(AGENT, &gone)).await?;
    call_if_same("delete the namespace", namespaces.delete(&namespace, &exactly(present.meta()))).await?;
    Ok(Some("the namespace is being deleted by the API's own controllers"))
}

/// Takes what is ours out of a namespace that is somebody else's, and was ours before it lost its label. Where nothing of
/// ours is in it, it never was: then nothing is deleted at all.
async fn vacate(tenant: &str, keeper: &Keeper) -> Result<Option<&'static str>, Error> {
    let Room { namespace: _, account, role, binding, quota, secret, lease: _ } = keeper.view.room(tenant);
    let (account, role, binding) = (ours(account, tenant), ours(role, tenant), ours(binding, tenant));
    let (quota, secret) = (ours(quota, tenant), ours(secret, tenant));
    if [&account, &role, &binding, &quota, &secret].into_iter().all(Option::is_none) {
        return addresses(&keeper.client, &tenant_namespace(tenant)).await;
    }
    if role.is_some() {
        apply_role(keeper, tenant, &children::role_at_the_end(tenant)).await?;
    }
    let (client, namespace) = (&keeper.client, tenant_namespace(tenant));
    if let Some(waits) = possessions(client, &namespace).await? {
        return Ok(Some(waits));
    }
    let gone = [
        remove::<RoleBinding>(client, &namespace, "delete the agent's binding", binding).await?,
        remove::<ServiceAccount>(client, &namespace, "delete the agent's account", account).await?,
        remove::<Secret>(client, &namespace, "delete the agent's credential", secret).await?,
        remove::<ResourceQuota>(client, &namespace, "delete the quota of objects", quota).await?,
        remove::<Role>(client, &namespace, "delete the agent's role", role).await?,
    ];
    Ok((!gone.into_iter().all(|gone| gone)).then_some("what is ours in its namespace was changed just now"))
}

/// The metadata of an object that we made for this tenant.
fn ours<K: Resource>(object: Option<Arc<K>>, tenant: &str) -> Option<ObjectMeta> {
    let wanted = children::metadata(tenant);
    object.map(|object| object.meta().clone()).filter(|present| children::same_label(present, &wanted))
}

/// Deletes the object that was seen; whether nothing is left of it, as far as was seen.
async fn remove<K>(client: &Client, namespace: &str, act: &'static str, seen: Option<ObjectMeta>) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let Some(seen) = seen else { return Ok(true) };
    let objects: Api<Metadata<K>> = Api::namespaced(client.clone(), namespace);
    call_if_same(act, objects.delete(AGENT, &exactly(&seen))).await.map(|answer| answer.is_some())
}

/// Deletes this very object: if somebody has replaced it meanwhile, it is looked at again.
fn exactly(seen: &ObjectMeta) -> DeleteParams {
    let preconditions = Preconditions { uid: seen.uid.clone(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// Deletes the intents and waits for their addresses.
async fn possessions(client: &Client, namespace: &str) -> Result<Option<&'static str>, Error> {
    if intents(client, namespace).await? {
        return Ok(Some("its load balancers are being deleted"));
    }
    addresses(client, namespace).await
}

/// Deletes the intents; whether any are left.
async fn intents(client: &Client, namespace: &str) -> Result<bool, Error> {
    let balancers = sweep::<TCPLoadBalancer>(client, namespace).await?;
    let sites = sweep::<HTTPLoadBalancer>(client, namespace).await?;
    if balancers || sites {
        return Ok(true);
    }
    sweep::<NodeSet>(client, namespace).await
}

async fn sweep<K>(client: &Client, namespace: &str) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let objects: Api<Metadata<K>> = Api::namespaced(client.clone(), namespace);
    let any = |list: &kube::api::ObjectList<Metadata<K>>| !list.items.is_empty();
    let one = ListParams::default().limit(1);
    if !any(&call("look for intents", objects.list(&one)).await?) {
        return Ok(false);
    }
    call("delete the intents", objects.delete_collection(&DeleteParams::default(), &ListParams::default())).await?;
    Ok(any(&call("look for intents", objects.list(&one)).await?))
}

/// Waits for the manager's other rooms to release the addresses. Who has which address is a long list: as long as some are
/// held, the API server's cache answers; that none is, it has to be sure of.
async fn addresses(client: &Client, namespace: &str) -> Result<Option<&'static str>, Error> {
    let held = holds(client, namespace, ListParams::default().match_any()).await?
        || holds(client, namespace, ListParams::default()).await?;
    Ok(held.then_some("its addresses are being released"))
}

async fn holds(client: &Client, namespace: &str, how: ListParams) -> Result<bool, Error> {
    let allocations: Api<Decoded<IPAllocation>> = Api::all(client.clone());
    let all = call("look for the tenant's addresses", allocations.list(&how)).await?;
    // An allocation that cannot be read is released when it can: its owner will be gone by then.
    Ok(all
        .items
        .into_iter()
        .filter_map(Decoded::readable)
        .any(|one| one.spec.owners.iter().any(|owner| owner.namespace == namespace)))
}

/// Takes our finalizer off; whether that could be done. The resourceVersion makes sure that it is the one object and the
/// others' finalizers stay; when it has changed meanwhile, the watch brings us back.
async fn finish(client: &Client, tenant: &Tenant) -> Result<bool, Error> {
    let others: Vec<&String> = tenant.finalizers().iter().filter(|one| *one != TENANT_FINALIZER).collect();
    let patch = json!({"metadata": {"finalizers": others, "resourceVersion": tenant.metadata.resource_version}});
    let tenants: Api<Metadata<Tenant>> = Api::all(client.clone());
    let name = tenant.name_any();
    call_if_same("let the Tenant go", tenants.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)))
        .await
        .map(|answer| answer.is_some())
}
