//! Watches of both sides, as changes for the agent. Knows how to begin anew; knows no object's meaning.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use nave_agent_core::{Change, Cluster, Tenancy};
use nave_api::{NodeSet, TCPLoadBalancer};
use nave_watch::{Decoded, Unreadable, Unreadables, anew};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connect::WATCH_SECONDS;
use crate::error::line;
use crate::hub::{Hub, Session};
use crate::metrics::{Metrics, WatchLabels};

/// `kubectl apply` keeps the whole object a second time in here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What the agent sees.
#[derive(Debug)]
pub enum Sight {
    /// A Service of the spoke.
    Service(Box<Change<Service>>),
    /// A node of the spoke.
    Node(Box<Change<Node>>),
    /// An `EndpointSlice` of the spoke.
    Slice(Box<Change<EndpointSlice>>),
    /// A load balancer of ours in the hub.
    Intent(Box<Change<TCPLoadBalancer>>),
    /// A `NodeSet` of ours in the hub.
    NodeSet(Box<Change<NodeSet>>),
    /// What a name means now.
    Resolved(String, BTreeSet<IpAddr>),
    /// Whether the hub knows us.
    Tenancy(Tenancy),
    /// Which cluster we are, and to which the tenant's namespace belongs.
    Cluster(Cluster),
    /// From now on it is another hub, or another tenant of it.
    OtherHub,
}

/// Watches the spoke until told to stop.
pub fn spoke(
    tracker: &TaskTracker,
    stop: &CancellationToken,
    client: &Client,
    out: &mpsc::Sender<Sight>,
    metrics: &Metrics,
) {
    let until = |stop: &CancellationToken| stop.clone();
    let services = follow::<Service>(Api::all(client.clone()), |c| Sight::Service(Box::new(c)), out.clone());
    let nodes = follow::<Node>(Api::all(client.clone()), |c| Sight::Node(Box::new(c)), out.clone());
    let slices = follow::<EndpointSlice>(Api::all(client.clone()), |c| Sight::Slice(Box::new(c)), out.clone());
    let (count, all) = (|kind| counted(metrics, kind), || metrics.unreadables.clone());
    tracker.spawn(until(stop).run_until_cancelled_owned(services.run(count("Service"), all())));
    tracker.spawn(until(stop).run_until_cancelled_owned(nodes.run(count("Node"), all())));
    tracker.spawn(until(stop).run_until_cancelled_owned(slices.run(count("EndpointSlice"), all())));
}

/// Watches the hub, by one session after the other.
pub async fn hub(
    mut sessions: watch::Receiver<Option<Arc<Session>>>,
    out: mpsc::Sender<Sight>,
    hub: Hub,
    metrics: Metrics,
) {
    let mut place: Option<String> = None;
    loop {
        let session = sessions.borrow_and_update().clone();
        let mut running = JoinSet::new();
        if let Some(session) = session {
            if place.as_ref().is_some_and(|place| *place != session.place()) && out.send(Sight::OtherHub).await.is_err()
            {
                return;
            }
            place = Some(session.place());
            let intents = follow(session.api(), |c| Sight::Intent(Box::new(c)), out.clone());
            let node_sets = follow(session.api(), |c| Sight::NodeSet(Box::new(c)), out.clone());
            let all = || metrics.unreadables.clone();
            running.spawn(intents.run(judged(&hub, counted(&metrics, "TCPLoadBalancer")), all()));
            running.spawn(node_sets.run(judged(&hub, counted(&metrics, "NodeSet")), all()));
        }
        if sessions.changed().await.is_err() {
            return;
        }
        // Nothing of the old session arrives behind what the new one brings.
        running.shutdown().await;
    }
}

fn counted(metrics: &Metrics, kind: &'static str) -> impl Fn(Result<(), &watcher::Error>) + Send + 'static {
    let failures = metrics.watch_failures.get_or_create(&WatchLabels { kind }).clone();
    move |outcome| {
        if let Err(error) = outcome {
            failures.inc();
            tracing::warn!(kind, error = line(error), "a watch is begun anew");
        }
    }
}

/// What the hub answers to a watch tells, too, whether it knows us.
fn judged(
    hub: &Hub,
    then: impl Fn(Result<(), &watcher::Error>) + Send + 'static,
) -> impl Fn(Result<(), &watcher::Error>) + Send + 'static {
    let hub = hub.clone();
    move |outcome| {
        match outcome {
            Ok(()) => hub.heard_ok(),
            Err(
                watcher::Error::InitialListFailed(e)
                | watcher::Error::WatchStartFailed(e)
                | watcher::Error::WatchFailed(e),
            ) => {
                hub.heard(e);
            }
            Err(watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion) => {}
        }
        then(outcome);
    }
}

struct Follow<K> {
    api: Api<Decoded<K>>,
    wrap: fn(Change<K>) -> Sight,
    out: mpsc::Sender<Sight>,
}

fn follow<K>(api: Api<Decoded<K>>, wrap: fn(Change<K>) -> Sight, out: mpsc::Sender<Sight>) -> Follow<K> {
    Follow { api, wrap, out }
}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static> Follow<K> {
    /// Sends changes until nobody listens. Lists come in pages: servers of any version do that.
    async fn run(self, report: impl Fn(Result<(), &watcher::Error>), unreadables: Unreadables) {
        let Self { api, wrap, out } = self;
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .with_jitter();
        let mut stream = std::pin::pin!(anew(api, config, waits).modify(strip));
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(event) = stream.next().await {
            report(event.as_ref().map(|_| ()));
            let Ok(event) = event else { continue };
            unreadables.note(&event);
            let change = match event {
                Event::Apply(object) => seen(object, Change::Seen),
                Event::Delete(object) => Change::Gone(object.meta().clone()),
                Event::Init => {
                    (objects, unreadable) = (Vec::new(), Vec::new());
                    continue;
                }
                Event::InitApply(Decoded::Object(object)) => {
                    objects.push(object);
                    continue;
                }
                Event::InitApply(Decoded::Unreadable(object)) => {
                    unreadable.push(unread(object));
                    continue;
                }
                Event::InitDone => Change::Listed {
                    objects: std::mem::take(&mut objects),
                    unreadable: std::mem::take(&mut unreadable),
                },
            };
            if out.send(wrap(change)).await.is_err() {
                return;
            }
        }
    }
}

/// What a watch or an answer brought.
pub fn seen<K>(object: Decoded<K>, wrap: fn(K) -> Change<K>) -> Change<K> {
    object.read().map_or_else(|object| Change::Unreadable(unread(object)), wrap)
}

fn unread(Unreadable { metadata, why, spec: _ }: Unreadable) -> nave_agent_core::Unreadable {
    nave_agent_core::Unreadable { metadata, why }
}

/// Most of an object's memory is what nobody decides with.
pub fn strip<K: Resource>(object: &mut K) {
    object.annotations_mut().remove(LAST_APPLIED);
}
