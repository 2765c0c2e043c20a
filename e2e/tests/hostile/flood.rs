//! Ten thousand objects as fast as the API server takes them. Knows how many were taken; judges nothing.

use std::time::Duration;

use futures::StreamExt;
use http::Method;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::DeleteParams;
use kube::{Api, Client};
use nave_e2e::{Lab, wait};
use serde_json::{Value, json};

use super::attempt::{OWN, balancer, bytes, intents, send};
use super::{PATIENCE, apply};

/// So many are tried.
pub const TRIED: usize = 10_000;
/// So many the Tenant may have; the ResourceQuota leaves as much again and a hundred above.
pub const QUOTA: usize = 100;
/// So many the API server takes.
pub const TAKEN: usize = 2 * QUOTA + 100;
const AT_ONCE: usize = 32;
/// How long a quota that is counted at all takes for it.
const COUNTING: Duration = Duration::from_secs(20);
const COUNTED: &str = "count/tcploadbalancers.nave.dev";

/// What the API server answered.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many it took.
    pub taken: usize,
    /// How many it refused, naming the quota.
    pub refused: usize,
    /// What else it said.
    pub others: Vec<String>,
}

/// Sets the attacker's quota and waits until the API server has heard of it.
pub async fn limit(lab: &Lab) {
    let backends = json!({"allow": [lab.plan().nodes(2)]});
    let quota = json!({"loadBalancers": QUOTA, "addresses": 10});
    apply(lab, "Tenant", "spoke-2", json!({"backends": backends, "quota": quota})).await;
    // As the manager makes it once our kinds are two minutes old; those of a test are younger.
    let hard = json!({COUNTED: TAKEN.to_string()});
    let metadata = json!({"name": "agent", "namespace": OWN});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}});
    let quotas: Api<ResourceQuota> = Api::namespaced(lab.hub.client(), OWN);
    // Kubernetes' quota controller hears of kinds as young as ours only after half a minute; a quota that was there before that
    // refuses everything for five. It is made anew until it is counted.
    wait::until("the quota is in force", PATIENCE * 2, || async {
        lab.hub.apply(&quota).await.map_err(|error| format!("{error:?}"))?;
        let counted = wait::until("it is counted", COUNTING, || async { is_counted(&quotas).await }).await;
        if counted.is_err() {
            quotas.delete("agent", &DeleteParams::default()).await.map_err(|error| error.to_string())?;
        }
        counted.map_err(|error| format!("{error:?}"))
    })
    .await
    .unwrap();
}

async fn is_counted(quotas: &Api<ResourceQuota>) -> Result<(), String> {
    let quota = quotas.get("agent").await.map_err(|error| error.to_string())?;
    let used = quota.status.and_then(|status| status.used).unwrap_or_default();
    if used.contains_key(COUNTED) { Ok(()) } else { Err(format!("{used:?}")) }
}

/// Sends them all.
pub async fn pour(attacker: Client, node: String) -> Outcome {
    let path = intents(OWN);
    let answers = futures::stream::iter(0..TRIED).map(|number| {
        let (attacker, path, body) = (&attacker, &path, bytes(&balancer(&format!("flood-{number}"), &node)));
        let headers = [("content-type", "application/json".to_owned())];
        async move { send(attacker, &Method::POST, path, &headers, &body).await }
    });
    let count = |mut outcome: Outcome, answer: Result<Value, (u16, String)>| {
        match answer {
            Ok(_) => outcome.taken += 1,
            Err((403, text)) if text.contains("exceeded quota: agent") => outcome.refused += 1,
            Err((code, text)) => outcome.others.push(format!("{code} {text}")),
        }
        futures::future::ready(outcome)
    };
    answers.buffer_unordered(AT_ONCE).fold(Outcome::default(), count).await
}
