//! Copies of certificates that agents created, and that no load balancer names any more. An agent has no right to delete a Secret, since the
//! answer may carry it: the manager deletes copies instead. Knows which Secrets are copies and which kind names them; never their contents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client, Resource};
use nave_api::HTTPLoadBalancer;
use nave_api::names::{COPY_PREFIX, tenant_namespace};
use nave_watch::{Decoded, Metadata};
use tokio::time::sleep;

use super::call::{Error, call, call_if_same};
use super::looks::Looks;

/// The namespaces of all tenants are looked at once in this time, or in half of the time that a copy stays.
const ROUND: Duration = Duration::from_mins(5);
/// Between two namespaces at least.
const PACE: Duration = Duration::from_millis(100);
/// Secrets in one answer, without their contents but with up to 256 KiB of annotations each, ...
const PAGE: u32 = 50;
/// ... and load balancers, each of up to 1.5 MB.
const WHOLE: u32 = 10;

/// Deletes copies that no load balancer has named for `after`, for as long as it is polled.
pub(super) async fn tidy(client: Client, looks: Looks, after: Duration) {
    let mut unnamed = Unnamed::default();
    loop {
        let tenants = looks.tenants();
        let round = ROUND.min(after / 2);
        let pace = (round / u32::try_from(tenants.len()).unwrap_or(u32::MAX).max(1)).max(PACE);
        unnamed.keep(&tenants);
        if tenants.is_empty() {
            sleep(pace).await;
        }
        for tenant in tenants {
            sleep(pace).await;
            // The API may be away, or the tenant have ended: the next round looks again.
            if let Err(error) = visit(&client, &tenant, &mut unnamed, after).await {
                tracing::debug!(tenant, error = &error as &dyn std::error::Error, "copies are not looked at");
            }
        }
    }
}

async fn visit(client: &Client, tenant: &str, unnamed: &mut Unnamed, after: Duration) -> Result<(), Error> {
    let namespace = tenant_namespace(tenant);
    let secrets: Api<Metadata<Secret>> = Api::namespaced(client.clone(), &namespace);
    let copies = copies(&secrets).await?;
    let named = if copies.is_empty() { Some(BTreeSet::new()) } else { named(client, &namespace).await? };
    let Some(named) = named else { return Ok(()) };
    for (name, uid) in unnamed.judge(tenant, copies, &named, after, Instant::now()) {
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        let exactly = DeleteParams { preconditions, ..DeleteParams::default() };
        call_if_same("delete a copy", secrets.delete(&name, &exactly)).await?;
        tracing::info!(tenant, name, "deleted a copy of a certificate that no load balancer names");
    }
    Ok(())
}

/// The copies of a namespace by name, with their uids.
async fn copies(secrets: &Api<Metadata<Secret>>) -> Result<BTreeMap<String, String>, Error> {
    let (mut copies, mut page) = (BTreeMap::new(), ListParams::default().limit(PAGE));
    loop {
        let list = call("look for copies", secrets.list(&page)).await?;
        let metadata = list.items.iter().map(Resource::meta);
        let known = metadata.filter_map(|secret| Some((secret.name.clone()?, secret.uid.clone()?)));
        copies.extend(known.filter(|(name, _)| name.starts_with(COPY_PREFIX)));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(copies),
        }
    }
}

/// The Secrets that a namespace's load balancers name. `None`: one of them cannot be read, and may name any.
async fn named(client: &Client, namespace: &str) -> Result<Option<BTreeSet<String>>, Error> {
    let balancers: Api<Decoded<HTTPLoadBalancer>> = Api::namespaced(client.clone(), namespace);
    let (mut named, mut page) = (BTreeSet::new(), ListParams::default().limit(WHOLE));
    loop {
        let list = call("look which copies are named", balancers.list(&page)).await?;
        for balancer in list.items {
            let Some(balancer) = balancer.readable() else { return Ok(None) };
            named.extend(balancer.spec.tls.into_iter().map(|tls| tls.secret_name));
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(Some(named)),
        }
    }
}

/// Since when which copies are named by no load balancer, by tenant and uid. A manager that begins to lead begins to count.
#[derive(Debug, Default)]
struct Unnamed(BTreeMap<String, BTreeMap<String, Instant>>);

impl Unnamed {
    /// Forgets the tenants that are no more.
    fn keep(&mut self, tenants: &[String]) {
        self.0.retain(|tenant, _| tenants.contains(tenant));
    }

    /// The copies that have gone unnamed for long enough.
    fn judge(
        &mut self,
        tenant: &str,
        copies: BTreeMap<String, String>,
        named: &BTreeSet<String>,
        after: Duration,
        now: Instant,
    ) -> Vec<(String, String)> {
        let before = self.0.remove(tenant).unwrap_or_default();
        let unnamed: Vec<_> = copies.into_iter().filter(|(name, _)| !named.contains(name)).collect();
        let since = |uid: &String| before.get(uid).copied().unwrap_or(now);
        self.0.insert(tenant.to_owned(), unnamed.iter().map(|(_, uid)| (uid.clone(), since(uid))).collect());
        unnamed.into_iter().filter(|(_, uid)| now.duration_since(since(uid)) >= after).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_when_no_load_balancer_has_named_it_for_ten_minutes_without_a_break() {
        let (mut unnamed, begun) = (Unnamed::default(), Instant::now());
        let mut gone = |minute: u64, uid: &str, named: &[&str]| -> Vec<String> {
            let copies = BTreeMap::from([("copy-a".to_owned(), uid.to_owned())]);
            let named = named.iter().map(|name| (*name).to_owned()).collect();
            let now = begun + Duration::from_mins(minute);
            let gone = unnamed.judge("shop", copies, &named, Duration::from_mins(10), now);
            gone.into_iter().map(|(_, uid)| uid).collect()
        };
        assert_eq!([gone(0, "u1", &[]), gone(9, "u1", &[])], [vec![], Vec::<String>::new()]);
        assert_eq!(gone(10, "u1", &["copy-a"]), Vec::<String>::new(), "it is named again");
        assert_eq!([gone(11, "u1", &["copy-b"]), gone(20, "u1", &[])], [vec![], Vec::<String>::new()]);
        assert_eq!(gone(20, "u2", &[]), Vec::<String>::new(), "another copy of the same name");
        assert_eq!(gone(30, "u2", &[]), ["u2"]);
    }
}
