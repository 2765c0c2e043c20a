//! Makes a tenant's room and keeps it as it should be. Knows in which order; what each object says is decided elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use nave_api::condition::{self, ConditionType};
use nave_api::{Tenant, names};
use serde_json::{Value, json};

use super::covers::covers;
use super::credential::{self, Term};
use super::desired::{self, KINDS, Kind, Rights};
use super::error::{Error, call};
use super::heartbeat::{Heard, Word};
use super::room::Room;
use super::status::{self, Finding};
use super::world;

/// A namespace that is not ours gives no sign when it goes.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// A room is compared so often even when nothing happens; that reads caches only.
const RESYNC: Duration = Duration::from_secs(3600);

/// Whose a namespace is.
pub(super) enum Ground {
    /// The tenant's.
    Ours(Arc<Namespace>),
    /// The tenant's, and going.
    Ending,
    /// Somebody else's.
    Taken,
    /// There is none.
    Bare,
}

/// Makes what is missing and mends what differs.
pub(super) async fn provision(room: &Room, tenant: &Tenant) -> Result<Action, Error> {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    if !has_finalizer(tenant) {
        add_finalizer(room, tenant).await?;
        return Ok(Action::await_change());
    }
    let (finding, again, refused) = match furnish(room, name).await {
        Ok((finding, again)) => (finding, again, None),
        Err(error) => match error.refusal() {
            Some(message) => (Finding::Refused(message), RESYNC, Some(error)),
            None => return Err(error),
        },
    };
    let heard = listen(room, tenant);
    status::write(room, tenant, &finding, heard.as_ref()).await?;
    match refused {
        Some(error) => Err(error),
        None => {
            let silent = heard.and_then(|heard| heard.left(Instant::now()));
            Ok(Action::requeue(silent.map_or(again, |left| again.min(left)).min(RESYNC)))
        }
    }
}

/// What is known of the tenant's agent.
pub(super) fn listen(room: &Room, tenant: &Tenant) -> Option<Heard> {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    let [.., lease] = KINDS;
    let lease = room.world.part(lease, name).and_then(|lease| (*lease).clone().try_parse::<Lease>().ok());
    let believed = tenant
        .status
        .as_ref()
        .is_some_and(|status| condition::is_true(&status.conditions, ConditionType::AgentConnected));
    room.hear(name, lease.as_ref().and_then(Word::read), believed)
}

/// The namespace, what is in it, and how long that may be left alone.
async fn furnish(room: &Room, name: &str) -> Result<(Finding, Duration), Error> {
    match ground(room, name).await? {
        Ground::Taken => return Ok((Finding::Taken, LOOK_AGAIN)),
        Ground::Ending => return Ok((Finding::Ending, LOOK_AGAIN)),
        Ground::Ours(_) => {}
        Ground::Bare => {
            let namespaces: Api<Namespace> = Api::all(room.client.clone());
            // Invariant: created, never applied: a namespace that is there is not ours, whoever was faster.
            let (params, wanted) = (PostParams::default(), desired::namespace(name));
            call("create the namespace of", name, namespaces.create(&params, &wanted)).await?;
        }
    }
    let mut account = None;
    for kind in KINDS {
        let made = ensure(room, kind, name, Rights::Full).await?;
        account = account.or(made.metadata.uid.clone());
    }
    let term = keep_credential(room, name, &account.unwrap_or_default()).await?;
    let left = term.renew_at().duration_since(Timestamp::now());
    Ok((Finding::Ready(term.expires), Duration::try_from(left).unwrap_or_default()))
}

/// Whose the tenant's namespace is, asking the API when the cache has none.
pub(super) async fn ground(room: &Room, name: &str) -> Result<Ground, Error> {
    let namespaces: Api<Namespace> = Api::all(room.client.clone());
    let found = match room.world.namespace(name) {
        Some(known) => Some(known),
        None => call("look for the namespace of", name, namespaces.get_opt(&names::tenant_namespace(name)))
            .await?
            .map(Arc::new),
    };
    Ok(match found {
        None => Ground::Bare,
        Some(namespace) if !world::is_labelled(&*namespace, name) => Ground::Taken,
        Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => Ground::Ending,
        Some(namespace) => Ground::Ours(namespace),
    })
}

/// Applies one object, unless it is as it should be.
pub(super) async fn ensure(room: &Room, kind: Kind, tenant: &str, rights: Rights) -> Result<Arc<DynamicObject>, Error> {
    let wanted = desired::object(kind, tenant, rights);
    if let Some(known) = room.world.part(kind, tenant) {
        let labelled = world::is_labelled(&*known, tenant);
        if labelled
            && body(&wanted).iter().all(|(key, value)| known.data.get(*key).is_some_and(|found| covers(found, value)))
        {
            return Ok(known);
        }
    }
    let api: Api<DynamicObject> =
        Api::namespaced_with(room.client.clone(), &names::tenant_namespace(tenant), &kind.resource());
    let what = format!("the {} of {tenant}", kind.name);
    let params = PatchParams::apply(names::MANAGER_MANAGER).force();
    call("apply", &what, api.patch(names::AGENT, &params, &Patch::Apply(&wanted))).await.map(Arc::new)
}

/// What an object says besides its name.
fn body(object: &Value) -> Vec<(&str, &Value)> {
    let fields = object.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value));
    fields.filter(|(key, _)| !["apiVersion", "kind", "metadata"].contains(key)).collect()
}

/// Makes a credential where there is none, or none that is good for long enough.
async fn keep_credential(room: &Room, name: &str, account: &str) -> Result<Term, Error> {
    let now = Timestamp::now();
    let good = |secret: &Secret| credential::current(secret, account, &room.settings, now);
    if let Some(term) = room.world.secret(name).and_then(|secret| good(&secret)) {
        return Ok(term);
    }
    let secrets: Api<Secret> = Api::namespaced(room.client.clone(), &names::tenant_namespace(name));
    // The cache may be behind: a token that was just issued is not issued again.
    let there = call("look for the credential of", name, secrets.get_opt(names::AGENT)).await?;
    if let Some(term) = there.as_ref().and_then(good) {
        return Ok(term);
    }
    let params = PatchParams::apply(names::MANAGER_MANAGER).force();
    let secret = match there {
        Some(secret) => secret,
        None => {
            let empty = credential::empty(name);
            call("make the Secret of", name, secrets.patch(names::AGENT, &params, &Patch::Apply(&empty))).await?
        }
    };
    let uid = secret.metadata.uid.unwrap_or_default();
    let (token, expires) = issue(room, name, &uid).await?;
    let term = Term { issued: now, expires };
    let filled = credential::filled(name, &uid, account, &room.settings, &token, &term);
    call("fill the Secret of", name, secrets.patch(names::AGENT, &params, &Patch::Apply(&filled))).await?;
    tracing::info!(tenant = name, expires = %term.expires, "issued a credential");
    Ok(term)
}

/// Asks for a token of the agent's account that lives no longer than the Secret that holds it.
async fn issue(room: &Room, name: &str, secret: &str) -> Result<(String, Timestamp), Error> {
    let holder = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(names::AGENT.to_owned()),
        uid: Some(secret.to_owned()),
    };
    let spec = TokenRequestSpec {
        audiences: Vec::new(),
        bound_object_ref: Some(holder),
        expiration_seconds: Some(credential::LIFE.as_secs()),
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(room.client.clone(), &names::tenant_namespace(name));
    let params = PostParams::default();
    let issued = accounts.create_token_request(names::AGENT, &params, &request);
    let status = call("ask for a token of", name, issued).await?.status.ok_or(Error::NoToken)?;
    Ok((status.token, status.expiration_timestamp.0))
}

/// Whether our finalizer is on the tenant.
pub(super) fn has_finalizer(tenant: &Tenant) -> bool {
    tenant.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::TENANT_FINALIZER)
}

async fn add_finalizer(room: &Room, tenant: &Tenant) -> Result<(), Error> {
    let mut finalizers = tenant.metadata.finalizers.clone().unwrap_or_default();
    finalizers.push(names::TENANT_FINALIZER.to_owned());
    set_finalizers(room, tenant, &finalizers).await
}

/// Takes our finalizer off: the tenant may go.
pub(super) async fn remove_finalizer(room: &Room, tenant: &Tenant) -> Result<(), Error> {
    let mut finalizers = tenant.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != names::TENANT_FINALIZER);
    set_finalizers(room, tenant, &finalizers).await
}

/// Replaces the finalizers of exactly the version that we looked at.
async fn set_finalizers(room: &Room, tenant: &Tenant, finalizers: &[String]) -> Result<(), Error> {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"metadata": {
        "uid": tenant.metadata.uid, "resourceVersion": tenant.metadata.resource_version, "finalizers": finalizers,
    }});
    let tenants: Api<Tenant> = Api::all(room.client.clone());
    let params = PatchParams { field_manager: Some(names::MANAGER_MANAGER.to_owned()), ..PatchParams::default() };
    call("set the finalizers of", name, tenants.patch(name, &params, &Patch::Merge(&patch))).await?;
    Ok(())
}
