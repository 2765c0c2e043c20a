//! The Secrets of the tenants' credentials as they were when the manager looked last. Knows how often it looks; knows no content.
//!
//! RBAC gives a watch on all Secrets of the hub or on those of one namespace. The first would show the manager what is not its own, the second
//! is a connection for each tenant. So the manager asks, one tenant after the other: each of up to 40 tenants once a second, of 1000 every
//! 25 seconds, and never more than 40 times a second in all. The API server answers from its cache.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::GetParams;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use nave_api::names::{AGENT, tenant_namespace};
use nave_watch::Metadata;
use tokio::time::sleep;

use super::call::call_if_there;

/// A tenant's Secret is looked at this often at most.
const ROUND: Duration = Duration::from_secs(1);
/// Between two looks at least.
const PACE: Duration = Duration::from_millis(25);
/// Between two looks at most, while the API answers none.
const SLOWEST: Duration = Duration::from_secs(30);

/// What was seen, by tenant, in whose namespace the manager has its rights. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Looks(Arc<Mutex<BTreeMap<String, Option<ObjectMeta>>>>);

impl Looks {
    fn known<T>(&self, with: impl FnOnce(&mut BTreeMap<String, Option<ObjectMeta>>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the manager has its rights in the tenant's namespace, as far as it knows.
    pub(super) fn is_entrusted(&self, tenant: &str) -> bool {
        self.known(|known| known.contains_key(tenant))
    }

    /// The manager has its rights there: its Secret is looked at from now on.
    pub(super) fn entrust(&self, tenant: &str) {
        self.known(|known| {
            known.entry(tenant.to_owned()).or_default();
        });
    }

    /// The manager has no rights there any more.
    pub(super) fn forget(&self, tenant: &str) {
        self.known(|known| known.remove(tenant));
    }

    /// The tenants in whose namespaces the manager has its rights.
    pub(super) fn tenants(&self) -> Vec<String> {
        self.known(|known| known.keys().cloned().collect())
    }

    /// The Secret as it was seen last. `None`: it was not there, or was not looked at yet.
    pub(super) fn secret(&self, tenant: &str) -> Option<ObjectMeta> {
        self.known(|known| known.get(tenant).cloned().flatten())
    }

    /// Takes note of the Secret as it is; whether that is news.
    pub(super) fn note(&self, tenant: &str, secret: Option<ObjectMeta>) -> bool {
        self.known(|known| {
            let Some(before) = known.get_mut(tenant) else { return false };
            let version = |secret: &Option<ObjectMeta>| secret.as_ref().map(|one| one.resource_version.clone());
            let is_news = version(before) != version(&secret);
            *before = secret;
            is_news
        })
    }

    /// Looks for as long as it is polled: the namespaces whose Secret has changed.
    pub(super) fn changes(&self, client: Client) -> impl Stream<Item = watcher::Result<Namespace>> + Send + 'static {
        let round = Round { looks: self.clone(), client, waiting: Vec::new(), pace: ROUND, failures: 0 };
        stream::unfold(round, |mut round| async {
            let tenant = round.next().await;
            let metadata = ObjectMeta { name: Some(tenant_namespace(&tenant)), ..ObjectMeta::default() };
            Some((Ok(Namespace { metadata, ..Namespace::default() }), round))
        })
        .boxed()
    }
}

/// One round after the other.
struct Round {
    looks: Looks,
    client: Client,
    waiting: Vec<String>,
    pace: Duration,
    /// Looks in a row that the API did not answer.
    failures: u32,
}

impl Round {
    /// The next tenant whose Secret has changed.
    async fn next(&mut self) -> String {
        loop {
            sleep(slower(self.pace, self.failures)).await;
            let Some(tenant) = self.waiting.pop() else {
                self.waiting = self.looks.tenants();
                self.pace = pace(self.waiting.len());
                continue;
            };
            match self.look(&tenant).await {
                Some(is_news) => {
                    self.failures = 0;
                    if is_news {
                        return tenant;
                    }
                }
                None => self.failures = self.failures.saturating_add(1),
            }
        }
    }

    /// Whether the Secret has changed. `None`: the API gave no answer. What is wrong then, the visit to the tenant says.
    async fn look(&self, tenant: &str) -> Option<bool> {
        let secrets: Api<Metadata<Secret>> = Api::namespaced(self.client.clone(), &tenant_namespace(tenant));
        match call_if_there("look at a credential", secrets.get_with(AGENT, &GetParams::any())).await {
            Ok(seen) => Some(self.looks.note(tenant, seen.map(|secret| secret.meta().clone()))),
            Err(error) => error.refusal().map(|_| false),
        }
    }
}

/// A pace after so many failures in a row.
fn slower(pace: Duration, failures: u32) -> Duration {
    if failures == 0 { pace } else { pace.max(ROUND).saturating_mul(1 << failures.min(5)).min(SLOWEST) }
}

/// How long to wait between two looks at so many tenants.
fn pace(tenants: usize) -> Duration {
    let tenants = u32::try_from(tenants).unwrap_or(u32::MAX).max(1);
    (ROUND / tenants).max(PACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(version: &str) -> ObjectMeta {
        ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() }
    }

    #[test]
    fn a_tenant_is_looked_at_once_a_second_and_the_api_40_times_a_second_at_most() {
        assert_eq!([0, 1, 4, 40, 1000].map(|tenants| pace(tenants).as_millis()), [1000, 1000, 250, 25, 25]);
    }

    #[test]
    fn an_api_that_does_not_answer_is_asked_less_and_less_often() {
        let waits = [0, 1, 2, 4, 5, 100].map(|failures| slower(PACE, failures).as_millis());
        assert_eq!(waits, [25, 2000, 4000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn a_secret_is_news_when_it_comes_changes_or_goes() {
        let looks = Looks::default();
        assert!(!looks.note("shop", Some(seen("1"))), "its namespace is not the manager's to look into");
        looks.entrust("shop");
        let news =
            [Some(seen("1")), Some(seen("1")), Some(seen("2")), None, None].map(|secret| looks.note("shop", secret));
        assert_eq!(news, [true, false, true, true, false]);
        looks.forget("shop");
        assert_eq!((looks.is_entrusted("shop"), looks.secret("shop")), (false, None));
    }
}
