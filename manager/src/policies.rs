//! Whether the admission policies of the manager's chart are in force: what docs/security.md says of agents holds by them. Knows their
//! names; what they say is the chart's matter.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Api, Client};
use nave_watch::{Decoded, Metadata};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{sleep, timeout};

/// Each is a policy and a binding of this name.
const NAMES: [&str; 5] = [
    "nave-agents-objects",
    "nave-agents-secrets",
    "nave-agents-tokens",
    "nave-managers-bindings",
    "nave-managers-secrets",
];
/// Between two looks at all of them.
pub(crate) const PACE: Duration = Duration::from_mins(5);
/// How long the API may take to show one.
const PATIENCE: Duration = Duration::from_secs(15);

/// Looks for ever: says in the log which are missing when that changes, and in a metric how many.
pub(crate) async fn watch_over(client: Client, missing: Gauge, pace: Duration) {
    let mut known = BTreeSet::new();
    loop {
        // Where the API does not say it, what it said last holds.
        if let Some(now) = look(&client).await {
            report(&known, &now);
            missing.set(i64::try_from(now.len()).unwrap_or(i64::MAX));
            known = now;
        }
        sleep(pace).await;
    }
}

fn report(before: &BTreeSet<&'static str>, now: &BTreeSet<&'static str>) {
    if now == before {
        return;
    }
    if now.is_empty() {
        tracing::info!("all admission policies of the manager's chart are in force again");
    } else {
        let missing = now.iter().copied().collect::<Vec<_>>().join(", ");
        tracing::error!(
            missing,
            "admission policies are not in force: agents may do what they forbid; install the chart again"
        );
    }
}

/// The policies that are not in force. `None`: the API does not say it.
async fn look(client: &Client) -> Option<BTreeSet<&'static str>> {
    let policies: Api<Metadata<ValidatingAdmissionPolicy>> = Api::all(client.clone());
    let bindings: Api<Decoded<ValidatingAdmissionPolicyBinding>> = Api::all(client.clone());
    let mut missing = BTreeSet::new();
    for name in NAMES {
        let policy = timeout(PATIENCE, policies.get_opt(name)).await.ok()?.ok()?;
        let binding = timeout(PATIENCE, bindings.get_opt(name)).await.ok()?.ok()?;
        if policy.is_none() || !binding.is_some_and(|binding| denies(binding, name)) {
            missing.insert(name);
        }
    }
    Some(missing)
}

/// Whether the binding has its policy deny. One that cannot be read is there: it is not known to do less.
fn denies(binding: Decoded<ValidatingAdmissionPolicyBinding>, policy: &str) -> bool {
    let Some(binding) = binding.readable() else { return true };
    let spec = binding.spec.unwrap_or_default();
    let denies = spec.validation_actions.iter().flatten().any(|action| action == "Deny");
    denies && spec.policy_name.as_deref() == Some(policy) && spec.match_resources.is_none()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nave_watch::stub;
    use serde_json::{Value, json};

    use super::*;

    /// What is missing where the API shows this binding of `nave-agents-secrets`, and everything else as the chart has it.
    async fn missing(binding: (u16, Value)) -> Option<BTreeSet<&'static str>> {
        let client = stub::client(move |asked| {
            let name = asked.rsplit('/').next().unwrap_or_default();
            let is_binding = asked.contains("bindings");
            if is_binding && name == "nave-agents-secrets" { binding.clone() } else { (200, bound(name, "Deny")) }
        });
        look(&client).await
    }

    fn absent() -> (u16, Value) {
        (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}))
    }

    fn bound(name: &str, action: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": [action]}})
    }

    #[tokio::test]
    async fn p_a_policy_that_is_deleted_or_does_not_deny_is_missing() {
        let name = "nave-agents-secrets";
        assert_eq!(missing((200, bound(name, "Deny"))).await, Some(BTreeSet::new()));
        let mut narrowed = bound(name, "Deny");
        narrowed["spec"]["matchResources"] = json!({"namespaceSelector": {}});
        for shown in [absent(), (200, bound(name, "Warn")), (200, bound("other", "Deny")), (200, narrowed)] {
            assert_eq!(missing(shown.clone()).await, Some([name].into()), "{shown:?}");
        }
    }

    #[tokio::test]
    async fn p_of_an_api_that_does_not_say_it_nothing_is_reported() {
        for code in [403, 500, 503] {
            assert_eq!(missing(stub::refusal(code)).await, None, "{code}");
        }
    }

    #[tokio::test]
    async fn p_the_metric_counts_what_is_missing_and_the_api_is_asked_at_the_pace() {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let client = stub::client(move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            absent()
        });
        let gauge = Gauge::default();
        let watch = watch_over(client, gauge.clone(), Duration::from_hours(1));
        assert!(timeout(Duration::from_millis(200), watch).await.is_err());
        assert_eq!((gauge.get(), asked.load(std::sync::atomic::Ordering::SeqCst)), (5, 10));
    }
}
