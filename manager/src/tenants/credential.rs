//! The Secret with the agent's kubeconfig: when it must be made anew, and what it says. The token is bound to the Secret,
//! and ends with it. Never logs or shows what it holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use nave_api::names;
use serde_json::{Value, json};

use super::Settings;
use super::desired;

/// How long a token lives.
pub(super) const LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Annotation: when the token in the Secret ends.
const EXPIRES: &str = "nave.dev/expires-at";
/// Annotation: when it was issued.
const ISSUED: &str = "nave.dev/issued-at";
/// Annotation: the uid of the ServiceAccount that it was issued for.
const ACCOUNT: &str = "nave.dev/account-uid";

/// What a Secret says of the token in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// When it was issued.
    pub(super) issued: Timestamp,
    /// When it ends.
    pub(super) expires: Timestamp,
}

impl Term {
    /// When the token is replaced: when two thirds of its life are over.
    pub(super) fn renew_at(&self) -> Timestamp {
        let life = self.expires.duration_since(self.issued);
        self.issued.checked_add(life / 3 * 2).unwrap_or(self.issued)
    }
}

/// The term of the credential in `secret`, when it is a good one: for this account, this hub and not yet to be renewed.
pub(super) fn current(secret: &Secret, account: &str, settings: &Settings, now: Timestamp) -> Option<Term> {
    let annotation = |key: &str| secret.metadata.annotations.as_ref()?.get(key);
    let term = Term { issued: annotation(ISSUED)?.parse().ok()?, expires: annotation(EXPIRES)?.parse().ok()? };
    let ByteString(text) = secret.data.as_ref()?.get(names::KUBECONFIG_KEY)?;
    let held: Value = serde_json::from_slice(text).ok()?;
    let ours = held["clusters"] == kubeconfig(settings, "", "")["clusters"];
    (annotation(ACCOUNT)? == account && ours && now < term.renew_at()).then_some(term)
}

/// The Secret without a token: what a token is bound to must be there first.
pub(super) fn empty(tenant: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": desired::metadata(tenant)})
}

/// The Secret with a token.
pub(super) fn filled(tenant: &str, uid: &str, account: &str, settings: &Settings, token: &str, term: &Term) -> Value {
    let mut secret = empty(tenant);
    secret["metadata"]["uid"] = uid.into();
    secret["metadata"]["annotations"] =
        json!({EXPIRES: term.expires.to_string(), ISSUED: term.issued.to_string(), ACCOUNT: account});
    let text = kubeconfig(settings, &names::tenant_namespace(tenant), token).to_string();
    secret["data"] = json!({names::KUBECONFIG_KEY: STANDARD.encode(text)});
    secret
}

/// A kubeconfig that carries everything in itself. JSON is YAML, too.
fn kubeconfig(settings: &Settings, namespace: &str, token: &str) -> Value {
    let Settings { hub_api_url, hub_ca } = settings;
    let mut cluster = json!({"server": hub_api_url});
    if !hub_ca.is_empty() {
        cluster["certificate-authority-data"] = STANDARD.encode(hub_ca).into();
    }
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "hub",
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": names::AGENT, "namespace": namespace}}],
        "clusters": [{"name": "hub", "cluster": cluster}],
        "users": [{"name": names::AGENT, "user": {"token": token}}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn hub(url: &str) -> Settings {
        Settings { hub_api_url: url.into(), hub_ca: b"pem".to_vec() }
    }

    fn secret() -> Secret {
        let term = Term { issued: at(0), expires: at(900) };
        serde_json::from_value(filled("shop", "u", "account-1", &hub("https://hub"), "t", &term)).unwrap()
    }

    #[test]
    fn a_credential_is_good_until_two_thirds_of_its_life_are_over() {
        let held = |now| current(&secret(), "account-1", &hub("https://hub"), at(now)).is_some();
        assert!(held(0) && held(599));
        assert!(!held(600));
    }

    #[test]
    fn another_account_or_another_hub_needs_another_credential() {
        assert_eq!(current(&secret(), "account-2", &hub("https://hub"), at(1)), None);
        assert_eq!(current(&secret(), "account-1", &hub("https://elsewhere"), at(1)), None);
    }

    #[test]
    fn a_secret_that_somebody_emptied_is_no_credential() {
        let emptied = Secret { data: None, ..secret() };
        assert_eq!(current(&emptied, "account-1", &hub("https://hub"), at(1)), None);
    }
}
