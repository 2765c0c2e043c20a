//! The tenants' rooms in the hub: a namespace, a credential and an end for each Tenant. Knows what an agent may do there;
//! knows nothing of addresses and load balancers but that they go before the namespace does.
//!
//! The leader alone writes here. All that is wanted is compared with what the watches show, so that a steady state writes
//! nothing. Secrets are looked at without their contents, tenant by tenant: the manager may see them nowhere but in the namespaces where it
//! has bound its own rights.
//!
//! The credential is a token bound to the Secret that carries it, and so are the tokens that the agent gets for itself in
//! time: the admission policy `nave-agents-tokens` of our chart lets it have no others, and none that live longer. Taking the
//! annotation `nave.dev/issued-at` from the Secret `agent` makes a new credential beside the old one, which
//! ends by its age; deleting the Secret voids the old one at once, deleting the service account `agent` every token that
//! was ever issued to it. Each time the new kubeconfig has to be brought to the agent.

mod call;
mod children;
mod copies;
mod credential;
mod ending;
mod heartbeat;
mod keep;
mod looks;
mod reconcile;
mod release;
mod status;
mod trust;
mod view;

use std::time::Duration;

use nave_api::tenant::Quota;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::watch::Watches;

/// How long a credential lives: long enough for an agent that was off over a weekend. `nave-agents-tokens` says it, too.
const TOKEN_LIFE: Duration = Duration::from_hours(7 * 24);
/// A quota refuses everything until the API's controllers have counted, and of a kind that was installed just now they
/// learn late, and then count after minutes: a namespace gets its quota at once where our kinds are this old.
const QUOTA_AFTER: Duration = Duration::from_mins(2);

/// The hub's API server as agents reach it.
#[derive(Clone, Debug)]
pub(crate) struct HubApi {
    /// Where it is.
    pub(crate) url: String,
    /// The certificates that vouch for it, PEM; empty when those of the agents' systems do.
    pub(crate) authority: Vec<u8>,
}

/// What is the same for all tenants.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What a credential leads to.
    pub(crate) hub: HubApi,
    /// The manager's own namespace, where its service account is.
    pub(crate) namespace: String,
    /// How long a credential lives; a new one is issued when two thirds are over. The API gives 10 minutes or more.
    pub(crate) token_life: Duration,
    /// The age of our kinds from which on namespaces get a quota of objects.
    pub(crate) quota_after: Duration,
    /// How long a copy of a certificate stays that no load balancer names.
    pub(crate) copies_after: Duration,
    /// The limits of a Tenant that does not set them.
    pub(crate) default_quota: Quota,
}

impl Settings {
    /// The usual settings.
    pub(crate) fn new(hub: HubApi, namespace: String, copies_after: Duration) -> Self {
        Self {
            hub,
            namespace,
            token_life: TOKEN_LIFE,
            quota_after: QUOTA_AFTER,
            copies_after,
            default_quota: Quota::default(),
        }
    }
}

/// Keeps the rooms of all tenants whenever we lead, until the shutdown.
pub(crate) async fn run(
    watches: Watches,
    mut leader: watch::Receiver<bool>,
    settings: Settings,
    events: Events,
    shutdown: CancellationToken,
) {
    loop {
        let leads = tokio::select! {
            () = shutdown.cancelled() => return,
            leads = leader.wait_for(|leads| *leads) => leads.is_ok(),
        };
        if !leads {
            return; // Nobody is left who could tell us.
        }
        // Dropping the keeper stops what it does at its next request: every step is safe to repeat, by whoever leads then.
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = async { leader.wait_for(|leads| !*leads).await.map(drop) } => {}
            () = keep::keep(&watches, &settings, &events) => {}
        }
    }
}
