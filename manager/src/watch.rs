//! The watches of the hub: one per kind, each for ever. Knows the API; hands on what it sees.

use std::fmt::Debug;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use nave_api::{Fleet, IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use nave_manager_core::{Key, Seen, Sight};
use nave_watch::anew;
use serde::de::DeserializeOwned;

use crate::conductor::{Inbox, Input};
use crate::networks;
use crate::pools::Pools;
use crate::provider::Providers;
use crate::revocations::Revocations;
use crate::traffic::Traffic;

/// Starts all watches; they end with the process.
pub(crate) fn start(
    client: &Client,
    providers: &Providers,
    inbox: &Inbox,
    traffic: &Traffic,
    pools: &Pools,
    mut revocations: Revocations,
) {
    follow::<Tenant>(client, inbox.clone(), |sight| Input::Seen(Box::new(Seen::Tenants(sight))));
    follow::<NodeSet>(client, inbox.clone(), |sight| Input::Seen(Box::new(Seen::NodeSets(sight))));
    let pools = pools.clone();
    follow::<IPPool>(client, inbox.clone(), move |sight| {
        pools.know(&sight);
        Input::Seen(Box::new(Seen::Pools(sight)))
    });
    follow::<Fleet>(client, inbox.clone(), move |sight| {
        revocations.know(&sight);
        Input::Seen(Box::new(Seen::Fleets(sight)))
    });
    let traffic = traffic.clone();
    follow::<TCPLoadBalancer>(client, inbox.clone(), move |sight| {
        traffic.know(&sight);
        Input::Seen(Box::new(Seen::LoadBalancers(sight)))
    });
    allocations(client, inbox.clone());
    networks::watch(client, inbox.clone());
    providers.watch(inbox);
}

/// Sees every object of a kind, whole lists first and after each interruption.
fn follow<K>(client: &Client, inbox: Inbox, mut hand_on: impl FnMut(Sight<K>) -> Input + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = all::<K>(client);
    tokio::spawn(async move {
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(object) => listed.push(object),
                Event::InitDone => inbox.send(hand_on(Sight::All(std::mem::take(&mut listed)))),
                Event::Apply(object) => inbox.send(hand_on(Sight::One(object))),
                Event::Delete(object) => inbox.send(hand_on(Sight::Gone(Key::of(&object)))),
            }
        }
    });
}

/// Allocations keep their resourceVersions on the way: our own writes tell of them as well, and sooner.
fn allocations(client: &Client, inbox: Inbox) {
    let mut events = all::<IPAllocation>(client);
    tokio::spawn(async move {
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(object) => listed.push(object),
                Event::InitDone => inbox.send(Input::Allocations(std::mem::take(&mut listed))),
                Event::Apply(object) => inbox.send(Input::Allocation(Box::new(object))),
                Event::Delete(object) => inbox.send(gone(object)),
            }
        }
    });
}

/// The end of an allocation.
pub(crate) fn gone(object: IPAllocation) -> Input {
    let metadata = object.metadata;
    Input::AllocationGone {
        name: metadata.name.unwrap_or_default(),
        version: metadata.resource_version.unwrap_or_default(),
    }
}

/// Every event of every object of a kind, for ever.
pub(crate) fn all<K>(client: &Client) -> BoxStream<'static, Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    events(Api::all(client.clone()), watcher::Config::default())
}

/// Every event of these objects, for ever; interruptions are logged and passed over.
pub(crate) fn events<K>(api: Api<K>, config: watcher::Config) -> BoxStream<'static, Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // A watch of an API server that hangs is given up a little after this: soon, and cheap where nothing hangs.
    anew(api, config.timeout(60), waits())
        .modify(|object| object.meta_mut().managed_fields = None)
        .filter_map(|event| async {
            event.inspect_err(|error| {
                tracing::warn!(kind = %K::kind(&()), error = error as &dyn std::error::Error, "a watch is interrupted");
            }).ok()
        })
        .boxed()
}

/// A manager comes back soon after the API does: everybody's changes wait for it.
pub(crate) fn waits() -> ExponentialBuilder {
    let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
    ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest).with_jitter().without_max_times()
}
