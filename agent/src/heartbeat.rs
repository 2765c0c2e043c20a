//! Tells the hub that we live: a Lease in the tenant's namespace. Knows who we are; decides nothing by it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams};
use nave_api::names;
use nave_watch::Metadata;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::connect::limited;
use crate::error::{Error, line};
use crate::hub::{Hub, Session};

/// The least time between two heartbeats of one session.
#[derive(Clone, Copy)]
struct Pace {
    /// As a rule.
    every: Duration,
    /// While the hub refuses the agent.
    soon: Duration,
}

const PACE: Pace = Pace { every: Duration::from_secs(30), soon: Duration::from_secs(2) };
/// After so long without a word we are taken for gone.
const PATIENCE_SECONDS: i32 = 90;

/// Beats for ever, and at once with each new session.
pub async fn run(hub: Hub) {
    let identity = format!("{}/{}", env!("CARGO_PKG_VERSION"), life().await);
    let (mut sessions, mut suspicious) = (hub.sessions(), hub.suspicious());
    loop {
        let session = sessions.borrow_and_update().clone();
        if let Some(session) = session
            && let Err(error) = beat(&hub, &session, &identity).await
        {
            tracing::warn!(error = line(&error), "the hub did not hear our heartbeat");
        }
        if !PACE.rest(Instant::now(), &mut sessions, &mut suspicious).await {
            return;
        }
    }
}

impl Pace {
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

async fn beat(hub: &Hub, session: &Session, identity: &str) -> Result<(), Error> {
    let lease = Lease {
        metadata: ObjectMeta { name: Some(names::AGENT.to_owned()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: Some(PATIENCE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    };
    let (leases, params) = (session.api::<Metadata<Lease>>(), PatchParams::apply(names::AGENT_MANAGER).force());
    let patch = Patch::Apply(&lease);
    let answer = limited("renew our Lease in the hub", leases.patch(names::AGENT, &params, &patch)).await;
    match &answer {
        Ok(_) => hub.heard_ok(),
        Err(Error::Call { source, .. }) => hub.heard(source),
        Err(Error::Silence { .. } | Error::NoHub { .. }) => {}
    }
    answer.map(drop)
}

/// A name for this life of ours; two of them in the Lease say that two agents share one credential.
async fn life() -> String {
    let drawn = tokio::fs::read_to_string("/proc/sys/kernel/random/uuid").await;
    drawn.map_or_else(|_| std::process::id().to_string(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
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
}
