//! The agent's credential: a kubeconfig with a token, in a Secret. Knows when a new one is due and how it is made; never
//! keeps a token, and never shows one.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use nave_api::names::{AGENT, KUBECONFIG_KEY, MANAGER_MANAGER, tenant_namespace};
use nave_watch::Metadata;
use serde_json::json;

use super::call::{Error, call, call_if_there};
use super::children::{self, Owner};
use super::{HubApi, Settings};

/// Annotation: when the token in a Secret ends.
const EXPIRES: &str = "nave.dev/expires-at";
/// Annotation: when it was issued.
const ISSUED: &str = "nave.dev/issued-at";
/// Annotation: the uid of the account whose token it is; that of an account that is gone is void.
const ACCOUNT: &str = "nave.dev/account-uid";
/// Annotation: where the kubeconfig leads and whom it trusts, shortened.
const HUB: &str = "nave.dev/hub";

/// What a Secret says about the credential in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issued {
    at: Timestamp,
    expires: Timestamp,
    account: String,
    hub: String,
}

impl Issued {
    /// What the annotations say, if they say it all.
    pub(super) fn read(metadata: &ObjectMeta) -> Option<Self> {
        let text = |key: &str| metadata.annotations.as_ref()?.get(key).cloned();
        Some(Self {
            at: text(ISSUED)?.parse().ok()?,
            expires: text(EXPIRES)?.parse().ok()?,
            account: text(ACCOUNT)?,
            hub: text(HUB)?,
        })
    }

    /// How long this credential may stay: until two thirds of its life are over, as long as account and hub are the same.
    /// `None`: a new one is due.
    pub(super) fn remaining(&self, account: &str, hub: &str, now: Timestamp) -> Option<Duration> {
        if self.account != account || self.hub != hub {
            return None;
        }
        let (at, expires) = (self.at.as_second(), self.expires.as_second());
        let renew = at + expires.saturating_sub(at) / 3 * 2;
        u64::try_from(renew - now.as_second()).ok().filter(|left| *left > 0).map(Duration::from_secs)
    }

    /// When the token ends.
    pub(super) fn expires(&self) -> Time {
        Time(self.expires)
    }
}

/// The mark of a hub in a Secret: where it is and whom to trust.
pub(super) fn hub_mark(HubApi { url, authority }: &HubApi) -> String {
    // Its hash is short: it only has to differ when these do, and nobody gains by making it not.
    nave_api::names::intent_name("hub", "hub", &format!("{url}\n{}", STANDARD.encode(authority)))
}

/// The Secret's metadata, asked of the API. One that is being deleted is there as long as a finalizer holds it.
pub(super) async fn present(client: &Client, tenant: &str) -> Result<Option<ObjectMeta>, Error> {
    let secrets: Api<Metadata<Secret>> = Api::namespaced(client.clone(), &tenant_namespace(tenant));
    let secret = call_if_there("look for the credential", secrets.get(AGENT)).await?;
    Ok(secret.map(|secret| secret.meta().clone()))
}

/// Makes a credential: the Secret first, so that the token's life is bound to it.
pub(super) async fn issue(
    client: &Client,
    settings: &Settings,
    owner: &Owner,
    account_uid: &str,
) -> Result<Issued, Error> {
    let namespace = owner.namespace();
    let secrets: Api<Metadata<Secret>> = Api::namespaced(client.clone(), &namespace);
    let uid = secret_uid(&secrets, owner).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let (token, expires) = token(&accounts, &uid, settings.token_life).await?;
    let issued = Issued {
        at: Timestamp::now().round(k8s_openapi::jiff::Unit::Second).unwrap_or_default(),
        expires,
        account: account_uid.to_owned(),
        hub: hub_mark(&settings.hub),
    };
    let kubeconfig = kubeconfig(&settings.hub, &namespace, &token)?;
    let secret = secret(owner, uid, &issued, kubeconfig);
    let apply = PatchParams::apply(MANAGER_MANAGER).force();
    call("write the credential", secrets.patch(AGENT, &apply, &Patch::Apply(&secret))).await?;
    tracing::info!(tenant = owner.name, expires = %issued.expires, "issued a credential");
    Ok(issued)
}

/// The Secret's uid; an empty Secret is made where there is none.
async fn secret_uid(secrets: &Api<Metadata<Secret>>, owner: &Owner) -> Result<String, Error> {
    let present = call_if_there("look for the credential", secrets.get(AGENT)).await?;
    let secret = if let Some(secret) = present {
        secret
    } else {
        // Applied, not posted: only so may the right to create name the object.
        let empty = Secret { metadata: children::metadata(owner), ..Secret::default() };
        let apply = PatchParams::apply(MANAGER_MANAGER).force();
        call("make room for the credential", secrets.patch(AGENT, &apply, &Patch::Apply(&empty))).await?
    };
    secret.meta().uid.clone().ok_or(Error::Answer { act: "make room for the credential", lacks: "a uid" })
}

async fn token(accounts: &Api<ServiceAccount>, secret: &str, life: Duration) -> Result<(String, Timestamp), Error> {
    const ACT: &str = "ask for a token";
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(AGENT.to_owned()),
        uid: Some(secret.to_owned()),
    };
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: Vec::new(),
            bound_object_ref: Some(bound),
            expiration_seconds: Some(i64::try_from(life.as_secs()).unwrap_or(i64::MAX)),
        },
        ..TokenRequest::default()
    };
    let answer = call(ACT, accounts.create_token_request(AGENT, &PostParams::default(), &request)).await?;
    let status = answer.status.ok_or(Error::Answer { act: ACT, lacks: "a status" })?;
    Ok((status.token, status.expiration_timestamp.0))
}

fn secret(owner: &Owner, uid: String, issued: &Issued, kubeconfig: String) -> Secret {
    let Issued { at, expires, account, hub } = issued;
    let annotations =
        [(ISSUED, at.to_string()), (EXPIRES, expires.to_string()), (ACCOUNT, account.clone()), (HUB, hub.clone())];
    // With the uid, the write is refused when somebody has deleted the Secret meanwhile: the token was bound to that one.
    let metadata = ObjectMeta {
        uid: Some(uid),
        annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()),
        ..children::metadata(owner)
    };
    let data = BTreeMap::from([(KUBECONFIG_KEY.to_owned(), ByteString(kubeconfig.into_bytes()))]);
    Secret { metadata, data: Some(data), ..Secret::default() }
}

/// A kubeconfig that needs nothing beside it: certificates and token are in it.
fn kubeconfig(HubApi { url, authority }: &HubApi, namespace: &str, token: &str) -> Result<String, Error> {
    let mut cluster = json!({"server": url});
    if !authority.is_empty() {
        cluster["certificate-authority-data"] = STANDARD.encode(authority).into();
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "hub", "cluster": cluster}],
        "users": [{"name": AGENT, "user": {"token": token}}],
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": AGENT, "namespace": namespace}}],
        "current-context": "hub",
    });
    // Long strings on one line: a folded token is hard to copy.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&config, options)
        .map_err(|error| Error::Kubeconfig { source: Box::new(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued() -> Issued {
        let second = |number| Timestamp::from_second(number).unwrap();
        Issued { at: second(1000), expires: second(4000), account: "a".into(), hub: "h".into() }
    }

    fn remaining(account: &str, hub: &str, now: i64) -> Option<u64> {
        issued().remaining(account, hub, Timestamp::from_second(now).unwrap()).map(|left| left.as_secs())
    }

    fn api_at(url: &str, authority: &[u8]) -> HubApi {
        HubApi { url: url.into(), authority: authority.to_vec() }
    }

    fn api() -> HubApi {
        api_at("https://hub.example.com:6443", b"PEM")
    }

    #[test]
    fn a_credential_stays_for_two_thirds_of_its_life() {
        assert_eq!([1000, 2999, 3000, 9000].map(|now| remaining("a", "h", now)), [Some(2000), Some(1), None, None]);
    }

    #[test]
    fn another_account_or_another_hub_makes_a_new_credential_due() {
        assert_eq!((remaining("b", "h", 1000), remaining("a", "i", 1000)), (None, None));
        let moved = api_at("https://other.example.com", b"PEM");
        let trusts_another = api_at("https://hub.example.com:6443", b"OTHER");
        assert_ne!(hub_mark(&api()), hub_mark(&moved));
        assert_ne!(hub_mark(&api()), hub_mark(&trusts_another));
    }

    #[test]
    fn what_a_secret_is_told_is_read_from_it_again() {
        let shop = Owner { name: "shop".into(), uid: "t".into(), since: None };
        let secret = secret(&shop, "u".into(), &issued(), "text".into());
        assert_eq!(Issued::read(&secret.metadata), Some(issued()));
        assert_eq!(Issued::read(&ObjectMeta::default()), None);
    }

    #[test]
    fn a_kubeconfig_leads_to_the_tenants_own_namespace() {
        let text = kubeconfig(&api(), "tenant-shop", "secret-token").unwrap();
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["contexts"][0]["context"]["namespace"], "tenant-shop");
        assert_eq!(read["clusters"][0]["cluster"]["certificate-authority-data"], STANDARD.encode("PEM"));
        assert_eq!(read["users"][0]["user"]["token"], "secret-token");
    }
}
