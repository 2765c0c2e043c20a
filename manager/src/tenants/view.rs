//! What the watches show of the tenants' rooms. Knows which kinds are watched and how they belong to a tenant.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::Config;
use kube::runtime::{WatchStreamExt, controller::Controller};
use kube::{Api, Client, Resource, ResourceExt};
use nave_api::Tenant;
use nave_api::names::{AGENT, TENANT_LABEL, tenant_namespace, tenant_of};
use serde::de::DeserializeOwned;

use crate::anew::anew;
use crate::watch::waits;

/// The latest of everything that the tenants' rooms are made of.
pub(super) struct View {
    pub(super) namespaces: Store<Namespace>,
    pub(super) accounts: Store<ServiceAccount>,
    pub(super) roles: Store<Role>,
    pub(super) bindings: Store<RoleBinding>,
    pub(super) quotas: Store<ResourceQuota>,
    pub(super) secrets: Store<PartialObjectMeta<Secret>>,
    pub(super) leases: Store<Lease>,
}

/// One tenant's part of the view.
pub(super) struct Room {
    pub(super) namespace: Option<Arc<Namespace>>,
    pub(super) account: Option<Arc<ServiceAccount>>,
    pub(super) role: Option<Arc<Role>>,
    pub(super) binding: Option<Arc<RoleBinding>>,
    pub(super) quota: Option<Arc<ResourceQuota>>,
    pub(super) secret: Option<Arc<PartialObjectMeta<Secret>>>,
    pub(super) lease: Option<Arc<Lease>>,
}

impl View {
    /// Watches everything; a change touches the tenant that it belongs to.
    pub(super) fn open(client: &Client) -> (Self, Controller<Tenant>) {
        let (tenants, stream) = follow::<Tenant>(client, Config::default());
        let controller = Controller::for_stream(stream, tenants);
        let labelled = || Config::default().labels(TENANT_LABEL);
        let named = || Config::default().fields(&format!("metadata.name={AGENT}"));
        let (namespaces, stream) = follow(client, labelled());
        let controller = controller.watches_stream(stream, |namespace: Namespace| tenant(&namespace.name_any()));
        let (accounts, controller) = watch(client, named(), controller);
        let (roles, controller) = watch(client, named(), controller);
        let (bindings, controller) = watch(client, named(), controller);
        let (quotas, controller) = watch(client, named(), controller);
        let (secrets, controller) = watch(client, named(), controller);
        let (leases, controller) = watch(client, named(), controller);
        (Self { namespaces, accounts, roles, bindings, quotas, secrets, leases }, controller)
    }

    /// Waits until every kind was listed once. An error means that the watches have ended, and we with them.
    pub(super) async fn ready(&self) -> bool {
        let Self { namespaces, accounts, roles, bindings, quotas, secrets, leases } = self;
        namespaces.wait_until_ready().await.is_ok()
            && accounts.wait_until_ready().await.is_ok()
            && roles.wait_until_ready().await.is_ok()
            && bindings.wait_until_ready().await.is_ok()
            && quotas.wait_until_ready().await.is_ok()
            && secrets.wait_until_ready().await.is_ok()
            && leases.wait_until_ready().await.is_ok()
    }

    /// What is there of a tenant.
    pub(super) fn room(&self, tenant: &str) -> Room {
        let Self { namespaces, accounts, roles, bindings, quotas, secrets, leases } = self;
        let home = tenant_namespace(tenant);
        Room {
            namespace: namespaces.get(&ObjectRef::new(&home)),
            account: accounts.get(&agent(&home)),
            role: roles.get(&agent(&home)),
            binding: bindings.get(&agent(&home)),
            quota: quotas.get(&agent(&home)),
            secret: secrets.get(&agent(&home)),
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

fn watch<K>(client: &Client, config: Config, controller: Controller<Tenant>) -> (Store<K>, Controller<Tenant>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, stream) = follow(client, config);
    (reader, controller.watches_stream(stream, |object: K| tenant(&object.namespace().unwrap_or_default())))
}

/// A store of a kind, and the stream that fills it and names what was touched.
fn follow<K>(
    client: &Client,
    config: Config,
) -> (Store<K>, impl Stream<Item = Result<K, kube::runtime::watcher::Error>> + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = store();
    // A connection that was dropped silently is noticed within a minute.
    let stream = anew(Api::<K>::all(client.clone()), config.timeout(60), waits())
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .touched_objects();
    (reader, stream.boxed())
}
