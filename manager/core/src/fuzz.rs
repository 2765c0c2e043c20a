//! Parsers as a fuzzer calls them. Knows what each makes of one text; knows no pool and no tenant that is real.
//!
//! Inside, a text is parsed once and lives on as a type of this crate, which nobody outside has a use for. What is
//! public here says just enough about the result to state properties of it.

use std::net::IpAddr;

use nave_api::{Tenant, TenantSpec};

use crate::backends::Policy;
use crate::pool::{Pools, Range, Spans};

/// The ends of a range of addresses, if the text is one, and how many addresses a set of it holds.
pub fn range(text: &str) -> Option<(IpAddr, IpAddr, u128)> {
    let range: Range = text.parse().ok()?;
    let (low, high) = range.ends();
    Some((low, high, Spans::of([&range]).count()))
}

/// The address to which a backend's text leads, for a tenant that names no networks.
pub fn backend(text: &str) -> Option<IpAddr> {
    let tenant = Tenant::new("tenant", TenantSpec::default());
    let pools = Pools::default();
    Policy::of(&tenant, &Spans::default(), false, &pools, None).admit(text).ok()
}
