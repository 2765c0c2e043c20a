//! Who may have addresses of which pool, and which pool comes first. Knows tenants and pools; knows not what is free.

use std::cmp::Reverse;
use std::sync::Arc;

use nave_api::Tenant;
use nave_api::ip_pool::{TenantSelection, Use};

use super::{Pool, PoolProblem, Pools};
use crate::key::born;

/// Somebody who wants an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applicant<'a> {
    pub tenant: &'a Tenant,
    /// The namespace in the spoke, as its agent says.
    pub namespace: Option<&'a str>,
}

/// Why a pool does not let an applicant in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Closed {
    /// `use.tenants` or the Tenant's `spec.pools` excludes the tenant.
    Tenant,
    /// `use.namespaces` excludes the namespace of the spoke.
    Namespace,
    /// The pool belongs to this fleet, and the tenant to another one.
    Fleet(String),
    /// The pool gives no addresses at all.
    NotReady(PoolProblem),
}

/// Why the pool does not let the applicant in, if it does not. A pool that is closed to the tenant says nothing else of itself.
pub(crate) fn closed(pool: &Pool, applicant: Applicant<'_>) -> Option<Closed> {
    let name = pool.object.metadata.name.as_deref().unwrap_or("");
    let is_listed = applicant.tenant.spec.pools.as_ref().is_none_or(|pools| pools.iter().any(|p| p == name));
    let none = Use::default();
    let Use { default: _, priority: _, tenants, namespaces } = pool.spec().r#use.as_ref().unwrap_or(&none);
    let is_selected = tenants.as_ref().is_none_or(|selection| selects(selection, applicant.tenant));
    let is_named = |allowed: &Vec<String>| applicant.namespace.is_some_and(|own| allowed.iter().any(|a| a == own));
    if !is_listed || !is_selected {
        Some(Closed::Tenant)
    } else if !namespaces.as_ref().is_none_or(is_named) {
        Some(Closed::Namespace)
    } else if pool.spec().fleet() != applicant.tenant.spec.fleet() {
        Some(Closed::Fleet(pool.spec().fleet().to_owned()))
    } else {
        pool.problem.clone().map(Closed::NotReady)
    }
}

/// Whether the pool lets the applicant in when a load balancer names the pool.
pub(crate) fn admits(pool: &Pool, applicant: Applicant<'_>) -> bool {
    closed(pool, applicant).is_none()
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
pub(crate) fn serves_unnamed(name: &str, pool: &Pool, tenant: &Tenant) -> bool {
    let is_default = pool.spec().r#use.as_ref().is_some_and(|u| u.default);
    let is_listed = tenant.spec.pools.as_ref().is_some_and(|pools| pools.iter().any(|p| p == name));
    is_default || is_restricted(pool) || is_listed
}

fn is_restricted(pool: &Pool) -> bool {
    pool.spec().r#use.as_ref().is_some_and(|u| u.tenants.is_some() || u.namespaces.is_some())
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
