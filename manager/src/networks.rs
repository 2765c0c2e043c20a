//! The hub's own nodes and networks. Fleets choose among the nodes; no backend may lie in the networks: those of the Nodes, and of
//! the Services where the API tells. Knows where they are written down; judges no backend and chooses no node.

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
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Api, Resource};
use nave_manager_core::{HubNode, Key, Seen};
use nave_watch::{Decoded, Metadata};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::conductor::Inbox;
use crate::watch::{Watches, waits};

/// How often to look whether the hub's API tells of the networks of Services by now: somebody may have upgraded it.
const SELDOM: Duration = Duration::from_mins(10);

/// What a Node says of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OfNode {
    node: HubNode,
    networks: Vec<IpNet>,
}

/// Tells the inbox of the nodes and of the networks whenever they change, for ever; of the networks not before those of Nodes
/// and of Services are both known.
pub(crate) fn watch(watches: &Watches, inbox: Inbox) {
    let (nodes, mut of_nodes) = watch::channel(None);
    let (services, mut of_services) = watch::channel(None);
    tokio::spawn(collect::<Node, OfNode>(watches.clone(), nodes, |node| vec![of_node(node)], of_unreadable_node));
    tokio::spawn(of_all_services(watches.clone(), services, waits(), SELDOM));
    tokio::spawn(async move {
        let (mut told, mut told_networks) = (None, None);
        loop {
            let nodes = of_nodes.borrow_and_update().clone();
            let named: Option<Vec<HubNode>> =
                nodes.as_ref().map(|nodes| nodes.iter().map(|of| of.node.clone()).collect());
            if let Some(named) = named.filter(|named| told.as_ref() != Some(named)) {
                told = Some(named.clone());
                inbox.seen(Seen::HubNodes(named));
            }
            if let Some((nodes, services)) = nodes.zip(of_services.borrow_and_update().clone()) {
                let mut all: Vec<IpNet> = nodes.into_iter().flat_map(|of| of.networks).chain(services).collect();
                all.sort_unstable();
                all.dedup();
                if told_networks.as_ref() != Some(&all) {
                    told_networks = Some(all.clone());
                    inbox.seen(Seen::HubNetworks(all));
                }
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
    collect(watches, into, service_networks, |_, last| last.unwrap_or_default()).await;
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

/// Keeps what all objects of a kind say; tells only when that changes. Of an object that cannot be read counts what is made of its
/// metadata and of what it said last.
async fn collect<K, T>(
    watches: Watches,
    into: watch::Sender<Option<Vec<T>>>,
    read: fn(&K) -> Vec<T>,
    unreadable: fn(&ObjectMeta, Option<Vec<T>>) -> Vec<T>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let mut events = watches.all::<K>();
    // What was said before a list that is coming in.
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
            Event::InitApply(Decoded::Unreadable(object)) | Event::Apply(Decoded::Unreadable(object)) => {
                let key = Key::of_metadata(&object.metadata);
                let last = known.remove(&key).or_else(|| before.remove(&key));
                known.insert(key, unreadable(&object.metadata, last));
            }
            Event::Delete(object) => {
                known.remove(&Key::of(&object));
            }
            Event::InitDone => {
                before.clear();
                listed = true;
            }
        }
        if listed {
            let all: Vec<T> = known.values().flatten().cloned().collect();
            into.send_if_modified(|before| {
                let changed = before.as_ref() != Some(&all);
                *before = Some(all);
                changed
            });
        }
    }
}

fn of_node(node: &Node) -> OfNode {
    let pods = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten());
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses = addresses.filter_map(|entry| entry.address.parse::<IpAddr>().ok().map(IpNet::from));
    OfNode {
        node: hub_node(&node.metadata),
        networks: pods.filter_map(|network| network.parse().ok()).chain(addresses).collect(),
    }
}

/// A Node that cannot be read has the labels that its metadata say, and the networks that it had last.
fn of_unreadable_node(metadata: &ObjectMeta, last: Option<Vec<OfNode>>) -> Vec<OfNode> {
    let networks = last.into_iter().flatten().flat_map(|last| last.networks).collect();
    vec![OfNode { node: hub_node(metadata), networks }]
}

fn hub_node(metadata: &ObjectMeta) -> HubNode {
    let name = metadata.name.as_deref().unwrap_or_default().into();
    HubNode { name, labels: metadata.labels.clone().unwrap_or_default() }
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
    async fn nothing_is_said_of_services_before_the_api_has_answered() {
        assert_eq!(told(&[], 1).await, [None, Some(network())]);
        assert_eq!(told(&[500, 503], 1).await, [None, Some(network())]);
    }

    #[tokio::test]
    async fn an_api_without_the_kind_has_no_networks_of_services_until_it_has() {
        assert_eq!(told(&[500, 404, 404], 2).await, [None, Some(Vec::new()), Some(network())]);
    }

    #[test]
    fn a_node_that_cannot_be_read_has_the_labels_of_now_and_the_networks_of_before() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "edge-1", "labels": {"nave.dev/fleet": "default"}},
            "spec": {"podCIDRs": ["10.1.0.0/24"]},
        }))
        .unwrap();
        let of = of_node(&node);
        let metadata = ObjectMeta { labels: None, ..node.metadata };
        let unreadable = of_unreadable_node(&metadata, Some(vec![of.clone()]));
        let networks = of.networks;
        assert_eq!(unreadable, [OfNode { node: HubNode { labels: BTreeMap::new(), ..of.node }, networks }]);
        let expected = OfNode { node: hub_node(&metadata), networks: Vec::new() };
        assert_eq!(of_unreadable_node(&metadata, None), [expected]);
    }
}
