//! What the leader watches: the Tenants and what was made for them. Knows caches; decides nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::ready;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::DynamicObject;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use nave_api::{Tenant, names};
use serde::de::DeserializeOwned;

use super::desired::KINDS;
use super::error::Error;

/// The caches.
pub(super) struct World {
    pub(super) tenants: Store<Tenant>,
    namespaces: Store<Namespace>,
    secrets: Store<Secret>,
    parts: BTreeMap<&'static str, Store<DynamicObject>>,
}

/// What fills the caches when it is polled.
pub(super) struct Streams {
    pub(super) tenants: Writer<Tenant>,
    /// The names of the tenants of whose rooms something changed.
    pub(super) traces: Vec<BoxStream<'static, String>>,
}

/// The caches and what fills them.
pub(super) fn watch(client: &Client) -> (World, Streams) {
    let writer = Writer::<Tenant>::default();
    let labelled = watcher::Config::default().labels(names::TENANT_LABEL);
    let ours = labelled.clone().fields(&format!("metadata.name={}", names::AGENT));
    let (namespaces, spaces) = trace(Api::all(client.clone()), labelled, Writer::default());
    let (secrets, credentials) = trace(Api::all(client.clone()), ours.clone(), Writer::default());
    let mut traces = vec![spaces, credentials];
    let mut parts = BTreeMap::new();
    for kind in KINDS {
        let api = Api::all_with(client.clone(), &kind.resource());
        let (store, stream) = trace(api, ours.clone(), Writer::new(kind.resource()));
        parts.insert(kind.name, store);
        traces.push(stream);
    }
    (World { tenants: writer.as_reader(), namespaces, secrets, parts }, Streams { tenants: writer, traces })
}

/// A cache of what `api` has, and a stream of the tenants whose objects changed.
fn trace<K>(api: Api<K>, config: watcher::Config, writer: Writer<K>) -> (Store<K>, BoxStream<'static, String>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Clone + Eq + Hash + Send + Sync,
{
    let store = writer.as_reader();
    let stream = watcher(api, config).default_backoff().modify(strip).reflect(writer).touched_objects();
    let tenants = stream.filter_map(|touched| {
        ready(match touched {
            Ok(object) => tenant_of(&object),
            Err(error) => {
                tracing::warn!(%error, "a watch on the tenants' rooms failed and begins anew");
                None
            }
        })
    });
    (store, tenants.boxed())
}

/// Which tenant's room an object belongs to, by where it is.
fn tenant_of<K: Resource>(object: &K) -> Option<String> {
    let namespace = object.meta().namespace.as_ref().or(object.meta().name.as_ref())?;
    names::tenant_of(namespace).map(str::to_owned)
}

/// Forgets what we never read and what is the largest part of small objects.
pub(super) fn strip<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

impl World {
    /// Waits until every cache was filled once.
    pub(super) async fn synced(&self) -> Result<(), Error> {
        let Self { tenants, namespaces, secrets, parts } = self;
        tenants.wait_until_ready().await.map_err(Error::Watch)?;
        namespaces.wait_until_ready().await.map_err(Error::Watch)?;
        secrets.wait_until_ready().await.map_err(Error::Watch)?;
        for part in parts.values() {
            part.wait_until_ready().await.map_err(Error::Watch)?;
        }
        Ok(())
    }

    /// The tenant's namespace, if it is there and labelled as ours.
    pub(super) fn namespace(&self, tenant: &str) -> Option<Arc<Namespace>> {
        self.namespaces.get(&ObjectRef::new(&names::tenant_namespace(tenant)))
    }

    /// The Secret with the agent's kubeconfig.
    pub(super) fn secret(&self, tenant: &str) -> Option<Arc<Secret>> {
        self.secrets.get(&ObjectRef::new(names::AGENT).within(&names::tenant_namespace(tenant)))
    }

    /// One of the objects of [`KINDS`].
    pub(super) fn part(&self, kind: super::desired::Kind, tenant: &str) -> Option<Arc<DynamicObject>> {
        let at = ObjectRef::new_with(names::AGENT, kind.resource()).within(&names::tenant_namespace(tenant));
        self.parts.get(kind.name)?.get(&at)
    }
}

/// Whether the tenant's label is on an object.
pub(super) fn is_labelled<K: Resource>(object: &K, tenant: &str) -> bool {
    object.labels().get(names::TENANT_LABEL).is_some_and(|label| label == tenant)
}
