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
use nave_api::names::{AGENT, TENANT_FINALIZER};
use nave_api::{HTTPLoadBalancer, IPAllocation, NodeSet, TCPLoadBalancer, Tenant};
use nave_manager_core::{Announcement, Tone};
use nave_watch::{Decoded, Metadata};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{Error, call, call_if_same, call_if_there};
use super::children::{self, Owner};
use super::keep::Keeper;
use super::reconcile::apply_role;
use super::status::{Ours, unready};
use super::view::Room;
use super::{credential, release, trust};

/// Goes as far towards the end as it may now. The room is taken apart as long as the Tenant is there, whatever finalizer holds it.
pub(super) async fn end(tenant: &Tenant, keeper: &Keeper) -> Result<Action, Error> {
    let owner = Owner::of(tenant);
    let Progress { waits, taken_off } = clear(&owner, keeper).await?;
    let taken_off = tell(tenant, taken_off, keeper);
    if let Some(waits) = waits {
        let message = taken_off.map_or_else(|| waits.to_owned(), |taken_off| format!("{waits}; {taken_off}"));
        let status =
            Ours::read(tenant).with(unready("Deleting", message), tenant.metadata.generation, Timestamp::now());
        status.write(&keeper.client, tenant).await?;
        return Ok(Action::requeue(keeper.waits(&owner.name, waits, Instant::now())));
    }
    let is_held = tenant.finalizers().iter().any(|finalizer| finalizer == TENANT_FINALIZER);
    if is_held && finish(&keeper.client, tenant).await? {
        keeper.forget(&owner.name);
        tracing::info!(tenant = owner.name, "a tenant has ended");
    }
    Ok(Action::await_change())
}

/// What one visit to a tenant that ends came to.
#[derive(Default)]
struct Progress {
    /// What has to be waited for before it can go on.
    waits: Option<&'static str>,
    /// The foreign finalizers that were taken off.
    taken_off: Vec<String>,
}

impl Progress {
    fn waits(waits: Option<&'static str>) -> Self {
        Self { waits, taken_off: Vec::new() }
    }
}

/// Tells of finalizers that were taken off, in an Event; all that were so far, for the condition.
fn tell(tenant: &Tenant, taken_off: Vec<String>, keeper: &Keeper) -> Option<String> {
    let is_news = !taken_off.is_empty();
    let text = keeper.took(&tenant.name_any(), taken_off);
    if is_news && let Some(message) = text.clone() {
        let (about, reason) = (tenant.object_ref(&()), "FinalizersTakenOff".to_owned());
        keeper.events.publish(Announcement { about, tone: Tone::Warning, reason, message });
    }
    text
}

/// Takes the room apart.
async fn clear(owner: &Owner, keeper: &Keeper) -> Result<Progress, Error> {
    const DELETING: Option<&str> = Some("the namespace is being deleted by the API's own controllers");
    let namespace = owner.namespace();
    let namespaces: Api<Metadata<Namespace>> = Api::all(keeper.client.clone());
    let Some(present) = call_if_there("look for the namespace", namespaces.get(&namespace)).await? else {
        return addresses(&keeper.client, &namespace).await.map(Progress::waits);
    };
    if !owner.has(present.meta()) {
        return vacate(owner, keeper).await;
    }
    if present.meta().deletion_timestamp.is_some() {
        keeper.view.looks.forget(&owner.name);
        let taken_off = release(&keeper.client, &namespace).await?;
        return Ok(Progress { waits: DELETING, taken_off });
    }
    apply_role(keeper, owner, &children::role_at_the_end(owner)).await?;
    let Progress { waits, mut taken_off } = possessions(&keeper.client, &namespace).await?;
    if waits.is_some() {
        return Ok(Progress { waits, taken_off });
    }
    if !trust::entrust(owner, &keeper.view.room(&owner.name), keeper).await? {
        return Ok(Progress { waits: Some("the manager gets its rights in the namespace"), taken_off });
    }
    taken_off.extend(release::others(&keeper.client, &namespace).await?);
    keeper.view.looks.forget(&owner.name);
    let gone = DeleteParams::default();
    let bindings: Api<Metadata<RoleBinding>> = Api::namespaced(keeper.client.clone(), &namespace);
    call_if_there("delete the agent's binding", bindings.delete(AGENT, &gone)).await?;
    let accounts: Api<Metadata<ServiceAccount>> = Api::namespaced(keeper.client.clone(), &namespace);
    call_if_there("delete the agent's account", accounts.delete(AGENT, &gone)).await?;
    call_if_same("delete the namespace", namespaces.delete(&namespace, &exactly(present.meta()))).await?;
    Ok(Progress { waits: DELETING, taken_off })
}

/// Takes what is ours out of a namespace that is somebody else's, and was ours before it lost its label. Where nothing of
/// ours is in it, it never was: then nothing is deleted at all.
async fn vacate(owner: &Owner, keeper: &Keeper) -> Result<Progress, Error> {
    let (client, namespace) = (&keeper.client, owner.namespace());
    let Room { namespace: _, account, role, binding, managers, quota, secret: _, lease: _ } =
        keeper.view.room(&owner.name);
    let (account, role, binding) = (ours(account, owner), ours(role, owner), ours(binding, owner));
    let (quota, managers) = (ours(quota, owner), ours(managers, owner));
    // Without its binding the manager sees no Secret there.
    let secret = match &managers {
        Some(_) => credential::present(client, &owner.name).await?.filter(|secret| owner.has(secret)),
        None => None,
    };
    if [&account, &role, &binding, &quota, &managers, &secret].into_iter().all(Option::is_none) {
        return Ok(Progress::default());
    }
    if role.is_some() {
        apply_role(keeper, owner, &children::role_at_the_end(owner)).await?;
    }
    let progress = possessions(client, &namespace).await?;
    if progress.waits.is_some() {
        return Ok(progress);
    }
    keeper.view.looks.forget(&owner.name);
    let gone = [
        remove::<RoleBinding>(client, &namespace, "delete the agent's binding", binding).await?,
        remove::<ServiceAccount>(client, &namespace, "delete the agent's account", account).await?,
        remove::<Secret>(client, &namespace, "delete the agent's credential", secret).await?,
        remove::<ResourceQuota>(client, &namespace, "delete the quota of objects", quota).await?,
        remove::<Role>(client, &namespace, "delete the agent's role", role).await?,
        remove::<RoleBinding>(client, &namespace, "delete the manager's binding", managers).await?,
    ];
    let waits = (!gone.into_iter().all(|gone| gone)).then_some("what is ours in its namespace was changed just now");
    Ok(Progress { waits, ..progress })
}

/// The metadata of an object that we made for this tenant.
fn ours<K: Resource>(object: Option<Arc<K>>, owner: &Owner) -> Option<ObjectMeta> {
    object.map(|object| object.meta().clone()).filter(|present| owner.has(present))
}

/// Deletes the object that was seen; whether nothing is left of it, as far as was seen.
async fn remove<K>(client: &Client, namespace: &str, act: &'static str, seen: Option<ObjectMeta>) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let Some(seen) = seen else { return Ok(true) };
    let objects: Api<Metadata<K>> = Api::namespaced(client.clone(), namespace);
    let name = seen.name.as_deref().unwrap_or_default();
    call_if_same(act, objects.delete(name, &exactly(&seen))).await.map(|answer| answer.is_some())
}

/// Deletes this very object: if somebody has replaced it meanwhile, it is looked at again.
fn exactly(seen: &ObjectMeta) -> DeleteParams {
    let preconditions = Preconditions { uid: seen.uid.clone(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// Deletes the intents and waits for their addresses.
async fn possessions(client: &Client, namespace: &str) -> Result<Progress, Error> {
    let Found { any, taken_off } = intents(client, namespace).await?;
    if any {
        return Ok(Progress { waits: Some("its load balancers are being deleted"), taken_off });
    }
    Ok(Progress { waits: addresses(client, namespace).await?, taken_off })
}

/// What of a tenant's intents is left.
#[derive(Default)]
struct Found {
    any: bool,
    taken_off: Vec<String>,
}

impl Found {
    fn and(mut self, other: Self) -> Self {
        self.taken_off.extend(other.taken_off);
        Self { any: self.any || other.any, taken_off: self.taken_off }
    }
}

/// Deletes the intents; whether any are left.
async fn intents(client: &Client, namespace: &str) -> Result<Found, Error> {
    let balancers = sweep::<TCPLoadBalancer>(client, namespace).await?;
    let found = balancers.and(sweep::<HTTPLoadBalancer>(client, namespace).await?);
    if found.any {
        return Ok(found);
    }
    Ok(found.and(sweep::<NodeSet>(client, namespace).await?))
}

async fn sweep<K>(client: &Client, namespace: &str) -> Result<Found, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let objects: Api<Metadata<K>> = Api::namespaced(client.clone(), namespace);
    let any = |list: &kube::api::ObjectList<Metadata<K>>| !list.items.is_empty();
    let one = ListParams::default().limit(1);
    if !any(&call("look for intents", objects.list(&one)).await?) {
        return Ok(Found::default());
    }
    delete_all(&objects).await?;
    let taken_off = release::intents::<K>(client, namespace).await?;
    Ok(Found { any: any(&call("look for intents", objects.list(&one)).await?), taken_off })
}

/// Objects in one answer: without their contents each may still have 256 KiB of annotations.
const PAGE: u32 = 50;

/// Deletes the objects one by one: the answer to the deletion of a collection has all of them, each of up to 1.5 MB.
async fn delete_all<K>(objects: &Api<Metadata<K>>) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = call("look for intents", objects.list(&page)).await?;
        for object in list.items.iter().filter(|object| object.meta().deletion_timestamp.is_none()) {
            let name = object.meta().name.as_deref().unwrap_or_default();
            call_if_there("delete an intent", objects.delete(name, &DeleteParams::default())).await?;
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Takes finalizers off the intents of a namespace that is being deleted. The API's controllers delete the intents.
async fn release(client: &Client, namespace: &str) -> Result<Vec<String>, Error> {
    let mut taken_off = release::intents::<TCPLoadBalancer>(client, namespace).await?;
    taken_off.extend(release::intents::<HTTPLoadBalancer>(client, namespace).await?);
    taken_off.extend(release::intents::<NodeSet>(client, namespace).await?);
    Ok(taken_off)
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
