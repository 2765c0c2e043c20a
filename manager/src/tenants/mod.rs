//! The tenants' rooms: for each Tenant a namespace, an account with the narrowest rights, a credential, and word of its
//! agent. Knows the Kubernetes objects that make a tenant; knows nothing of addresses, ports and what is served.
//!
//! The leader alone works here. It watches what it made, compares in memory and writes what differs: where everything is
//! as it should be, nothing is sent to the API at all.
//!
//! To rotate a credential, delete the Secret `agent` in the tenant's namespace: the token in it ends with it, and a new
//! Secret is made at once. To end every token that was ever issued, also those that the agent renewed for itself, delete
//! the ServiceAccount `agent`: account and Secret are made anew.

mod covers;
mod credential;
mod desired;
mod error;
mod heartbeat;
mod provision;
mod room;
mod status;
mod takedown;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use nave_api::Tenant;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use error::Error;
use room::Room;

/// How many tenants are worked on at once.
const CONCURRENCY: u16 = 16;
/// Changes of one tenant that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// What the credentials say of the hub.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The hub's API server as agents reach it.
    pub(crate) hub_api_url: String,
    /// The certificates that vouch for it, as PEM; empty when the agents' system does.
    pub(crate) hub_ca: Vec<u8>,
}

/// Keeps the tenants' rooms whenever this replica leads, until `shutdown`.
pub(crate) async fn run(
    client: Client,
    mut leader: watch::Receiver<bool>,
    settings: Settings,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            elected = leader.wait_for(|leads| *leads) => if elected.is_err() { return },
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            lost = leader.wait_for(|leads| !*leads) => if lost.is_err() { return },
            // Every write may be left half done: it is compared anew by the next leader.
            () = lead(client.clone(), settings.clone()) => {}
        }
    }
}

/// Works as the leader, for as long as it is polled.
async fn lead(client: Client, settings: Settings) {
    let (world, streams) = world::watch(&client);
    let tenants = watcher(Api::<Tenant>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(world::strip)
        .reflect(streams.tenants);
    let room = Arc::new(Room::new(client, settings, world));
    let mut tenants = Controller::for_stream(tenants.touched_objects(), room.world.tenants.clone())
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE));
    for stream in streams.traces {
        tenants = tenants.reconcile_on(stream.map(|tenant| ObjectRef::new(&tenant)));
    }
    let mut outcomes = std::pin::pin!(tenants.run(reconcile, again_later, room.clone()));
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok((tenant, _)) => room.succeeded(&tenant.name),
            // A failed reconciliation was logged where it was judged.
            Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
            Err(error) => tracing::warn!(%error, "a watch of the tenants failed and begins anew"),
        }
    }
}

async fn reconcile(tenant: Arc<Tenant>, room: Arc<Room>) -> Result<Action, Error> {
    room.world.synced().await?;
    if tenant.metadata.deletion_timestamp.is_some() {
        takedown::take_down(&room, &tenant).await
    } else {
        provision::provision(&room, &tenant).await
    }
}

fn again_later(tenant: Arc<Tenant>, error: &Error, room: Arc<Room>) -> Action {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    let delay = room.failed(name);
    tracing::warn!(tenant = name, error = error::chain(error), retry_in = ?delay, "a tenant's room is not as it should be");
    Action::requeue(delay)
}
