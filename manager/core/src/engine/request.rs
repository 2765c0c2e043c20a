//! What a load balancer asks for, parsed. Knows its words; knows nothing that is free.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nave_api::TCPLoadBalancer;
use nave_api::tcp_load_balancer::{AddressRequest, FamilyPolicy, IpFamily};

use crate::problem::Shortage;

const BOTH: [IpFamily; 2] = [IpFamily::IPv4, IpFamily::IPv6];

/// How many addresses are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    One,
    /// One of each family that there is.
    Some,
    All,
}

/// Whether it needs one address of each family: both or none.
pub(super) fn needs_both(balancer: &TCPLoadBalancer) -> bool {
    let policy = balancer.spec.address.as_ref().and_then(|address| address.family_policy).unwrap_or_default();
    policy == FamilyPolicy::RequireDualStack
        || Request::of(balancer).is_ok_and(|request| request.wanted() == Wanted::All)
}

/// What a load balancer asks for, parsed.
pub(super) struct Request<'a> {
    pub pool: Option<&'a str>,
    exact: Vec<IpAddr>,
    /// The families in order of preference, and how many of them.
    pub families: Vec<IpFamily>,
    policy: FamilyPolicy,
}

impl<'a> Request<'a> {
    pub fn of(balancer: &'a TCPLoadBalancer) -> Result<Self, Shortage> {
        let Some(AddressRequest { pool, requested, families, family_policy }) = &balancer.spec.address else {
            let policy = FamilyPolicy::SingleStack;
            return Ok(Self { pool: None, exact: Vec::new(), families: BOTH.into(), policy });
        };
        let mut exact: Vec<IpAddr> = Vec::new();
        for text in requested {
            exact.push(text.parse().map_err(|_| Shortage::InvalidAddress { text: text.clone() })?);
        }
        let policy = family_policy.unwrap_or_default();
        let mut preferred = families.clone();
        let is_single = policy == FamilyPolicy::SingleStack;
        if is_single && !exact.is_empty() {
            preferred = exact.iter().map(|address| IpFamily::of(*address)).collect();
        }
        if !is_single || preferred.is_empty() {
            preferred.extend(BOTH);
        }
        let mut seen = BTreeSet::new();
        preferred.retain(|family| seen.insert(*family));
        Ok(Self { pool: pool.as_deref(), exact, families: preferred, policy })
    }

    /// The families of which one address each is wanted; one of them will do where there is a choice.
    pub fn wanted(&self) -> Wanted {
        let exact: BTreeSet<IpFamily> = self.exact.iter().map(|address| IpFamily::of(*address)).collect();
        match self.policy {
            FamilyPolicy::SingleStack if exact.len() == 2 => Wanted::All,
            FamilyPolicy::SingleStack => Wanted::One,
            FamilyPolicy::PreferDualStack => Wanted::Some,
            FamilyPolicy::RequireDualStack => Wanted::All,
        }
    }

    /// The address that is meant for the family, where one is named.
    pub fn exact(&self, family: IpFamily) -> Option<IpAddr> {
        self.exact.iter().copied().find(|address| IpFamily::of(*address) == family)
    }

    pub fn fits(&self, address: IpAddr, pool: &str) -> bool {
        let family = IpFamily::of(address);
        self.pool.is_none_or(|wanted| wanted == pool)
            && self.families.contains(&family)
            && self.exact(family).is_none_or(|exact| exact == address)
    }
}
