//! Backends that are left out: why, how many, and the first few of them. Knows no policy.

use std::collections::BTreeSet;

/// Why a backend is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    NotAnAddress,
    Forbidden(&'static str),
    Loopback,
    Hub,
    Pool,
    OtherTenant,
    NotAllowed,
    NotPublic,
}

impl Refusal {
    /// The end of the sentence that begins with the backend.
    pub fn says(&self, tenant: &str) -> String {
        match self {
            Self::NotAnAddress => "(no IP address)".to_owned(),
            Self::Forbidden(what) => format!("({what}, never allowed)"),
            Self::Loopback => "(a loopback address, never allowed)".to_owned(),
            Self::Hub => "(in a network of the hub, never allowed)".to_owned(),
            Self::Pool => "(an address of a pool, never allowed)".to_owned(),
            Self::OtherTenant => format!(
                "(in a network that an older Tenant has: both need spec.backends.sharing: Shared, here Tenant {tenant})"
            ),
            Self::NotAllowed => format!("(not in spec.backends.allow of Tenant {tenant})"),
            Self::NotPublic => format!("(not public, and Tenant {tenant} has no spec.backends.allow that names it)"),
        }
    }
}

/// A backend that is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refused {
    pub text: String,
    pub why: Refusal,
}

/// So many refused backends are kept by name.
const NAMED: usize = 3;

/// The backends that are left out: how many, and the first by name. Its size does not depend on how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeftOut {
    pub count: u32,
    pub first: BTreeSet<Refused>,
}

impl LeftOut {
    /// Counts so many more, of which one has this text.
    pub fn add(&mut self, count: u32, text: &str, why: &Refusal) {
        self.count = self.count.saturating_add(count);
        if self.first.len() == NAMED && self.first.last().is_some_and(|last| last.text.as_str() <= text) {
            return;
        }
        self.first.insert(Refused { text: text.to_owned(), why: why.clone() });
        if self.first.len() > NAMED {
            self.first.pop_last();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_refusals_are_counted_and_only_the_first_are_kept() {
        let mut left_out = LeftOut::default();
        assert!(left_out.is_empty());
        for number in (0..1000).rev() {
            left_out.add(1, &format!("node-{number:04}"), &Refusal::NotAnAddress);
        }
        let first: Vec<&str> = left_out.first.iter().map(|refused| refused.text.as_str()).collect();
        assert_eq!((left_out.count, &first[..]), (1000, &["node-0000", "node-0001", "node-0002"][..]));
        left_out.add(u32::MAX, "z", &Refusal::Hub);
        assert_eq!(left_out.count, u32::MAX);
    }
}
