//! One visit to one tenant. Compares what is there with what is wanted, and makes up the difference; knows nothing of other
//! tenants.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use nave_api::Tenant;
use nave_api::cluster::Mark;
use nave_api::names::{AGENT, CLUSTER, MANAGER_MANAGER, TENANT_FINALIZER, tenant_namespace};
use nave_watch::{Decoded, Metadata};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{Error, call, call_if_same, call_if_there};
use super::credential::{self, Issued};
use super::keep::Keeper;
use super::status::{Ours, ready, unready};
use super::view::Room;
use super::{children, ending};

/// What nobody tells us of is looked at this often: a namespace that is in the way.
const OFTEN: Duration = Duration::from_mins(1);
/// And a tenant in order this often, in case a watch missed something.
const SELDOM: Duration = Duration::from_hours(1);

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
    let room = keeper.view.room(&name);
    match home(&name, &room, keeper).await? {
        Home::Ours | Home::New => {}
        Home::Ending => {
            keeper.void(&name, Some(Instant::now()));
            return homeless(
                tenant,
                keeper,
                "NamespaceTerminating",
                "its namespace is being deleted; it will be made again",
            )
            .await;
        }
        Home::Foreign => {
            let namespace = tenant_namespace(&name);
            let message = format!(
                "the namespace {namespace} exists and is not ours: delete it, or hand it over with the label nave.dev/tenant={name}"
            );
            return homeless(tenant, keeper, "NamespaceTaken", &message).await;
        }
    }
    if let Some(left) = keeper.rests(&name, is_void(tenant, &room, keeper).await?, Instant::now()) {
        let message = "its credential was deleted, and is void; a new one is made in a moment";
        let verdict = unready("CredentialVoid", message);
        Ours::read(tenant)
            .with(verdict, tenant.metadata.generation, Timestamp::now())
            .write(&keeper.client, tenant)
            .await?;
        return Ok(Action::requeue(left));
    }
    furniture(&name, &room, keeper).await?;
    let Some((issued, renew_in)) = credential(&name, &room, keeper).await? else {
        return Ok(Action::requeue(OFTEN)); // The watch will show the account that was made just now.
    };
    keeper.void(&name, None);
    give_to_cluster(tenant, &room, keeper).await?;
    // Not before the credential: what was not counted yet is refused, and without one nobody writes anything.
    let quota_in = quota(tenant, &room, keeper).await?;
    let status = Ours::read(tenant);
    let heard = keeper.listen(&name, status.is_connected());
    let (now, wall) = (Instant::now(), Timestamp::now());
    let silent_in = heard.as_ref().and_then(|heard| heard.remaining(now));
    let alone_in = heard.as_ref().and_then(|heard| heard.other(now)).map(|(_, left)| left);
    let status = status.with_credential(&name, &issued).with(ready(), tenant.metadata.generation, wall).with_agent(
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

/// Finds or makes the namespace. It is created, never applied: what exists without our label is not ours.
async fn home(tenant: &str, room: &Room, keeper: &Keeper) -> Result<Home, Error> {
    let namespaces: Api<Decoded<Namespace>> = Api::all(keeper.client.clone());
    let name = tenant_namespace(tenant);
    let present = match &room.namespace {
        Some(seen) => Some(seen.metadata.clone()),
        None => call_if_there("look for the namespace", namespaces.get(&name)).await?.map(|found| found.meta().clone()),
    };
    let Some(present) = present else {
        let wanted = Decoded::Object(children::namespace(tenant));
        call("make the namespace", namespaces.create(&PostParams::default(), &wanted)).await?;
        return Ok(Home::New);
    };
    if !children::is_ours(&present, tenant) {
        return Ok(Home::Foreign);
    }
    if present.deletion_timestamp.is_some() {
        return Ok(Home::Ending);
    }
    Ok(Home::Ours)
}

/// The tenant has no namespace now, and its status says why.
async fn homeless(tenant: &Tenant, keeper: &Keeper, reason: &str, message: &str) -> Result<Action, Error> {
    let status = Ours::read(tenant).without_room();
    let status = status.with(unready(reason, message), tenant.metadata.generation, Timestamp::now());
    status.write(&keeper.client, tenant).await?;
    Ok(Action::requeue(OFTEN))
}

/// Whether the credential that the Tenant has by its status is no more: somebody deleted the Secret or the account.
async fn is_void(tenant: &Tenant, room: &Room, keeper: &Keeper) -> Result<bool, Error> {
    if tenant.status.as_ref().is_none_or(|status| status.credential.is_none()) {
        return Ok(false);
    }
    let namespace = tenant_namespace(&tenant.name_any());
    let accounts: Api<Metadata<ServiceAccount>> = Api::namespaced(keeper.client.clone(), &namespace);
    let secrets: Api<Metadata<Secret>> = Api::namespaced(keeper.client.clone(), &namespace);
    // The view may be behind what we wrote ourselves.
    let has_account =
        room.account.is_some() || call_if_there("look for the agent's account", accounts.get(AGENT)).await?.is_some();
    let has_secret =
        room.secret.is_some() || call_if_there("look for the credential", secrets.get(AGENT)).await?.is_some();
    Ok(!(has_account && has_secret))
}

/// An administrator's word to which cluster the tenant belongs is carried to where agents read it. A word that is no mark of a
/// cluster means nothing.
async fn give_to_cluster(tenant: &Tenant, room: &Room, keeper: &Keeper) -> Result<(), Error> {
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
    apply(keeper, &tenant.name_any(), "give the tenant to a cluster", &lease).await
}

/// Account, role and binding.
async fn furniture(name: &str, room: &Room, keeper: &Keeper) -> Result<(), Error> {
    let account = children::account(name);
    if !room.account.as_deref().is_some_and(|present| children::same_account(present, &account)) {
        apply(keeper, name, "apply the agent's account", &account).await?;
    }
    apply_role(keeper, name, &children::role(name)).await?;
    bind(name, room, keeper).await
}

/// Once our kinds are old enough, the quota of objects; how long that takes yet.
async fn quota(tenant: &Tenant, room: &Room, keeper: &Keeper) -> Result<Option<Duration>, Error> {
    let name = tenant.name_any();
    let born = keeper.kinds_born().await?;
    let age = u64::try_from(Timestamp::now().as_second() - born.as_second()).unwrap_or(0);
    let left = keeper.settings.quota_after.saturating_sub(Duration::from_secs(age));
    if !left.is_zero() {
        return Ok(Some(left));
    }
    let limits = tenant.spec.quota.clone().unwrap_or_default().or(&keeper.settings.default_quota);
    let quota = children::quota(&name, &limits);
    if !room.quota.as_deref().is_some_and(|present| children::same_quota(present, &quota)) {
        apply(keeper, &name, "apply the quota of objects", &quota).await?;
    }
    Ok(None)
}

/// Makes the agent's role as it is wanted, if it is not.
pub(super) async fn apply_role(keeper: &Keeper, tenant: &str, wanted: &Role) -> Result<(), Error> {
    let present = keeper.view.room(tenant).role;
    if present.is_some_and(|present| children::same_role(&present, wanted)) {
        return Ok(());
    }
    apply(keeper, tenant, "apply the agent's role", wanted).await
}

/// A binding to another role cannot be changed, only replaced.
async fn bind(tenant: &str, room: &Room, keeper: &Keeper) -> Result<(), Error> {
    let wanted = children::binding(tenant);
    match room.binding.as_deref() {
        Some(present) if children::same_binding(present, &wanted) => return Ok(()),
        Some(present) if present.role_ref != wanted.role_ref => {
            let bindings: Api<Metadata<RoleBinding>> =
                Api::namespaced(keeper.client.clone(), &tenant_namespace(tenant));
            call_if_there("delete a binding to another role", bindings.delete(AGENT, &DeleteParams::default())).await?;
        }
        Some(_) | None => {}
    }
    apply(keeper, tenant, "apply the agent's binding", &wanted).await
}

async fn apply<K>(keeper: &Keeper, tenant: &str, act: &'static str, wanted: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<Metadata<K>> = Api::namespaced(keeper.client.clone(), &tenant_namespace(tenant));
    let parameters = PatchParams::apply(MANAGER_MANAGER).force();
    call(act, api.patch(AGENT, &parameters, &Patch::Apply(wanted))).await.map(drop)
}

/// The credential that is there, or a new one where that is due, and when the next one is. `None`: the account has yet to
/// be seen.
async fn credential(tenant: &str, room: &Room, keeper: &Keeper) -> Result<Option<(Issued, Duration)>, Error> {
    let Some(account) = room.account.as_ref().and_then(|account| account.metadata.uid.as_ref()) else {
        return Ok(None);
    };
    let hub = credential::hub_mark(&keeper.settings);
    let standing = |issued: Issued| {
        let left = issued.remaining(account, &hub, Timestamp::now());
        left.map(|left| (issued, left))
    };
    let seen = room.secret.as_ref().and_then(|secret| Issued::read(&secret.metadata));
    if let Some(standing) = seen.and_then(standing) {
        return Ok(Some(standing));
    }
    // The view may be behind what we wrote ourselves: before a token is issued, the API is asked.
    let present = credential::present(&keeper.client, tenant).await?;
    if let Some(standing) = present.and_then(standing) {
        return Ok(Some(standing));
    }
    let issued = credential::issue(&keeper.client, &keeper.settings, tenant, account).await?;
    Ok(Some((issued, keeper.settings.token_life / 3 * 2)))
}
