//! The loop over all tenants while we lead. Knows order and patience; decides nothing about a tenant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{Action, Config, Error as Trouble};
use kube::{Api, Client, Resource, ResourceExt};
use nave_api::Tenant;
use nave_watch::Metadata;
use tokio::sync::OnceCell;

use super::Settings;
use super::call::{Error, call};
use super::children::INTENTS;
use super::copies;
use super::heartbeat::Heard;
use super::reconcile;
use super::view::View;
use crate::events::Events;
use crate::watch::Watches;

/// Tenants that are seen to at once; one tenant is never seen to twice at once.
const CONCURRENCY: u16 = 16;
/// What the end of a tenant waits for tells us nothing when it goes: it is looked at again after as long as it has waited, but
/// not sooner and not later than this.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(15);
/// So long an API server may believe a token that is void, and a little more: it remembers tokens that it found good for ten
/// seconds. Whoever has one could get one of the account or for the Secret that is made anew.
const VOID: Duration = Duration::from_secs(15);
/// So many finalizers are named that were taken off at a tenant's end.
const NAMED: usize = 5;
/// A failing tenant is tried again after a second, then two, and so on until this.
const LONGEST: Duration = Duration::from_mins(5);

/// What every visit to a tenant needs.
pub(super) struct Keeper {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) view: View,
    pub(super) events: Events,
    // A store wakes only the last of several who wait for it: one waits, the others wait for that one.
    synced: OnceCell<bool>,
    /// When the youngest of the kinds that a quota counts was installed.
    kinds_born: OnceCell<Timestamp>,
    memory: Mutex<BTreeMap<String, Memory>>,
}

/// What is remembered of a tenant between visits, and may be forgotten.
#[derive(Clone, Debug, Default)]
struct Memory {
    heard: Option<Heard>,
    failures: u32,
    /// What its end waits for, and since when.
    ending: Option<(&'static str, Instant)>,
    /// Since when its credential is void, where no new one was made yet.
    void: Option<Instant>,
    /// The first foreign finalizers that were taken off at its end, and how many there were.
    taken_off: (Vec<String>, usize),
}

impl Memory {
    fn fails(&mut self) -> Duration {
        let wait = Duration::from_secs(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    fn waits(&mut self, what: &'static str, now: Instant) -> Duration {
        let before = self.ending.filter(|(before, _)| *before == what);
        let (_, since) = *self.ending.insert(before.unwrap_or((what, now)));
        now.duration_since(since).clamp(SOON, LATE)
    }

    /// Which finalizers were taken off, with these; `None`: none.
    fn took(&mut self, more: Vec<String>) -> Option<String> {
        let (first, count) = &mut self.taken_off;
        *count = count.saturating_add(more.len());
        first.extend(more);
        first.truncate(NAMED);
        let rest = *count - first.len();
        let others = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        (*count > 0).then(|| format!("finalizers that were taken off: {}{others}", first.join(", ")))
    }

    fn rests(&mut self, is_void: bool, now: Instant) -> Option<Duration> {
        let since = if is_void { *self.void.get_or_insert(now) } else { self.void? };
        Some(VOID.saturating_sub(now.duration_since(since))).filter(|left| !left.is_zero())
    }
}

impl Keeper {
    /// What the agent's Lease says, as remembered and as it is now.
    pub(super) fn listen(&self, tenant: &str, was_connected: bool) -> Option<Heard> {
        let lease = self.view.room(tenant).lease;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memory.entry(tenant.to_owned()).or_default();
        let (now, wall) = (Instant::now(), Timestamp::now());
        memory.heard = lease.map(|lease| Heard::listen(memory.heard.as_ref(), &lease, was_connected, now, wall));
        memory.heard.clone()
    }

    /// When the youngest of the kinds that a quota counts was installed; asked once.
    pub(super) async fn kinds_born(&self) -> Result<Timestamp, Error> {
        let ask = || async {
            let kinds: Api<Metadata<CustomResourceDefinition>> = Api::all(self.client.clone());
            let mut youngest = Timestamp::MIN;
            for (plural, _) in INTENTS {
                let kind = call("look how old our kinds are", kinds.get(&format!("{plural}.nave.dev"))).await?;
                youngest = youngest.max(kind.meta().creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0));
            }
            Ok(youngest)
        };
        self.kinds_born.get_or_try_init(ask).await.copied()
    }

    /// Forgets a tenant that has ended.
    pub(super) fn forget(&self, tenant: &str) {
        self.view.looks.forget(tenant);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }

    /// How long to wait before looking again whether the end of a tenant still waits for this.
    pub(super) fn waits(&self, tenant: &str, what: &'static str, now: Instant) -> Duration {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.entry(tenant.to_owned()).or_default().waits(what, now)
    }

    /// Which finalizers were taken off at a tenant's end, with these; `None`: none.
    pub(super) fn took(&self, tenant: &str, more: Vec<String>) -> Option<String> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.entry(tenant.to_owned()).or_default().took(more)
    }

    /// How long no new credential may be made yet, where the last one is void now or was a moment ago.
    pub(super) fn rests(&self, tenant: &str, is_void: bool, now: Instant) -> Option<Duration> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.entry(tenant.to_owned()).or_default().rests(is_void, now)
    }

    /// Its credential became void just now at the latest, or a new one was made.
    pub(super) fn void(&self, tenant: &str, since: Option<Instant>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.entry(tenant.to_owned()).or_default().void = since;
    }

    fn went_well(&self, tenant: &str) {
        if let Some(memory) = self.memory.lock().unwrap_or_else(PoisonError::into_inner).get_mut(tenant) {
            memory.failures = 0;
        }
    }

    /// How long to wait after one more failure.
    fn failed(&self, tenant: &str) -> Duration {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.entry(tenant.to_owned()).or_default().fails()
    }
}

/// Sees to every tenant for as long as it is polled.
pub(super) async fn keep(watches: &Watches, settings: &Settings, events: &Events) {
    let (view, controller) = View::open(watches);
    let memory = Mutex::new(BTreeMap::new());
    let keeper = Arc::new(Keeper {
        client: watches.client().clone(),
        settings: settings.clone(),
        view,
        events: events.clone(),
        synced: OnceCell::new(),
        kinds_born: OnceCell::new(),
        memory,
    });
    let config = Config::default().concurrency(CONCURRENCY);
    let tidy = copies::tidy(keeper.client.clone(), keeper.view.looks.clone(), settings.copies_after);
    let visits = controller.with_config(config).run(visit, later, keeper);
    let visits = visits
        .for_each(|visit| async move {
            match visit {
                // A namespace may be named like a tenant's, and the tenant be gone or never have been.
                Ok(_) | Err(Trouble::ObjectNotFound(_)) => {}
                Err(Trouble::ReconcilerFailed(error, tenant)) => {
                    tracing::warn!(tenant = %tenant.name, error = &error as &dyn std::error::Error, "a tenant is not in order yet");
                }
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "watching tenants"),
            }
        });
    tokio::select! {
        () = visits => {}
        () = tidy => {}
    }
}

async fn visit(tenant: Arc<Tenant>, keeper: Arc<Keeper>) -> Result<Action, Error> {
    if !*keeper.synced.get_or_init(|| keeper.view.ready()).await {
        return Ok(Action::await_change());
    }
    let action = reconcile::visit(&tenant, &keeper).await?;
    keeper.went_well(&tenant.name_any());
    Ok(action)
}

#[allow(clippy::needless_pass_by_value, reason = "the controller's signature")]
fn later(tenant: Arc<Tenant>, _error: &Error, keeper: Arc<Keeper>) -> Action {
    Action::requeue(keeper.failed(&tenant.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_tenant_is_looked_at_less_often_the_longer_it_waits_for_one_thing() {
        let (mut memory, begun) = (Memory::default(), Instant::now());
        let mut looks = |what, seconds: &[u64]| -> Vec<u64> {
            let at = seconds.iter().map(|second| begun + Duration::from_secs(*second));
            at.map(|now| memory.waits(what, now).as_secs()).collect()
        };
        assert_eq!(looks("addresses", &[0, 1, 2, 4, 8, 16, 31]), [1, 1, 2, 4, 8, 15, 15]);
        assert_eq!(looks("namespace", &[46, 46, 48]), [1, 1, 2]);
    }

    #[test]
    fn d_a_tenant_that_fails_is_visited_less_and_less_often() {
        let mut memory = Memory::default();
        let waits: Vec<u64> = (0..20).map(|_| memory.fails().as_secs()).collect();
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(waits[19], 300);
    }

    #[test]
    fn the_first_finalizers_that_were_taken_off_are_named_and_the_others_counted() {
        let mut memory = Memory::default();
        assert_eq!(memory.took(Vec::new()), None);
        assert_eq!(memory.took(vec!["a".into()]).unwrap(), "finalizers that were taken off: a");
        let many = (0..100_000).map(|number| number.to_string()).collect();
        assert_eq!(memory.took(many).unwrap(), "finalizers that were taken off: a, 0, 1, 2, 3 and 99996 more");
    }

    #[test]
    fn no_credential_is_made_while_an_api_server_may_believe_the_last_one() {
        let (mut memory, begun) = (Memory::default(), Instant::now());
        let mut rests =
            |is_void, second| memory.rests(is_void, begun + Duration::from_secs(second)).map(|left| left.as_secs());
        assert_eq!(rests(false, 0), None);
        assert_eq!(
            [rests(true, 1), rests(true, 11), rests(false, 15), rests(true, 16)],
            [Some(15), Some(5), Some(1), None]
        );
    }
}
