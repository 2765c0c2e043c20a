//! Who leads: reads and writes the Lease as `decide` says. Knows the API; decides nothing.
//!
//! Leading is a matter of who writes, not a lock: what must happen once is decided by a create or a resourceVersion.

mod decide;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use nave_watch::Decoded;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use decide::Timing;
use decide::{Act, Candidate, Record};

/// The Lease in the managers' namespace.
const LEASE: &str = "nave-manager";
/// The holder that a Lease names which cannot be read.
const UNREADABLE: &str = "(unreadable)";
/// Annotation of the Lease: where the other managers reach the leader.
const ENDPOINT: &str = "nave.dev/endpoint";

/// Who leads, as far as this manager knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// Whether this manager does.
    pub(crate) ours: bool,
    /// Where the other one that leads is reached.
    pub(crate) elsewhere: Option<String>,
}

/// Stands for election until shut down, then gives the Lease back.
pub(crate) async fn run(
    client: Client,
    namespace: String,
    name: String,
    endpoint: String,
    timing: Timing,
    leadership: watch::Sender<Leadership>,
    shutdown: CancellationToken,
) {
    let leases = Api::namespaced(client, &namespace);
    let mut election = Election { leases, endpoint, timing, candidate: Candidate::new(name.clone(), timing), name };
    let mut retry = tokio::time::interval(timing.retry);
    retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(election.tick(&mut retry, &leadership)).await.is_some() {}
    if leadership.borrow().ours {
        leadership.send_replace(Leadership::default());
        election.release().await;
    }
}

struct Election {
    leases: Api<Decoded<Lease>>,
    name: String,
    endpoint: String,
    timing: Timing,
    candidate: Candidate,
}

impl Election {
    /// One look and what follows from it.
    async fn tick(&mut self, retry: &mut tokio::time::Interval, leadership: &watch::Sender<Leadership>) {
        retry.tick().await;
        // An answer that comes too late for leading is no answer.
        // Who no longer leads has all the time again: an end that is over would cut off every later answer.
        let now = Instant::now();
        let leads_until = self.candidate.leads_until().filter(|end| *end > now);
        let limit = leads_until.unwrap_or_else(|| now + self.timing.renew_within);
        let elsewhere = match tokio::time::timeout_at(limit, self.turn()).await {
            Ok(Ok(elsewhere)) => elsewhere,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the Lease cannot be read or written");
                leadership.borrow().elsewhere.clone()
            }
            Err(_) => leadership.borrow().elsewhere.clone(),
        };
        let ours = self.candidate.leads(Instant::now());
        let now = Leadership { ours, elsewhere: if ours { None } else { elsewhere } };
        leadership.send_if_modified(|before| {
            if before.ours != now.ours {
                tracing::info!(leads = now.ours, "leadership changes");
            }
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    /// Looks and acts; says where the leader is when it is another.
    async fn turn(&mut self) -> Result<Option<String>, kube::Error> {
        let begun = Instant::now();
        let lease = self.leases.get_opt(LEASE).await?.map(readable);
        let act = self.candidate.look(lease.as_ref().map(record), begun);
        let written = match (act, lease) {
            (Act::Create, _) | (_, None) => {
                self.leases.create(&PostParams::default(), &Decoded::Object(self.write(Lease::default(), begun))).await
            }
            (Act::Renew | Act::TakeOver, Some(lease)) => {
                self.leases.replace(LEASE, &PostParams::default(), &Decoded::Object(self.write(lease, begun))).await
            }
            (Act::Follow, Some(lease)) => {
                self.candidate.lost();
                return Ok(lease.annotations().get(ENDPOINT).cloned());
            }
        };
        match written {
            Ok(lease) => self.candidate.won(record(&readable(lease)), begun),
            // Somebody was faster: the next look says who.
            Err(kube::Error::Api(status)) if status.code == 409 => self.candidate.lost(),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// The Lease with our name in it, at the version that was looked at.
    fn write(&self, mut lease: Lease, begun: Instant) -> Lease {
        let now = MicroTime(Timestamp::now() - begun.elapsed());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(self.name.as_str()) {
            spec.holder_identity = Some(self.name.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count + 1));
        }
        spec.lease_duration_seconds = i32::try_from(self.timing.lease.as_secs().max(1)).ok();
        spec.renew_time = Some(now);
        let metadata = &mut lease.metadata;
        metadata.name = Some(LEASE.to_owned());
        metadata.managed_fields = None;
        metadata.annotations.get_or_insert_with(BTreeMap::new).insert(ENDPOINT.to_owned(), self.endpoint.clone());
        lease
    }

    /// Names nobody, so that the next one need not wait.
    async fn release(&self) {
        let release = async {
            let mut lease = readable(self.leases.get(LEASE).await?);
            if record(&lease).holder.as_deref() == Some(self.name.as_str()) {
                lease.metadata = ObjectMeta { managed_fields: None, ..lease.metadata };
                lease.spec.get_or_insert_with(LeaseSpec::default).holder_identity = Some(String::new());
                self.leases.replace(LEASE, &PostParams::default(), &Decoded::Object(lease)).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(Duration::from_secs(3), release).await {
            Ok(Ok(())) => tracing::info!("the Lease is given back"),
            Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "the Lease is not given back"),
            Err(_) => tracing::warn!("the Lease is not given back in time"),
        }
    }
}

/// The Lease. One that cannot be read names a holder that is silent: it is taken over as any other.
fn readable(lease: Decoded<Lease>) -> Lease {
    lease.read().unwrap_or_else(|unreadable| {
        let spec = LeaseSpec { holder_identity: Some(UNREADABLE.to_owned()), ..LeaseSpec::default() };
        Lease { metadata: unreadable.metadata, spec: Some(spec) }
    })
}

fn record(lease: &Lease) -> Record {
    Record {
        holder: lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()),
        version: lease.resource_version().unwrap_or_default(),
    }
}
