//! The watches of the hub: one per kind, each for ever. Knows the API; hands on what it sees.

use std::fmt::Debug;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use kube::core::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use nave_api::{Fleet, IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use nave_manager_core::{Key, Seen, Sight, Unreadable};
use nave_watch::{Decoded, Unreadables, anew};
use serde::de::DeserializeOwned;

use crate::conductor::{Inbox, Input};
use crate::networks;
use crate::pools::Pools;
use crate::provider::Providers;
use crate::revocations::Revocations;
use crate::traffic::Traffic;

/// Opens watches of the hub, and notes what they show that cannot be read. Clones are the same.
#[derive(Clone)]
pub(crate) struct Watches {
    client: Client,
    unreadables: Unreadables,
}

impl Watches {
    /// Watches by this client.
    pub(crate) fn new(client: Client, unreadables: Unreadables) -> Self {
        Self { client, unreadables }
    }

    /// The client by which they watch.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Every event of every object of a kind, for ever.
    pub(crate) fn all<K>(&self) -> BoxStream<'static, Event<Decoded<K>>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        self.events(Api::all(self.client.clone()), watcher::Config::default())
    }

    /// Every event of these objects, for ever; interruptions are logged and passed over.
    pub(crate) fn events<K>(
        &self,
        api: Api<Decoded<K>>,
        config: watcher::Config,
    ) -> BoxStream<'static, Event<Decoded<K>>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let events = self.interrupted(api, config).filter_map(|event| async {
            event.inspect_err(|error| {
                tracing::warn!(kind = %K::kind(&()), error = error as &dyn std::error::Error, "a watch is interrupted");
            }).ok()
        });
        events.boxed()
    }

    /// The same with its interruptions.
    pub(crate) fn interrupted<K>(
        &self,
        api: Api<Decoded<K>>,
        config: watcher::Config,
    ) -> impl Stream<Item = watcher::Result<Event<Decoded<K>>>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let unreadables = self.unreadables.clone();
        // A watch of an API server that hangs is given up a little after this: soon, and cheap where nothing hangs.
        anew(api, config.timeout(60), waits()).inspect_ok(move |event| unreadables.note(event))
    }
}

/// Starts all watches; they end with the process.
pub(crate) fn start(
    watches: &Watches,
    providers: &Providers,
    inbox: &Inbox,
    traffic: &Traffic,
    pools: &Pools,
    mut revocations: Revocations,
) {
    follow::<Tenant>(watches, inbox.clone(), |sight| Input::Seen(Box::new(Seen::Tenants(sight))));
    follow::<NodeSet>(watches, inbox.clone(), |sight| Input::Seen(Box::new(Seen::NodeSets(sight.map(bare)))));
    let pools = pools.clone();
    follow::<IPPool>(watches, inbox.clone(), move |sight| {
        pools.know(&sight);
        Input::Seen(Box::new(Seen::Pools(sight)))
    });
    let fleets = watches.all::<Fleet>().inspect(move |event| revocations.know(event));
    follow_in(fleets.boxed(), inbox.clone(), |sight| Input::Seen(Box::new(Seen::Fleets(sight))));
    let traffic = traffic.clone();
    follow::<TCPLoadBalancer>(watches, inbox.clone(), move |sight| {
        traffic.know(&sight);
        Input::Seen(Box::new(Seen::LoadBalancers(sight.map(bare))))
    });
    allocations(watches, inbox.clone());
    networks::watch(watches, inbox.clone());
    providers.watch(watches, inbox);
}

/// Sees every object of a kind, whole lists first and after each interruption.
fn follow<K>(watches: &Watches, inbox: Inbox, hand_on: impl FnMut(Sight<K>) -> Input + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    follow_in(watches.all(), inbox, hand_on);
}

/// The same of the events of a watch.
fn follow_in<K>(
    mut events: BoxStream<'static, Event<Decoded<K>>>,
    inbox: Inbox,
    mut hand_on: impl FnMut(Sight<K>) -> Input + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Send + 'static,
{
    tokio::spawn(async move {
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(event) = events.next().await {
            match event {
                Event::Init => (objects, unreadable) = (Vec::new(), Vec::new()),
                Event::InitApply(Decoded::Object(object)) => objects.push(object),
                Event::InitApply(Decoded::Unreadable(one)) => unreadable.push(core(one)),
                Event::InitDone => {
                    let (objects, unreadable) = (std::mem::take(&mut objects), std::mem::take(&mut unreadable));
                    inbox.send(hand_on(Sight::All { objects, unreadable }));
                }
                Event::Apply(Decoded::Object(object)) => inbox.send(hand_on(Sight::One(object))),
                Event::Apply(Decoded::Unreadable(one)) => inbox.send(hand_on(Sight::Unreadable(core(one)))),
                Event::Delete(object) => inbox.send(hand_on(Sight::Gone(Key::of(&object)))),
            }
        }
    });
}

/// Allocations keep their resourceVersions on the way: our own writes bring them as well, and sooner.
fn allocations(watches: &Watches, inbox: Inbox) {
    let mut events = watches.all::<IPAllocation>();
    tokio::spawn(async move {
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(event) = events.next().await {
            match event {
                Event::Init => (objects, unreadable) = (Vec::new(), Vec::new()),
                Event::InitApply(Decoded::Object(object)) => objects.push(object),
                Event::InitApply(Decoded::Unreadable(one)) => unreadable.push(core(one)),
                Event::InitDone => {
                    inbox.send(Input::Allocations(std::mem::take(&mut objects), std::mem::take(&mut unreadable)));
                }
                Event::Apply(object) => inbox.send(allocation(object)),
                Event::Delete(object) => inbox.send(gone(object.meta().clone())),
            }
        }
    });
}

/// An allocation as it is now.
pub(crate) fn allocation(object: Decoded<IPAllocation>) -> Input {
    match object {
        Decoded::Object(object) => Input::Allocation(Box::new(object)),
        Decoded::Unreadable(one) => Input::Seen(Box::new(Seen::Allocations(Sight::Unreadable(core(one))))),
    }
}

/// The end of an allocation.
pub(crate) fn gone(metadata: ObjectMeta) -> Input {
    Input::AllocationGone {
        name: metadata.name.unwrap_or_default(),
        version: metadata.resource_version.unwrap_or_default(),
    }
}

/// An object that cannot be read, as the engine takes it.
pub(crate) fn core(unreadable: nave_watch::Unreadable) -> Unreadable {
    let nave_watch::Unreadable { metadata, why, spec: _ } = unreadable;
    let text = |text: Option<String>| text.unwrap_or_default();
    Unreadable {
        key: Key::new(text(metadata.namespace), text(metadata.name)),
        uid: text(metadata.uid),
        revision: metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
        generation: metadata.generation,
        why,
    }
}

/// What tenants write into metadata is nothing to go by, and not kept.
fn bare<K: Resource>(mut object: K) -> K {
    let metadata = object.meta_mut();
    (metadata.labels, metadata.annotations, metadata.finalizers) = (None, None, None);
    object
}

/// A manager comes back soon after the API does: everybody's changes wait for it.
pub(crate) fn waits() -> ExponentialBuilder {
    let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
    ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest).with_jitter().without_max_times()
}
