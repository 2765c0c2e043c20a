//! Tells the hub that we live, and learns to which cluster the tenant's namespace there belongs: a Lease in that namespace. Knows the
//! Lease; what an agent may touch by it is the core's matter.
//!
//! The first cluster that renews the Lease puts its mark on it. What decides is the version of the Lease that was read before: of two
//! agents that begin at the same moment, the API server takes the write of one, and the other reads again. An agent of another
//! cluster writes one annotation, so that the hub can name it, and leaves the rest alone.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Resource as _};
use nave_agent_core::Cluster;
use nave_agent_core::cluster::{self, Standing};
use nave_api::cluster::Mark;
use nave_api::names;
use nave_watch::Metadata;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::connect::limited;
use crate::error::{Error, line};
use crate::hub::{Hub, Session};
use crate::identity::Identity;
use crate::watch::Sight;

/// The least time between two heartbeats of one session.
#[derive(Clone, Copy)]
struct Pace {
    /// As a rule.
    every: Duration,
    /// While the hub refuses the agent.
    soon: Duration,
}

/// Between two heartbeats.
const EVERY: Duration = Duration::from_secs(30);
/// Between two looks at the Lease of another cluster: a namespace that is moved to us is found.
const ELSEWHERE: Duration = Duration::from_secs(10);
/// While the hub refuses us, or has not been heard yet.
const SOON: Duration = Duration::from_secs(2);
/// Until the first answer.
const FIRST: Pace = Pace { every: SOON, soon: SOON };
/// After so long without a word we are taken for gone.
const PATIENCE_SECONDS: i32 = 90;

/// So often one heartbeat is tried where another program writes the Lease at the same time.
const ATTEMPTS: u32 = 3;

/// What every heartbeat needs.
pub struct Heart {
    hub: Hub,
    identity: Identity,
    sights: mpsc::Sender<Sight>,
    /// A name for this life of ours.
    life: String,
    /// Whether the Lease is only read: by an agent that leaves.
    looks_only: bool,
}

/// Beats for ever, and at once with each new session.
pub async fn run(hub: Hub, identity: Identity, sights: mpsc::Sender<Sight>, looks_only: bool) {
    let life = format!("{}/{}", env!("CARGO_PKG_VERSION"), life().await);
    let heart = Heart { hub, identity, sights, life, looks_only };
    let (mut sessions, mut suspicious) = (heart.hub.sessions(), heart.hub.suspicious());
    let mut pace = FIRST;
    loop {
        let session = sessions.borrow_and_update().clone();
        if let Some(session) = session {
            let outcome = heart.beat(&session).await;
            if let Err(error) = &outcome {
                tracing::warn!(error = line(error), "the hub did not hear our heartbeat");
            }
            pace = pace.after(&outcome);
        }
        if !pace.rest(Instant::now(), &mut sessions, &mut suspicious).await {
            return;
        }
    }
}

impl Pace {
    /// The pace after a heartbeat, which says whether the namespace is another cluster's.
    fn after(self, outcome: &Result<bool, Error>) -> Self {
        let every = match outcome {
            Ok(false) => EVERY,
            Ok(true) => ELSEWHERE,
            // Each of its attempts was a look and a write: soon again would be more than a call a second.
            Err(error) if error.is_conflict() => ELSEWHERE,
            Err(_) => self.every.min(ELSEWHERE),
        };
        Self { every, ..self }
    }

    /// Waits from one heartbeat, at `since`, to the next; a new session ends the wait at once. False when the keeper has ended.
    /// A heartbeat's own answer changes `suspicious`: that shortens the wait to `soon`, never to less.
    async fn rest<S>(
        self,
        since: Instant,
        sessions: &mut watch::Receiver<S>,
        suspicious: &mut watch::Receiver<bool>,
    ) -> bool {
        loop {
            let wait = if *suspicious.borrow_and_update() { self.soon } else { self.every };
            tokio::select! {
                () = sleep_until(since + wait) => return true,
                changed = sessions.changed() => return changed.is_ok(),
                changed = suspicious.changed() => if changed.is_err() {
                    return false;
                },
            }
        }
    }
}

impl Heart {
    /// One heartbeat, again where another program has written the Lease meanwhile. Whether the namespace is another cluster's.
    async fn beat(&self, session: &Session) -> Result<bool, Error> {
        let own = self.identity.mark().await?;
        let mut attempts = ATTEMPTS;
        let owner = loop {
            attempts -= 1;
            match self.renew(session, &own).await {
                Err(error) if attempts > 0 && error.is_conflict() => {}
                outcome => break outcome?,
            }
        };
        let cluster = Cluster { own, owner };
        let elsewhere = !cluster.is_owner();
        self.tell(session, cluster).await;
        Ok(elsewhere)
    }

    /// Reads the Lease, and renews it where it is free or ours. The owner of the namespace.
    async fn renew(&self, session: &Session, own: &Mark) -> Result<String, Error> {
        let leases = session.api::<Metadata<Lease>>();
        let present = self.hub.judged(limited("read our Lease in the hub", leases.get_opt(names::AGENT)).await)?;
        let present = match present {
            Some(present) => present,
            None if self.looks_only => return Ok(own.to_string()),
            None => self.make(&leases).await?,
        };
        match cluster::judge(own, present.meta()) {
            Standing::Free | Standing::Ours if self.looks_only => {}
            Standing::Free | Standing::Ours => self.write(&leases, present.meta(), own).await?,
            Standing::Other(owner) => {
                self.appear(&leases, own).await;
                return Ok(owner);
            }
        }
        Ok(own.to_string())
    }

    /// An empty Lease: the agent that makes it has not claimed it yet. Only server-side apply may make it, by our rights, and it may find one.
    async fn make(&self, leases: &Api<Metadata<Lease>>) -> Result<Metadata<Lease>, Error> {
        let metadata = ObjectMeta { name: Some(names::AGENT.to_owned()), ..ObjectMeta::default() };
        let lease = Patch::Apply(Lease { metadata, spec: None });
        let params = PatchParams::apply(names::AGENT_MANAGER);
        self.hub.judged(limited("make our Lease in the hub", leases.patch(names::AGENT, &params, &lease)).await)
    }

    /// Invariant: with the version that was read, so that this is refused when another program has written since.
    async fn write(&self, leases: &Api<Metadata<Lease>>, read: &ObjectMeta, own: &Mark) -> Result<(), Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(names::AGENT.to_owned()),
                uid: read.uid.clone(),
                resource_version: read.resource_version.clone(),
                labels: Some([(names::CLUSTER.to_owned(), own.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.life.clone()),
                lease_duration_seconds: Some(PATIENCE_SECONDS),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        };
        let params = PatchParams::apply(names::AGENT_MANAGER).force();
        let patch = Patch::Apply(&lease);
        self.hub
            .judged(limited("renew our Lease in the hub", leases.patch(names::AGENT, &params, &patch)).await)
            .map(drop)
    }

    /// Lets the hub name this cluster beside the owner. There is one place for all others: the latest is named.
    async fn appear(&self, leases: &Api<Metadata<Lease>>, own: &Mark) {
        if self.looks_only {
            return;
        }
        let word = format!("{own} {}", Timestamp::now().strftime("%FT%TZ"));
        let patch = Patch::Merge(json!({"metadata": {"annotations": {names::OTHER_CLUSTER_ANNOTATION: word}}}));
        let params = PatchParams { field_manager: Some(names::AGENT_MANAGER.to_owned()), ..PatchParams::default() };
        let call = limited("name this cluster in the Lease of another", leases.patch(names::AGENT, &params, &patch));
        if let Err(error) = self.hub.judged(call.await) {
            tracing::warn!(error = line(&error), "the hub cannot name this cluster");
        }
    }

    /// What an old session said is not reported of a new one.
    async fn tell(&self, session: &Session, cluster: Cluster) {
        // The receiver ends last: an agent that ends need not know.
        let Ok(room) = self.sights.reserve().await else { return };
        if self.hub.session().is_some_and(|now| now.place() == session.place()) {
            room.send(Sight::Cluster(cluster));
        }
    }
}

/// A name for this life of ours; two of them in the Lease say that two agents share one credential.
async fn life() -> String {
    let drawn = tokio::fs::read_to_string("/proc/sys/kernel/random/uuid").await;
    drawn.map_or_else(|_| std::process::id().to_string(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nave_watch::stub;
    use serde_json::Value;

    use super::*;

    const PACE: Pace = Pace { every: Duration::from_hours(1), soon: Duration::from_millis(20) };

    /// How many heartbeats there are in half a second when `answer` follows each.
    async fn beats(answer: impl Fn(u32) -> Option<bool>) -> u32 {
        let (_sessions, mut session) = watch::channel(());
        let (suspicious, mut suspected) = watch::channel(false);
        let count = std::cell::Cell::new(0);
        let run = async {
            loop {
                count.set(count.get() + 1);
                if let Some(is_suspicious) = answer(count.get()) {
                    suspicious.send_replace(is_suspicious);
                }
                PACE.rest(Instant::now(), &mut session, &mut suspected).await;
            }
        };
        let ended: Result<(), _> = tokio::time::timeout(PACE.soon * 25, run).await;
        assert!(ended.is_err());
        count.get()
    }

    #[tokio::test]
    async fn d_a_refused_heartbeat_does_not_wake_itself() {
        let always = beats(|_| Some(true)).await;
        assert!((2..=26).contains(&always), "{always}");
        assert_eq!(beats(|count| Some(count % 2 == 1)).await, 2);
        assert_eq!(beats(|_| None).await, 1);
    }

    #[tokio::test]
    async fn d_a_heartbeat_comes_soon_when_another_call_is_refused_and_at_once_with_a_new_session() {
        let (sessions, mut session) = watch::channel(());
        let (suspicious, mut suspected) = watch::channel(false);
        let since = Instant::now();
        let refuse = async { suspicious.send_replace(true) };
        let (goes_on, _) = tokio::join!(PACE.rest(since, &mut session, &mut suspected), refuse);
        assert!(goes_on && since.elapsed() >= PACE.soon);
        suspicious.send_replace(false);
        sessions.send_replace(());
        assert!(PACE.rest(since, &mut session, &mut suspected).await);
        drop(sessions);
        assert!(!PACE.rest(since, &mut session, &mut suspected).await);
    }

    fn namespace(uid: &str) -> (u16, Value) {
        (200, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}}))
    }

    fn lease(mark: Option<&str>) -> (u16, Value) {
        let labels = mark.map(|mark| json!({names::CLUSTER: mark}));
        let metadata = json!({"name": "agent", "uid": "u", "resourceVersion": "7", "labels": labels});
        (200, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}))
    }

    /// One heartbeat of cluster c2, at a hub whose Lease is read so and whose answers to writes are these, in turn: what came of it, how
    /// many calls it took, and what the core hears.
    async fn beat(read: (u16, Value), written: &[u16]) -> (Result<bool, Error>, usize, Option<Cluster>) {
        let (calls, writes) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let (counted, written) = (Arc::clone(&calls), written.to_vec());
        let client = stub::client(move |path| {
            counted.fetch_add(1, Ordering::SeqCst);
            if !path.contains("fieldManager") {
                return read.clone();
            }
            match written[writes.fetch_add(1, Ordering::SeqCst) % written.len()] {
                200 => lease(Some("c2")),
                code => stub::refusal(code),
            }
        });
        let (hub, _ends) = Hub::of(client);
        let identity = Identity::new(stub::client(|_| namespace("c2")));
        let (sights, mut seen) = mpsc::channel(8);
        let heart = Heart { hub: hub.clone(), identity, sights, life: "0.1.0/test".into(), looks_only: false };
        let outcome = heart.beat(&hub.session().unwrap()).await;
        let told = seen.try_recv().ok().map(|sight| match sight {
            Sight::Cluster(cluster) => cluster,
            other => panic!("{other:?}"),
        });
        (outcome, calls.load(Ordering::SeqCst), told)
    }

    #[tokio::test]
    async fn h_a_lease_that_is_free_or_ours_is_renewed_and_the_core_hears_so() {
        for mark in [None, Some("c2")] {
            let (outcome, calls, told) = beat(lease(mark), &[200]).await;
            assert!(matches!(outcome, Ok(false)), "{outcome:?}");
            assert_eq!((calls, told), (2, Some(Cluster::owner("c2".parse().unwrap()))));
        }
    }

    #[tokio::test]
    async fn h_the_lease_of_another_cluster_is_not_renewed_and_the_core_hears_whose_it_is() {
        let (outcome, calls, told) = beat(lease(Some("c1")), &[200]).await;
        assert!(matches!(outcome, Ok(true)), "{outcome:?}");
        let owner = Cluster { own: "c2".parse().unwrap(), owner: "c1".into() };
        assert_eq!((calls, told), (2, Some(owner)), "one look, and one word that this cluster is there");
    }

    #[tokio::test]
    async fn d_h_a_lease_that_others_write_all_the_time_is_tried_three_times_and_claimed_by_none() {
        let (outcome, calls, told) = beat(lease(None), &[409]).await;
        assert!(outcome.is_err_and(|error| error.is_conflict()));
        assert_eq!((calls, told), (6, None));
        let (outcome, calls, _) = beat(lease(None), &[409, 200]).await;
        assert!(outcome.is_ok());
        assert_eq!(calls, 4);
    }

    #[tokio::test]
    async fn d_a_lease_that_another_program_writes_all_the_time_takes_at_most_a_call_a_second() {
        let (outcome, calls, _) = beat(lease(None), &[409]).await;
        for pace in [FIRST, Pace { every: EVERY, ..FIRST }] {
            let Pace { every, soon: _ } = pace.after(&outcome);
            assert!(calls as u64 <= every.as_secs(), "{calls} calls in {every:?}");
        }
    }

    #[tokio::test]
    async fn h_a_hub_that_does_not_say_whose_the_namespace_is_makes_no_cluster_the_owner() {
        for code in [401, 403, 500] {
            let (outcome, calls, told) = beat(stub::refusal(code), &[200]).await;
            assert!(outcome.is_err());
            assert_eq!((calls, told), (1, None), "{code}");
        }
    }
}
