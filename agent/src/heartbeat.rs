//! Tells the hub that we live: a Lease in the tenant's namespace. Knows who we are; decides nothing by it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams};
use nave_api::names;
use nave_watch::Metadata;

use crate::connect::limited;
use crate::error::{Error, line};
use crate::hub::{Hub, Session};

/// How often we are heard.
const EVERY: Duration = Duration::from_secs(30);
/// How often while the hub has begun to refuse us.
const SOON: Duration = Duration::from_secs(2);
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
        let wait = if *suspicious.borrow_and_update() { SOON } else { EVERY };
        let over = tokio::select! {
            () = tokio::time::sleep(wait) => false,
            changed = sessions.changed() => changed.is_err(),
            changed = suspicious.changed() => changed.is_err(),
        };
        if over {
            return;
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
