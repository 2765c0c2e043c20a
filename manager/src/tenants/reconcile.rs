//! One visit to one tenant. Compares what is there with what is wanted, and makes up the difference; knows nothing of other
//! tenants.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use nave_api::Tenant;
use nave_api::cluster::Mark;
use nave_api::names::{
    AGENT, CLUSTER, MANAGER_MANAGER, TENANT_FINALIZER, TENANT_LABEL, TENANT_UID_LABEL, tenant_namespace,
};
use nave_watch::{Decoded, Metadata};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{Error, call, call_if_same, call_if_there};
use super::credential::{self, Issued};
use super::keep::Keeper;
use super::status::{Ours, ready, unready};
use super::view::Room;
use super::{children, ending, trust};
use children::Owner;

/// What nobody tells us of is looked at this often: a namespace that is in the way.
const OFTEN: Duration = Duration::from_mins(1);
/// And a tenant in order this often, in case a watch missed something.
const SELDOM: Duration = Duration::from_hours(1);
/// What the API shows in a moment is looked at again after this.
const SOON: Duration = Duration::from_millis(200);
/// And so is what the API shows a little later.
const LATER: Duration = Duration::from_secs(1);

/// How the namespace stands.
enum Home {
    /// It is there.
    Ours,
    /// It was made just now: the watch will tell of it.
    New,
    /// It is being deleted.
    Ending,
    /// Somebody else made it.
    Foreign,
    /// It was made for an earlier Tenant of this name.
    Former,
}

/// Visits a tenant. What the API refuses for good is written on the Tenant, too.
pub(super) async fn visit(tenant: &Tenant, keeper: &Keeper) -> Result<Action, Error> {
    let outcome = if tenant.metadata.deletion_timestamp.is_some() {
        ending::end(tenant, keeper).await
    } else {
        furnish(tenant, keeper).await
    };
    if let Err(error) = &outcome
        && let Some((act, refusal)) = error.refusal()
    {
        let message = format!("the hub's API refuses to {act}: {}", refusal.message);
        let status = Ours::read(tenant).with(unready("Refused", message), tenant.metadata.generation, Timestamp::now());
        status.write(&keeper.client, tenant).await?;
    }
    outcome
}

async fn furnish(tenant: &Tenant, keeper: &Keeper) -> Result<Action, Error> {
    let name = tenant.name_any();
    if !tenant.finalizers().iter().any(|finalizer| finalizer == TENANT_FINALIZER) {
        hold(tenant, keeper).await?;
        return Ok(Action::await_change()); // The watch shows the Tenant with the finalizer.
    }
    let (owner, room) = (Owner::of(tenant), keeper.view.room(&name));
    if let Some(wait) = house(tenant, &owner, &room, keeper).await? {
        return Ok(wait);
    }
    if !trust::entrust(&owner, &room, keeper).await? {
        return Ok(Action::requeue(SOON));
    }
    if let Some(wait) = rest(tenant, &owner, &room, keeper).await? {
        return Ok(wait);
    }
    settle(tenant, &owner, &room, keeper).await
}

/// The tenant has its namespace, or its status says why not, and when to look again.
async fn house(tenant: &Tenant, owner: &Owner, room: &Room, keeper: &Keeper) -> Result<Option<Action>, Error> {
    let (name, namespace) = (&owner.name, owner.namespace());
    let (reason, message) = match home(owner, room, keeper).await? {
        Home::Ours | Home::New => return Ok(None),
        Home::Ending => {
            keeper.void(name, Some(Instant::now()));
            ("NamespaceTerminating", "its namespace is being deleted; it will be made again".to_owned())
        }
        Home::Foreign => {
            let remedy = format!(
                "hand it over, with what is in it: kubectl label namespace {namespace} --overwrite {TENANT_LABEL}={name}; or delete it"
            );
            ("NamespaceTaken", format!("the namespace {namespace} exists and is not ours: {remedy}"))
        }
        Home::Former => {
            trust::disown(owner, room, keeper).await?;
            let remedy = format!(
                "hand it over, with its load balancers and addresses: kubectl label namespace {namespace} --overwrite {TENANT_UID_LABEL}={}; or delete it, which frees its addresses",
                owner.uid
            );
            let former = "was made for an earlier Tenant of this name";
            ("NamespaceTaken", format!("the namespace {namespace} {former}: {remedy}"))
        }
    };
    keeper.view.looks.forget(name);
    homeless(tenant, keeper, reason, &message).await.map(Some)
}

/// Where the credential is void: what its status says, and when a new one may be made.
async fn rest(tenant: &Tenant, owner: &Owner, room: &Room, keeper: &Keeper) -> Result<Option<Action>, Error> {
    let ends = trust::dismiss(owner, room, keeper).await?;
    let is_void = ends || is_void(tenant, room, keeper).await?;
    let left = keeper.rests(&owner.name, is_void, Instant::now());
    let Some(left) = left.or_else(|| ends.then_some(LATER)) else { return Ok(None) };
    let verdict = unready(
        "CredentialVoid",
        "the credential was deleted and is void; the manager makes a new one 15 s after the deletion. Then bring the kubeconfig of the new Secret agent to the spoke",
    );
    let status = Ours::read(tenant).with(verdict, tenant.metadata.generation, Timestamp::now());
    status.write(&keeper.client, tenant).await?;
    // What ends is looked at again until it is gone.
    Ok(Some(Action::requeue(if ends { left.min(LATER) } else { left })))
}

/// Everything that the room of a tenant has, and what its status says then.
async fn settle(tenant: &Tenant, owner: &Owner, room: &Room, keeper: &Keeper) -> Result<Action, Error> {
    let name = &owner.name;
    furniture(owner, room, keeper).await?;
    let Some((issued, renew_in)) = credential(owner, room, keeper).await? else {
        return Ok(Action::requeue(OFTEN)); // The watch will show the account that was made just now.
    };
    keeper.void(name, None);
    give_to_cluster(tenant, owner, room, keeper).await?;
    // Not before the credential: what was not counted yet is refused, and without one nobody writes anything.
    let quota_in = quota(tenant, owner, room, keeper).await?;
    let status = Ours::read(tenant);
    let heard = keeper.listen(name, status.is_connected());
    let (now, wall) = (Instant::now(), Timestamp::now());
    let silent_in = heard.as_ref().and_then(|heard| heard.remaining(now));
    let alone_in = heard.as_ref().and_then(|heard| heard.other(now)).map(|(_, left)| left);
    let status = status.with_credential(name, &issued).with(ready(), tenant.metadata.generation, wall).with_agent(
        heard.as_ref(),
        tenant,
        now,
        wall,
    );
    status.write(&keeper.client, tenant).await?;
    let next = [Some(SELDOM), Some(renew_in), quota_in, silent_in, alone_in].into_iter().flatten().min();
    Ok(Action::requeue(next.unwrap_or(SELDOM)))
}

/// Puts our finalizer on.
async fn hold(tenant: &Tenant, keeper: &Keeper) -> Result<(), Error> {
    let mut finalizers = tenant.finalizers().to_vec();
    finalizers.push(TENANT_FINALIZER.to_owned());
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": tenant.metadata.resource_version}});
    let tenants: Api<Metadata<Tenant>> = Api::all(keeper.client.clone());
    let name = tenant.name_any();
    call_if_same("hold the Tenant", tenants.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)))
        .await
        .map(drop)
}

/// Finds or makes the namespace. It is created, never applied: what exists without our label is not ours, and what was made for an earlier
/// Tenant of the name is not this one's.
async fn home(owner: &Owner, room: &Room, keeper: &Keeper) -> Result<Home, Error> {
    let namespaces: Api<Decoded<Namespace>> = Api::all(keeper.client.clone());
    let name = owner.namespace();
    let present = match &room.namespace {
        Some(seen) => Some(seen.metadata.clone()),
        None => call_if_there("look for the namespace", namespaces.get(&name)).await?.map(|found| found.meta().clone()),
    };
    let Some(present) = present else {
        let wanted = Decoded::Object(children::namespace(owner));
        call("make the namespace", namespaces.create(&PostParams::default(), &wanted)).await?;
        return Ok(Home::New);
    };
    Ok(match () {
        () if !owner.has_name(&present) => Home::Foreign,
        () if present.deletion_timestamp.is_some() => Home::Ending,
        () if !owner.has(&present) => Home::Former,
        () => Home::Ours,
    })
}

/// The tenant has no namespace now, and its status says why.
async fn homeless(tenant: &Tenant, keeper: &Keeper, reason: &str, message: &str) -> Result<Action, Error> {
    let status = Ours::read(tenant).without_room();
    let status = status.with(unready(reason, message), tenant.metadata.generation, Timestamp::now());
    status.write(&keeper.client, tenant).await?;
    Ok(Action::requeue(OFTEN))
}

/// Whether the credential that the Tenant has by its status is no more: the Secret or the account was deleted. What is being deleted
/// counts as deleted.
async fn is_void(tenant: &Tenant, room: &Room, keeper: &Keeper) -> Result<bool, Error> {
    if tenant.status.as_ref().is_none_or(|status| status.credential.is_none()) {
        return Ok(false);
    }
    let namespace = tenant_namespace(&tenant.name_any());
    let accounts: Api<Metadata<ServiceAccount>> = Api::namespaced(keeper.client.clone(), &namespace);
    let secrets: Api<Metadata<Secret>> = Api::namespaced(keeper.client.clone(), &namespace);
    // The view may be behind what we wrote ourselves.
    let stays = |metadata: &ObjectMeta| metadata.deletion_timestamp.is_none();
    let has_account = room.account.is_some()
        || call_if_there("look for the agent's account", accounts.get(AGENT))
            .await?
            .is_some_and(|account| stays(account.meta()));
    let has_secret = room.secret.is_some()
        || call_if_there("look for the credential", secrets.get(AGENT))
            .await?
            .is_some_and(|secret| stays(secret.meta()));
    Ok(!(has_account && has_secret))
}

/// An administrator's word to which cluster the tenant belongs is carried to where agents read it. A word that is no mark of a
/// cluster means nothing.
async fn give_to_cluster(tenant: &Tenant, owner: &Owner, room: &Room, keeper: &Keeper) -> Result<(), Error> {
    let Some(mark) = tenant.annotations().get(CLUSTER).and_then(|text| text.trim().parse::<Mark>().ok()) else {
        return Ok(());
    };
    let present = room.lease.as_ref().and_then(|lease| lease.labels().get(CLUSTER));
    if present.is_some_and(|present| present == mark.as_str()) {
        return Ok(());
    }
    let mut lease = Lease::default();
    lease.metadata.name = Some(AGENT.to_owned());
    lease.labels_mut().insert(CLUSTER.to_owned(), mark.to_string());
    apply(keeper, owner, "give the tenant to a cluster", &lease).await
}

/// Account, role and binding.
async fn furniture(owner: &Owner, room: &Room, keeper: &Keeper) -> Result<(), Error> {
    let account = children::account(owner);
    if !room.account.as_deref().is_some_and(|present| children::same_account(present, &account)) {
        apply(keeper, owner, "apply the agent's account", &account).await?;
    }
    apply_role(keeper, owner, &children::role(owner)).await?;
    let binding = children::binding(owner);
    match room.binding.as_deref() {
        Some(present) if children::same_binding(present, &binding) => Ok(()),
        present => trust::bind(owner, present, &binding, keeper).await,
    }
}

/// Once our kinds are old enough, the quota of objects; how long that takes yet.
async fn quota(tenant: &Tenant, owner: &Owner, room: &Room, keeper: &Keeper) -> Result<Option<Duration>, Error> {
    let born = keeper.kinds_born().await?;
    let age = u64::try_from(Timestamp::now().as_second() - born.as_second()).unwrap_or(0);
    let left = keeper.settings.quota_after.saturating_sub(Duration::from_secs(age));
    if !left.is_zero() {
        return Ok(Some(left));
    }
    let limits = tenant.spec.quota.clone().unwrap_or_default().or(&keeper.settings.default_quota);
    let quota = children::quota(owner, &limits);
    if !room.quota.as_deref().is_some_and(|present| children::same_quota(present, &quota)) {
        apply(keeper, owner, "apply the quota of objects", &quota).await?;
    }
    Ok(None)
}

/// Makes the agent's role as it is wanted, if it is not.
pub(super) async fn apply_role(keeper: &Keeper, owner: &Owner, wanted: &Role) -> Result<(), Error> {
    let present = keeper.view.room(&owner.name).role;
    if present.is_some_and(|present| children::same_role(&present, wanted)) {
        return Ok(());
    }
    apply(keeper, owner, "apply the agent's role", wanted).await
}

/// Applies an object of the tenant's namespace.
pub(super) async fn apply<K>(keeper: &Keeper, owner: &Owner, act: &'static str, wanted: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<Metadata<K>> = Api::namespaced(keeper.client.clone(), &owner.namespace());
    let parameters = PatchParams::apply(MANAGER_MANAGER).force();
    call(act, api.patch(&wanted.name_any(), &parameters, &Patch::Apply(wanted))).await.map(drop)
}

/// The credential that is there, or a new one where that is due, and when the next one is. `None`: the account has yet to
/// be seen.
async fn credential(owner: &Owner, room: &Room, keeper: &Keeper) -> Result<Option<(Issued, Duration)>, Error> {
    let Some(account) = room.account.as_ref().and_then(|account| account.metadata.uid.as_ref()) else {
        return Ok(None);
    };
    let hub = credential::hub_mark(&keeper.settings.hub);
    let standing = |issued: Issued| {
        let left = issued.remaining(account, &hub, Timestamp::now());
        left.map(|left| (issued, left))
    };
    let seen = room.secret.as_ref().and_then(Issued::read);
    if let Some(standing) = seen.and_then(standing) {
        return Ok(Some(standing));
    }
    // The view may be behind what we wrote ourselves: before a token is issued, the API is asked.
    let present = credential::present(&keeper.client, &owner.name).await?;
    let issued = present.as_ref().and_then(Issued::read);
    keeper.view.looks.note(&owner.name, present);
    if let Some(standing) = issued.and_then(standing) {
        return Ok(Some(standing));
    }
    let issued = credential::issue(&keeper.client, &keeper.settings, owner, account).await?;
    Ok(Some((issued, keeper.settings.token_life / 3 * 2)))
}
