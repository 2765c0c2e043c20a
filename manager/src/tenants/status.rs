//! What a Tenant's status says of its room and its agent. Decides it from what was found; `used`, and conditions of other
//! types, are the engine's.

use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use nave_api::condition::{self, ConditionType, Verdict};
use nave_api::tenant::{AgentStatus, Credential};
use nave_api::{GROUP, Tenant, TenantStatus, VERSION, names};
use serde_json::json;

use super::error::{Error, call};
use super::heartbeat::Heard;
use super::room::Room;

/// Server-side apply: this room's own name, so that what it leaves out of a status stays.
const MANAGER: &str = "nave-manager-tenants";
const OURS: [ConditionType; 2] = [ConditionType::Ready, ConditionType::AgentConnected];

/// What became of a tenant's room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// All is there; the token in the credential ends then.
    Ready(Timestamp),
    /// A namespace of this name is not ours.
    Taken,
    /// The namespace is being deleted, not by us.
    Ending,
    /// The API refuses, for good.
    Refused(String),
    /// The tenant is being deleted, and waits for this.
    Deleting(&'static str),
}

/// Writes the status, unless it says so already.
pub(super) async fn write(room: &Room, tenant: &Tenant, finding: &Finding, heard: Option<&Heard>) -> Result<(), Error> {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    let before = tenant.status.clone().unwrap_or_default();
    let wanted = decide(name, &before, tenant.metadata.generation, finding, heard, (Instant::now(), Timestamp::now()));
    if wanted == part(before) {
        return Ok(());
    }
    let TenantStatus { namespace, credential, used: _, agent, conditions } = wanted;
    let mut status = json!({"conditions": conditions});
    for (key, value) in [("namespace", json!(namespace)), ("credential", json!(credential)), ("agent", json!(agent))] {
        if !value.is_null() {
            status[key] = value;
        }
    }
    let object = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Tenant",
        "metadata": {"name": name, "uid": tenant.metadata.uid}, "status": status});
    let tenants: Api<Tenant> = Api::all(room.client.clone());
    let params = PatchParams::apply(MANAGER).force();
    call("write the status of", name, tenants.patch_status(name, &params, &Patch::Apply(&object))).await?;
    Ok(())
}

/// Our part of a status.
fn part(status: TenantStatus) -> TenantStatus {
    let TenantStatus { namespace, credential, used: _, agent, mut conditions } = status;
    conditions.retain(|condition| OURS.iter().any(|ours| ours.as_str() == condition.type_));
    TenantStatus { namespace, credential, used: None, agent, conditions }
}

/// Our part of the status as it should be.
fn decide(
    name: &str,
    before: &TenantStatus,
    generation: Option<i64>,
    finding: &Finding,
    heard: Option<&Heard>,
    (now, clock): (Instant, Timestamp),
) -> TenantStatus {
    let before = part(before.clone());
    let connected = heard.is_some_and(|heard| heard.left(now).is_some());
    let verdicts = [ready(name, finding), agent_connected(heard, connected)];
    let credential = match finding {
        Finding::Ready(expires) => {
            Some(Credential { secret_name: names::AGENT.to_owned(), expires_at: Some(seconds(*expires)) })
        }
        Finding::Deleting(_) | Finding::Refused(_) => before.credential.clone(),
        Finding::Taken | Finding::Ending => None,
    };
    TenantStatus {
        namespace: (*finding != Finding::Taken).then(|| names::tenant_namespace(name)),
        credential,
        used: None,
        agent: agent(&before, heard, connected),
        conditions: condition::settle(&before.conditions, &verdicts, generation, &seconds(clock)),
    }
}

fn ready(name: &str, finding: &Finding) -> Verdict {
    let namespace = names::tenant_namespace(name);
    let fails = |reason: &str, message: String| Verdict::fails(ConditionType::Ready, reason, message);
    match finding {
        Finding::Ready(_) => Verdict::holds(
            ConditionType::Ready,
            "Ready",
            format!("{namespace} and the agent's credential in it are there"),
        ),
        Finding::Taken => fails(
            "NamespaceTaken",
            format!(
                "the namespace {namespace} exists and is not this tenant's; delete it, or label it {}={name} to give it to the tenant",
                names::TENANT_LABEL
            ),
        ),
        Finding::Ending => fails(
            "NamespaceEnding",
            format!("the namespace {namespace} is being deleted; it is made anew once it is gone"),
        ),
        Finding::Refused(message) => fails("Refused", format!("the API refuses to {message}")),
        Finding::Deleting(what) => fails("Deleting", format!("the tenant is being deleted and waits for {what}")),
    }
}

fn agent_connected(heard: Option<&Heard>, connected: bool) -> Verdict {
    let kind = ConditionType::AgentConnected;
    match heard {
        Some(_) if connected => Verdict::holds(kind, "Heard", "the agent renews its Lease"),
        Some(_) => Verdict::fails(
            kind,
            "Silent",
            "the agent has not renewed its Lease for 90 s or more; what it asked for stays served",
        ),
        None => Verdict::fails(kind, "NeverHeard", "no agent has used this tenant's credential yet"),
    }
}

/// The agent's last word, written when it comes, goes or changes its version: not at every renewal.
fn agent(before: &TenantStatus, heard: Option<&Heard>, connected: bool) -> Option<AgentStatus> {
    let word = match heard {
        Some(heard) => heard.word(),
        None => return before.agent.clone(),
    };
    let known = before.agent.as_ref().is_some_and(|agent| agent.version == word.version);
    if known && connected == condition::is_true(&before.conditions, ConditionType::AgentConnected) {
        return before.agent.clone();
    }
    Some(AgentStatus { version: word.version.clone(), seen_at: Some(seconds(word.at)) })
}

/// A time as the API keeps it.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::super::heartbeat::{PATIENCE, Word};
    use super::*;

    fn clock(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn heard(second: i64, now: Instant) -> Heard {
        let word = Word { version: Some("0.1.0".into()), at: clock(second) };
        Heard::hear(None, word, false, now, clock(second))
    }

    #[test]
    fn renewals_of_the_lease_change_nothing_in_the_status() {
        let now = Instant::now();
        let finding = Finding::Ready(clock(9000));
        let first =
            decide("shop", &TenantStatus::default(), Some(1), &finding, Some(&heard(100, now)), (now, clock(100)));
        let later = decide("shop", &first, Some(1), &finding, Some(&heard(130, now)), (now, clock(130)));
        assert_eq!(first, later);
        assert!(condition::is_true(&first.conditions, ConditionType::AgentConnected));
    }

    #[test]
    fn an_agent_that_falls_silent_was_last_seen_when_it_last_spoke() {
        let now = Instant::now();
        let finding = Finding::Ready(clock(9000));
        let first =
            decide("shop", &TenantStatus::default(), Some(1), &finding, Some(&heard(100, now)), (now, clock(100)));
        let silent = decide("shop", &first, Some(1), &finding, Some(&heard(400, now)), (now + PATIENCE, clock(490)));
        assert_eq!(silent.agent.unwrap().seen_at, Some(seconds(clock(400))));
        assert!(!condition::is_true(&silent.conditions, ConditionType::AgentConnected));
    }

    #[test]
    fn what_the_engine_says_of_a_tenant_is_left_alone() {
        let used = Some(nave_api::tenant::Usage { load_balancers: 3, ..Default::default() });
        let accepted = Verdict::fails(ConditionType::Accepted, "Overlap", "…");
        let conditions = condition::settle(&[], &[accepted], Some(1), &seconds(clock(1)));
        let before = TenantStatus { used, conditions, ..TenantStatus::default() };
        let status = decide("shop", &before, Some(1), &Finding::Taken, None, (Instant::now(), clock(2)));
        assert_eq!(status.used, None);
        assert!(condition::find(&status.conditions, ConditionType::Accepted).is_none());
    }
}
