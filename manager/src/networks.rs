//! The hub's own networks, where no backend may lie: those of its Nodes, and of its Services where the API tells. Knows where
//! they are written down; judges no backend.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ListParams;
use kube::runtime::watcher::Event;
use kube::{Api, Resource};
use nave_manager_core::{Key, Seen};
use nave_watch::{Decoded, Metadata};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::conductor::Inbox;
use crate::watch::{Watches, waits};

/// How often to look whether the hub's API tells of the networks of Services by now: somebody may have upgraded it.
const SELDOM: Duration = Duration::from_mins(10);

/// Tells the inbox of the networks whenever they change, for ever; not before those of Nodes and of Services are both known.
pub(crate) fn watch(watches: &Watches, inbox: Inbox) {
    let (nodes, mut of_nodes) = watch::channel(None);
    let (services, mut of_services) = watch::channel(None);
    tokio::spawn(collect::<Node>(watches.clone(), nodes, node_networks));
    tokio::spawn(of_all_services(watches.clone(), services, waits(), SELDOM));
    tokio::spawn(async move {
        loop {
            let both = of_nodes.borrow_and_update().clone().zip(of_services.borrow_and_update().clone());
            if let Some((mut all, services)) = both {
                all.extend(services);
                all.sort_unstable();
                all.dedup();
                inbox.seen(Seen::HubNetworks(all));
            }
            let changed = tokio::select! {
                changed = of_nodes.changed() => changed,
                changed = of_services.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    });
}

/// Keeps the networks of Services. Where the API has no such kind (Kubernetes before 1.33), there are none until it has.
async fn of_all_services(
    watches: Watches,
    into: watch::Sender<Option<Vec<IpNet>>>,
    waits: ExponentialBuilder,
    seldom: Duration,
) {
    let kinds: Api<Metadata<ServiceCIDR>> = Api::all(watches.client().clone());
    let mut warned = false;
    while !is_served(&kinds, waits).await {
        if !warned {
            warned = true;
            tracing::warn!(
                "the hub's API has no ServiceCIDRs (Kubernetes before 1.33): name the networks of its Services in the chart's \
                 hubNetworks, or tenants reach them"
            );
        }
        into.send_if_modified(|before| before.replace(Vec::new()) != Some(Vec::new()));
        tokio::time::sleep(seldom).await;
    }
    collect(watches, into, service_networks).await;
}

/// Whether the API has this kind; asks until it is one or the other.
async fn is_served<K>(kinds: &Api<K>, waits: ExponentialBuilder) -> bool
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let one = ListParams::default().limit(1);
    let is_absent = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 404);
    let asked = (|| kinds.list(&one)).retry(waits).when(|error| !is_absent(error)).notify(|error, _| {
        tracing::warn!(error = error as &dyn std::error::Error, "asking for the networks of the hub's Services");
    });
    asked.await.is_ok()
}

/// Keeps the networks of all objects of a kind; tells only when they change.
async fn collect<K>(watches: Watches, into: watch::Sender<Option<Vec<IpNet>>>, read: fn(&K) -> Vec<IpNet>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = watches.all::<K>();
    // Those of an object that cannot be read are what they were last.
    let (mut known, mut before) = (BTreeMap::new(), BTreeMap::new());
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Event::Init => {
                before.append(&mut known);
                listed = false;
            }
            Event::InitApply(Decoded::Object(object)) | Event::Apply(Decoded::Object(object)) => {
                known.insert(Key::of(&object), read(&object));
            }
            Event::InitApply(Decoded::Unreadable(object)) => {
                known.extend(before.remove_entry(&Key::of_metadata(&object.metadata)));
            }
            Event::Apply(Decoded::Unreadable(_)) => {}
            Event::Delete(object) => {
                known.remove(&Key::of(&object));
            }
            Event::InitDone => {
                before.clear();
                listed = true;
            }
        }
        if listed {
            let all: Vec<IpNet> = known.values().flatten().copied().collect();
            into.send_if_modified(|before| {
                let changed = before.as_ref() != Some(&all);
                *before = Some(all);
                changed
            });
        }
    }
}

fn node_networks(node: &Node) -> Vec<IpNet> {
    let pods = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten());
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses = addresses.filter_map(|entry| entry.address.parse::<IpAddr>().ok().map(IpNet::from));
    pods.filter_map(|network| network.parse().ok()).chain(addresses).collect()
}

fn service_networks(service: &ServiceCIDR) -> Vec<IpNet> {
    let networks = service.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    networks.filter_map(|network| network.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use nave_watch::stub;

    /// What is told of the networks of Services, change by change, by a hub that gives these answers and then the network.
    async fn told(answers: &'static [u16], changes: usize) -> Vec<Option<Vec<IpNet>>> {
        let asked = AtomicUsize::new(0);
        let service = json!([{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}}]);
        let client = stub::client(move |_| match answers.get(asked.fetch_add(1, Ordering::SeqCst)) {
            Some(code) => stub::refusal(*code),
            None => stub::list("ServiceCIDR", &service),
        });
        let (into, mut networks) = watch::channel(None);
        let (first, seldom) = (Duration::from_millis(1), Duration::from_millis(50));
        let waits = ExponentialBuilder::default().with_min_delay(first).with_max_delay(first).without_max_times();
        let watches = Watches::new(client, nave_watch::Unreadables::default());
        let watch = tokio::spawn(of_all_services(watches, into, waits, seldom));
        let mut told = vec![networks.borrow_and_update().clone()];
        for _ in 0..changes {
            networks.changed().await.unwrap();
            told.push(networks.borrow_and_update().clone());
        }
        watch.abort();
        told
    }

    fn network() -> Vec<IpNet> {
        vec!["10.96.0.0/12".parse().unwrap()]
    }

    #[tokio::test]
    async fn nothing_is_said_of_services_before_the_api_has_told() {
        assert_eq!(told(&[], 1).await, [None, Some(network())]);
        assert_eq!(told(&[500, 503], 1).await, [None, Some(network())]);
    }

    #[tokio::test]
    async fn an_api_without_the_kind_has_no_networks_of_services_until_it_has() {
        assert_eq!(told(&[500, 404, 404], 2).await, [None, Some(Vec::new()), Some(network())]);
    }
}
