//! What a Tenant's status says of its room. Knows words and when they change; `used` is another room's.

use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use nave_api::cluster::Mark;
use nave_api::condition::{self, ConditionType, Verdict};
use nave_api::names::{AGENT, CLUSTER, KUBECONFIG_KEY, tenant_namespace};
use nave_api::tenant::{AgentStatus, Credential};
use nave_api::{Condition, Tenant, TenantStatus};
use nave_watch::Metadata;
use serde_json::json;

use super::call::{Error, call_if_there};
use super::credential::Issued;
use super::heartbeat::Heard;

/// Server-side apply: this room's part of a Tenant's status.
const FIELD_MANAGER: &str = "nave-manager-tenants";

/// Our part of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ours {
    namespace: Option<String>,
    credential: Option<Credential>,
    agent: Option<AgentStatus>,
    conditions: Vec<Condition>,
}

impl Ours {
    /// Our part of what a Tenant says now.
    pub(super) fn read(tenant: &Tenant) -> Self {
        let status = tenant.status.clone().unwrap_or_default();
        let TenantStatus { namespace, credential, used: _, agent, conditions } = status;
        let mine = |one: &Condition| {
            [ConditionType::Ready, ConditionType::AgentConnected]
                .map(ConditionType::as_str)
                .contains(&one.type_.as_str())
        };
        Self { namespace, credential, agent, conditions: conditions.into_iter().filter(mine).collect() }
    }

    /// Whether the agent counts as connected.
    pub(super) fn is_connected(&self) -> bool {
        condition::is_true(&self.conditions, ConditionType::AgentConnected)
    }

    /// With the credential that is issued.
    pub(super) fn with_credential(self, tenant: &str, issued: &Issued) -> Self {
        let credential = Credential { secret_name: AGENT.to_owned(), expires_at: Some(issued.expires()) };
        Self { namespace: Some(tenant_namespace(tenant)), credential: Some(credential), ..self }
    }

    /// Without a namespace or credential.
    pub(super) fn without_room(self) -> Self {
        Self { namespace: None, credential: None, ..self }
    }

    /// With a verdict on the room.
    pub(super) fn with(self, verdict: Verdict, generation: Option<i64>, now: Timestamp) -> Self {
        let conditions = condition::settle(&self.conditions, &[verdict], generation, &Time(now));
        Self { conditions, ..self }
    }

    /// With what was heard of the agent. The time is written only when something else changes: a heartbeat writes nothing.
    pub(super) fn with_agent(self, heard: Option<&Heard>, tenant: &Tenant, now: Instant, wall: Timestamp) -> Self {
        let version = heard.and_then(Heard::version);
        let connected = heard.is_some_and(|heard| heard.remaining(now).is_some());
        let verdict = hearing(connected, heard, &tenant.name_any(), now);
        let cluster = heard.and_then(Heard::owner).map(Mark::to_string);
        let known = self.agent.as_ref().map(|agent| (agent.version.as_ref(), agent.cluster.as_ref()));
        let changed = known.unwrap_or_default() != (version.as_ref(), cluster.as_ref());
        let news = connected != self.is_connected() || (connected && changed);
        let agent = match (news, heard) {
            (true, Some(heard)) => {
                // The agent's clock may be anywhere, and the schema does not take every time that a Lease may have.
                let believed = |renewed: Timestamp| renewed.min(wall).max(Timestamp::UNIX_EPOCH);
                let seen = if connected { Some(wall) } else { heard.renewed().map(believed) };
                let seen_at = seen.and_then(|time| Timestamp::from_second(time.as_second()).ok()).map(Time);
                Some(AgentStatus { version, seen_at, cluster })
            }
            (true | false, _) => self.agent.clone(),
        };
        Self { agent, ..self.with(verdict, tenant.metadata.generation, wall) }
    }

    /// Writes it, unless the Tenant says so already.
    pub(super) async fn write(self, client: &Client, tenant: &Tenant) -> Result<(), Error> {
        if self == Self::read(tenant) {
            return Ok(());
        }
        let Self { namespace, credential, agent, conditions } = self;
        let status = json!({
            "apiVersion": "nave.dev/v1alpha1",
            "kind": "Tenant",
            // With the uid, a Tenant that was deleted and made again is not told what is not its own.
            "metadata": {"uid": tenant.metadata.uid},
            "status": without_nulls(json!({"namespace": namespace, "credential": credential, "agent": agent, "conditions": conditions})),
        });
        let tenants: Api<Metadata<Tenant>> = Api::all(client.clone());
        let apply = PatchParams::apply(FIELD_MANAGER).force();
        let name = tenant.name_any();
        call_if_there("write the status of a Tenant", tenants.patch_status(&name, &apply, &Patch::Apply(&status)))
            .await
            .map(drop)
    }
}

fn without_nulls(mut object: serde_json::Value) -> serde_json::Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    object
}

/// Everything is there.
pub(super) fn ready() -> Verdict {
    Verdict::holds(ConditionType::Ready, "Ready", "namespace and credential are there")
}

/// Something is not there, and why.
pub(super) fn unready(reason: &str, message: impl Into<String>) -> Verdict {
    Verdict::fails(ConditionType::Ready, reason, message)
}

fn hearing(connected: bool, heard: Option<&Heard>, tenant: &str, now: Instant) -> Verdict {
    let kind = ConditionType::AgentConnected;
    if let Some((owner, (other, _))) = heard.and_then(|heard| heard.owner().zip(heard.other(now))) {
        let message = format!(
            "the agents of two clusters have the credential of this Tenant: it belongs to cluster {owner}, and the agent of cluster \
            {other} changes nothing. Give cluster {other} a Tenant of its own, or move this one to it: \
            kubectl annotate tenant {tenant} --overwrite {CLUSTER}={other}"
        );
        let verdict = if connected { Verdict::holds } else { Verdict::fails };
        return verdict(kind, "OtherCluster", &message);
    }
    let renewed = heard.and_then(Heard::renewed);
    match (connected, renewed) {
        (true, _) => Verdict::holds(kind, "Heard", "the agent renews its Lease"),
        (false, Some(renewed)) => {
            let since = Timestamp::from_second(renewed.as_second()).unwrap_or(renewed);
            Verdict::fails(
                kind,
                "Silent",
                format!("the agent has not renewed its Lease since {since}, by its own clock: look at its log"),
            )
        }
        (false, None) => {
            let namespace = tenant_namespace(tenant);
            let message = format!(
                "the agent was never heard: give it the kubeconfig in Secret {namespace}/{AGENT}, key {KUBECONFIG_KEY}"
            );
            Verdict::fails(kind, "NeverHeard", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use nave_api::tenant::Usage;

    use super::super::heartbeat::PATIENCE;

    fn clock(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease(version: &str, renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(format!("{version}/7f3a")),
            renew_time: Some(MicroTime(clock(renewed))),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    /// What is said after each of these renewals, heard at the second they name.
    fn said(renewals: &[(&str, i64)]) -> Vec<Ours> {
        let (tenant, start) = (Tenant::new("shop", nave_api::TenantSpec::default()), Instant::now());
        let mut heard = None;
        let mut said = vec![Ours::default()];
        for (version, second) in renewals {
            let (now, wall) = (start + std::time::Duration::from_secs(second.unsigned_abs()), clock(*second));
            heard = Some(Heard::listen(heard.as_ref(), &lease(version, *second), false, now, wall));
            let before = said.last().cloned().unwrap();
            said.push(before.with_agent(heard.as_ref(), &tenant, now, wall));
        }
        said.split_off(1)
    }

    #[test]
    fn a_heartbeat_changes_nothing_that_is_said() {
        let said = said(&[("0.1.0", 100), ("0.1.0", 130), ("0.1.0", 160)]);
        assert!(said[0].is_connected());
        assert_eq!((&said[0], &said[0]), (&said[1], &said[2]));
    }

    #[test]
    fn a_new_version_is_news() {
        let said = said(&[("0.1.0", 100), ("0.2.0", 130)]);
        let agent = |one: &Ours| one.agent.clone().unwrap();
        assert_eq!(agent(&said[1]).version.as_deref(), Some("0.2.0"));
        assert_eq!(agent(&said[1]).seen_at, Some(Time(clock(130))));
    }

    #[test]
    fn an_agent_that_falls_silent_was_seen_when_it_last_spoke() {
        let (tenant, start) = (Tenant::new("shop", nave_api::TenantSpec::default()), Instant::now());
        let heard = Heard::listen(None, &lease("0.1.0", 400), false, start, clock(401));
        let first = Ours::default().with_agent(Some(&heard), &tenant, start, clock(401));
        let silent = first.with_agent(Some(&heard), &tenant, start + PATIENCE, clock(491));
        assert!(!silent.is_connected());
        assert_eq!(silent.agent.clone().unwrap().seen_at, Some(Time(clock(400))));
        let later = silent.clone().with_agent(Some(&heard), &tenant, start + 2 * PATIENCE, clock(581));
        assert_eq!(later, silent);
    }

    #[test]
    fn a_an_agent_whose_clock_is_anywhere_was_seen_at_a_time_that_the_schema_takes() {
        let (tenant, start) = (Tenant::new("shop", nave_api::TenantSpec::default()), Instant::now());
        let (connected, wall) = (lease("0.1.0", 400), clock(401));
        let heard = Heard::listen(None, &connected, false, start, wall);
        let first = Ours::default().with_agent(Some(&heard), &tenant, start, wall);
        for (renewed, seen) in [(Timestamp::MAX, wall), (Timestamp::MIN, clock(0)), (clock(300), clock(300))] {
            let mut strange = lease("0.1.0", 400);
            strange.spec.as_mut().unwrap().renew_time = Some(MicroTime(renewed));
            // A manager that has just begun to look believes no time that is far from its own.
            let heard = Heard::listen(None, &strange, false, start, wall);
            let silent = first.clone().with_agent(Some(&heard), &tenant, start + PATIENCE, wall);
            assert_eq!(silent.agent.unwrap().seen_at, Some(Time(seen)), "{renewed}");
        }
    }

    #[test]
    fn h_the_condition_names_both_clusters_and_goes_with_the_other_one() {
        let (tenant, start) = (Tenant::new("shop", nave_api::TenantSpec::default()), Instant::now());
        let mut lease = lease("0.1.0", 400);
        lease.metadata.labels = Some([("nave.dev/cluster".to_owned(), "c1".to_owned())].into());
        let word = format!("c2 {}", clock(400));
        lease.metadata.annotations = Some([("nave.dev/other-cluster".to_owned(), word)].into());
        let heard = Heard::listen(None, &lease, false, start, clock(401));
        let said = |status: &Ours| {
            let condition = condition::find(&status.conditions, ConditionType::AgentConnected).unwrap().clone();
            (condition.status, condition.reason, condition.message)
        };
        let first = Ours::default().with_agent(Some(&heard), &tenant, start, clock(401));
        let (status, reason, message) = said(&first);
        assert_eq!((&*status, &*reason), ("True", "OtherCluster"));
        assert!(message.contains("belongs to cluster c1") && message.contains("cluster c2"), "{message}");
        assert!(message.ends_with("kubectl annotate tenant shop --overwrite nave.dev/cluster=c2"), "{message}");
        assert_eq!(first.agent.clone().unwrap().cluster.as_deref(), Some("c1"));
        let later = start + PATIENCE;
        let silent = first.with_agent(Some(&heard), &tenant, later, clock(491));
        assert_eq!(said(&silent).1, "Silent", "neither of them is heard any more");
        lease.spec = None;
        let owner_is_gone = Heard::listen(None, &lease, false, start, clock(401));
        let waiting = Ours::default().with_agent(Some(&owner_is_gone), &tenant, start, clock(401));
        assert_eq!((&*said(&waiting).0, &*said(&waiting).1), ("False", "OtherCluster"));
    }

    #[test]
    fn what_other_rooms_say_of_a_tenant_is_not_ours() {
        let accepted = Verdict::fails(ConditionType::Accepted, "Overlap", "its networks are another's, too");
        let status = TenantStatus {
            used: Some(Usage { load_balancers: 3, ..Usage::default() }),
            conditions: condition::settle(&[], &[accepted], Some(1), &Time(clock(1))),
            ..TenantStatus::default()
        };
        let tenant = Tenant { status: Some(status), ..Tenant::new("shop", nave_api::TenantSpec::default()) };
        assert_eq!(Ours::read(&tenant), Ours::default());
    }
}
