//! What the watches show of the tenants' rooms. Knows which kinds are watched and how they belong to a tenant.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::ObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt, controller::Controller};
use kube::{Api, Resource, ResourceExt};
use nave_api::names::{AGENT, MANAGER, TENANT_LABEL, tenant_namespace, tenant_of};
use nave_api::{Tenant, TenantSpec};
use nave_watch::{Decoded, Unreadable};
use serde::de::DeserializeOwned;

use super::looks::Looks;
use crate::watch::Watches;

/// The latest of everything that the tenants' rooms are made of.
pub(super) struct View {
    pub(super) namespaces: Store<Namespace>,
    pub(super) accounts: Store<ServiceAccount>,
    pub(super) roles: Store<Role>,
    pub(super) bindings: Store<RoleBinding>,
    pub(super) managers: Store<RoleBinding>,
    pub(super) quotas: Store<ResourceQuota>,
    pub(super) looks: Looks,
    pub(super) leases: Store<Lease>,
}

/// One tenant's part of the view.
pub(super) struct Room {
    pub(super) namespace: Option<Arc<Namespace>>,
    pub(super) account: Option<Arc<ServiceAccount>>,
    pub(super) role: Option<Arc<Role>>,
    pub(super) binding: Option<Arc<RoleBinding>>,
    /// The binding of the manager's own rights.
    pub(super) managers: Option<Arc<RoleBinding>>,
    pub(super) quota: Option<Arc<ResourceQuota>>,
    /// The credential's Secret as it was looked at last.
    pub(super) secret: Option<ObjectMeta>,
    pub(super) lease: Option<Arc<Lease>>,
}

impl View {
    /// Watches everything; a change touches the tenant that it belongs to.
    pub(super) fn open(watches: &Watches) -> (Self, Controller<Tenant>) {
        let (tenants, stream) = follow::<Tenant>(watches, Config::default(), ending);
        let controller = Controller::for_stream(stream, tenants);
        let labelled = || Config::default().labels(TENANT_LABEL);
        let called = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
        let named = || called(AGENT);
        let (namespaces, stream) = follow(watches, labelled(), |unreadable| Some(named_only(unreadable)));
        let controller = controller.watches_stream(stream, |namespace: Namespace| tenant(&namespace.name_any()));
        let (accounts, controller) = watch(watches, named(), controller);
        let (roles, controller) = watch(watches, named(), controller);
        let (bindings, controller) = watch(watches, named(), controller);
        let (quotas, controller) = watch(watches, named(), controller);
        let (managers, controller) = watch(watches, called(MANAGER), controller);
        let (leases, controller) = watch(watches, named(), controller);
        let looks = Looks::default();
        let changes = looks.changes(watches.client().clone());
        let controller = controller.watches_stream(changes, |namespace: Namespace| tenant(&namespace.name_any()));
        (Self { namespaces, accounts, roles, bindings, managers, quotas, looks, leases }, controller)
    }

    /// Waits until every kind was listed once. An error means that the watches have ended, and we with them.
    pub(super) async fn ready(&self) -> bool {
        let Self { namespaces, accounts, roles, bindings, managers, quotas, looks: _, leases } = self;
        namespaces.wait_until_ready().await.is_ok()
            && accounts.wait_until_ready().await.is_ok()
            && roles.wait_until_ready().await.is_ok()
            && bindings.wait_until_ready().await.is_ok()
            && quotas.wait_until_ready().await.is_ok()
            && managers.wait_until_ready().await.is_ok()
            && leases.wait_until_ready().await.is_ok()
    }

    /// What is there of a tenant.
    pub(super) fn room(&self, tenant: &str) -> Room {
        let Self { namespaces, accounts, roles, bindings, managers, quotas, looks, leases } = self;
        let home = tenant_namespace(tenant);
        Room {
            namespace: namespaces.get(&ObjectRef::new(&home)),
            account: accounts.get(&agent(&home)),
            role: roles.get(&agent(&home)),
            binding: bindings.get(&agent(&home)),
            quota: quotas.get(&agent(&home)),
            secret: looks.secret(tenant),
            managers: managers.get(&ObjectRef::new(MANAGER).within(&home)),
            lease: leases.get(&agent(&home)),
        }
    }
}

fn agent<K: Resource<DynamicType = ()>>(namespace: &str) -> ObjectRef<K> {
    ObjectRef::new(AGENT).within(namespace)
}

/// The tenant that a namespace belongs to by its name; whether that tenant exists, the controller finds out.
fn tenant(namespace: &str) -> Option<ObjectRef<Tenant>> {
    tenant_of(namespace).map(ObjectRef::new)
}

fn watch<K>(watches: &Watches, config: Config, controller: Controller<Tenant>) -> (Store<K>, Controller<Tenant>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, stream) = follow(watches, config, |_| None);
    (reader, controller.watches_stream(stream, |object: K| tenant(&object.namespace().unwrap_or_default())))
}

/// A Tenant that cannot be read is seen to only when it is to end: that takes no more than its metadata.
fn ending(unreadable: ObjectMeta) -> Option<Tenant> {
    unreadable.deletion_timestamp.as_ref()?;
    Some(Tenant { metadata: unreadable, spec: TenantSpec::default(), status: None })
}

/// Of a namespace nothing counts but its metadata.
fn named_only(unreadable: ObjectMeta) -> Namespace {
    Namespace { metadata: unreadable, ..Namespace::default() }
}

/// A store of a kind, and the stream that fills it and names what was touched. An object that cannot be read is what `instead`
/// makes of its metadata, else what it was last.
fn follow<K>(
    watches: &Watches,
    config: Config,
    instead: fn(ObjectMeta) -> Option<K>,
) -> (Store<K>, impl Stream<Item = watcher::Result<K>> + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = store();
    let events = watches.interrupted(Api::<Decoded<K>>::all(watches.client().clone()), config);
    let stream = readable(events, reader.clone(), instead).reflect(writer);
    let stream = touched(stream, reader.clone());
    (reader, stream.boxed())
}

/// The events with objects that can be read, or could be when they were seen last.
fn readable<K>(
    events: impl Stream<Item = watcher::Result<Event<Decoded<K>>>> + Send,
    known: Store<K>,
    instead: fn(ObjectMeta) -> Option<K>,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let last = move |metadata: ObjectMeta| {
        let at = ObjectRef::new(metadata.name.as_deref().unwrap_or_default());
        let at = metadata.namespace.iter().fold(at, |at, namespace| at.within(namespace));
        instead(metadata).or_else(|| known.get(&at).map(|known| known.as_ref().clone()))
    };
    let read = move |object: Decoded<K>| match object {
        Decoded::Object(object) => Some(object),
        Decoded::Unreadable(Unreadable { metadata, why: _, spec: _ }) => last(metadata),
    };
    events.filter_map(move |event| {
        let event = match event {
            Ok(Event::Init) => Some(Ok(Event::Init)),
            Ok(Event::InitApply(object)) => read(object).map(|object| Ok(Event::InitApply(object))),
            Ok(Event::InitDone) => Some(Ok(Event::InitDone)),
            Ok(Event::Apply(object)) => read(object).map(|object| Ok(Event::Apply(object))),
            Ok(Event::Delete(object)) => read(object).map(|object| Ok(Event::Delete(object))),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(event)
    })
}

/// What changed: one object, or with a whole list all that was known before it and all that is known now. What has gone while
/// a watch was down is told by nothing else, and nobody is told of anything that the store does not show yet.
fn touched<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    store: Store<K>,
) -> impl Stream<Item = watcher::Result<K>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let mut before = Vec::new();
    events.flat_map(move |event| {
        let objects = match event {
            Ok(Event::Init) => {
                before = store.state();
                Vec::new()
            }
            Ok(Event::InitApply(_)) => Vec::new(),
            Ok(Event::InitDone) => {
                let gone = std::mem::take(&mut before).into_iter();
                let gone = gone.filter(|object| store.get(&ObjectRef::from_obj(object.as_ref())).is_none());
                store.state().into_iter().chain(gone).map(|object| Ok(object.as_ref().clone())).collect()
            }
            Ok(Event::Apply(object) | Event::Delete(object)) => vec![Ok(object)],
            Err(error) => vec![Err(error)],
        };
        stream::iter(objects)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(namespace: &str) -> ServiceAccount {
        let mut account = ServiceAccount::default();
        (account.metadata.name, account.metadata.namespace) = (Some(AGENT.into()), Some(namespace.into()));
        account
    }

    /// What each event touches, by what the store shows at that time.
    async fn told(events: Vec<Event<ServiceAccount>>) -> Vec<(String, bool)> {
        let (reader, writer) = store();
        let events = stream::iter(events.into_iter().map(Ok)).reflect(writer);
        touched(events, reader.clone())
            .map(|object| {
                let object = object.unwrap();
                (object.namespace().unwrap(), reader.get(&ObjectRef::from_obj(&object)).is_some())
            })
            .collect()
            .await
    }

    #[tokio::test]
    async fn what_a_list_lacks_that_was_known_before_is_touched_like_what_it_has() {
        let list = |names: &[&str]| {
            let objects = names.iter().map(|name| Event::InitApply(account(name)));
            std::iter::once(Event::Init).chain(objects).chain([Event::InitDone]).collect::<Vec<_>>()
        };
        let first = list(&["a", "b"]);
        let broken_off = vec![Event::Delete(account("a")), Event::Init, Event::InitApply(account("c"))];
        let second = list(&["c"]);
        let mut told = told([first, broken_off, second].concat()).await;
        told[..2].sort();
        let expected = [("a", true), ("b", true), ("a", false), ("c", true), ("b", false)];
        assert_eq!(told, expected.map(|(name, there)| (name.to_owned(), there)));
    }
}
