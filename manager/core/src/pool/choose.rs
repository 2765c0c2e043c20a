//! Who may have addresses of which pool, and which pool comes first. Knows tenants and pools; knows not what is free.

use std::cmp::Reverse;
use std::sync::Arc;

use nave_api::Tenant;
use nave_api::ip_pool::{TenantSelection, Use};

use super::{Pool, Pools};
use crate::key::born;

/// Somebody who wants an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applicant<'a> {
    pub tenant: &'a Tenant,
    /// The namespace in the spoke, as its agent says.
    pub namespace: Option<&'a str>,
}

/// Whether the pool lets the applicant in when he asks for it.
pub(crate) fn admits(pool: &Pool, applicant: Applicant<'_>) -> bool {
    let name = pool.object.metadata.name.as_deref().unwrap_or("");
    let listed = applicant.tenant.spec.pools.as_ref().is_none_or(|pools| pools.iter().any(|p| p == name));
    pool.is_ready() && listed && pool.spec().fleet() == applicant.tenant.spec.fleet() && is_open(pool, applicant)
}

/// The pools for one who names none, the best first: restricted before open, then by priority, the older, the name.
pub(crate) fn candidates<'a>(pools: &'a Pools, applicant: Applicant<'_>) -> Vec<&'a Arc<str>> {
    let mut open: Vec<_> = pools
        .iter()
        .filter(|(name, pool)| admits(pool, applicant) && serves_unnamed(name, pool, applicant.tenant))
        .map(|(name, pool)| {
            let priority = pool.spec().r#use.as_ref().map_or(0, |u| u.priority);
            ((Reverse(is_restricted(pool)), Reverse(priority), born(&pool.object.metadata), name), name)
        })
        .collect();
    open.sort();
    open.into_iter().map(|(_, name)| name).collect()
}

/// Whether those who name no pool get addresses of it: a default one, one reserved for some, one that the tenant lists.
fn serves_unnamed(name: &str, pool: &Pool, tenant: &Tenant) -> bool {
    let is_default = pool.spec().r#use.as_ref().is_some_and(|u| u.default);
    let is_listed = tenant.spec.pools.as_ref().is_some_and(|pools| pools.iter().any(|p| p == name));
    is_default || is_restricted(pool) || is_listed
}

fn is_restricted(pool: &Pool) -> bool {
    pool.spec().r#use.as_ref().is_some_and(|u| u.tenants.is_some() || u.namespaces.is_some())
}

fn is_open(pool: &Pool, applicant: Applicant<'_>) -> bool {
    let Some(Use { default: _, priority: _, tenants, namespaces }) = &pool.spec().r#use else { return true };
    let tenant = tenants.as_ref().is_none_or(|selection| selects(selection, applicant.tenant));
    let namespace = namespaces
        .as_ref()
        .is_none_or(|allowed| applicant.namespace.is_some_and(|namespace| allowed.iter().any(|a| a == namespace)));
    tenant && namespace
}

fn selects(selection: &TenantSelection, tenant: &Tenant) -> bool {
    let TenantSelection { names, selector } = selection;
    let named = tenant.metadata.name.as_ref().is_some_and(|name| names.contains(name));
    let labelled = selector.as_ref().is_some_and(|wanted| {
        let labels = tenant.metadata.labels.as_ref();
        !wanted.is_empty() && wanted.iter().all(|(k, v)| labels.is_some_and(|labels| labels.get(k) == Some(v)))
    });
    named || labelled
}
