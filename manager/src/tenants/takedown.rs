//! Takes a tenant's room down, in this order: what its agent asked for, the addresses that it had, the agent's account, the
//! namespace, and last our finalizer. Knows the order; releases no address itself, and waits until that is done.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action;
use kube::{Api, Client, Resource};
use nave_api::{HTTPLoadBalancer, IPAllocation, NodeSet, TCPLoadBalancer, Tenant, names};
use serde::de::DeserializeOwned;

use super::desired::{KINDS, Rights};
use super::error::{Error, call};
use super::provision::{self, Ground};
use super::room::Room;
use super::status::{self, Finding};

/// How often it is looked whether what we wait for is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How many objects are read at once.
const PAGE: u32 = 500;

/// Goes as far as it can now, and says in the status what it waits for.
pub(super) async fn take_down(room: &Room, tenant: &Tenant) -> Result<Action, Error> {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    if !provision::has_finalizer(tenant) {
        room.forget(name);
        return Ok(Action::await_change());
    }
    match waits_for(room, name).await? {
        Some(what) => {
            let heard = provision::listen(room, tenant);
            status::write(room, tenant, &Finding::Deleting(what), heard.as_ref()).await?;
            Ok(Action::requeue(LOOK_AGAIN))
        }
        None => {
            provision::remove_finalizer(room, tenant).await?;
            tracing::info!(tenant = name, "the tenant's room is taken down");
            room.forget(name);
            Ok(Action::await_change())
        }
    }
}

/// Begins the next step of the order. `None`: everything is done.
async fn waits_for(room: &Room, name: &str) -> Result<Option<&'static str>, Error> {
    let namespace = match provision::ground(room, name).await? {
        // Not ours: nothing in it is.
        Ground::Taken => return Ok(None),
        Ground::Bare => return Ok(has_addresses(room, name).await?.then_some("its addresses")),
        Ground::Ending => return Ok(Some("its namespace")),
        Ground::Ours(namespace) => namespace,
    };
    let [account, role, binding, ..] = KINDS;
    if room.world.part(binding, name).is_some() {
        // An agent that still runs would make its intents anew.
        provision::ensure(room, role, name, Rights::Reading).await?;
    }
    let client = &room.client;
    let left = [
        clear::<TCPLoadBalancer>(client, name).await?,
        clear::<HTTPLoadBalancer>(client, name).await?,
        clear::<NodeSet>(client, name).await?,
    ];
    if left.contains(&true) {
        return Ok(Some("its load balancers and node sets"));
    }
    if has_addresses(room, name).await? {
        return Ok(Some("its addresses"));
    }
    for kind in [binding, account] {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &names::tenant_namespace(name), &kind.resource());
        gone("delete the agent's account of", name, api.delete(names::AGENT, &DeleteParams::default()).await)?;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let exactly = Preconditions { uid: namespace.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
    gone("delete the namespace of", name, namespaces.delete(&names::tenant_namespace(name), &params).await)?;
    Ok(Some("its namespace"))
}

/// Deletes every object of a kind in the tenant's namespace. Whether there was one.
async fn clear<K>(client: &Client, name: &str) -> Result<bool, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &names::tenant_namespace(name));
    let listed = call("list the intents of", name, api.list_metadata(&ListParams::default().limit(1))).await?;
    if listed.items.is_empty() {
        return Ok(false);
    }
    let all = ListParams::default();
    call("delete the intents of", name, api.delete_collection(&DeleteParams::default(), &all)).await?;
    Ok(true)
}

/// Whether an address is the tenant's, by what is recorded and not by what is cached.
async fn has_addresses(room: &Room, name: &str) -> Result<bool, Error> {
    let namespace = names::tenant_namespace(name);
    let allocations: Api<IPAllocation> = Api::all(room.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = call("list the addresses of", name, allocations.list(&params)).await?;
        if page.items.iter().any(|given| given.spec.owners.iter().any(|owner| owner.namespace == namespace)) {
            return Ok(true);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(false),
        }
    }
}

/// A deletion that finds nothing is as good as one that found it.
fn gone<T>(act: &'static str, what: &str, answer: kube::Result<T>) -> Result<(), Error> {
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(Error::Call { act, what: what.to_owned(), source }),
    }
}
