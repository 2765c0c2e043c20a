//! Whether an agent is alive, by its Lease. Knows the Lease's words; both clocks are arguments.
//!
//! The agent's clock is another cluster's: its `renewTime` is believed only once, when a manager sees a Lease for the first
//! time. After that, what counts is when we saw it change.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;

/// An agent that was silent for so long is not connected; it renews its Lease every 30 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// What the Lease said when we last saw it change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    holder: String,
    renewed: Option<Timestamp>,
    at: Option<Instant>,
}

impl Heard {
    /// What is heard from a Lease at `now` (and `wall`), after what was heard before. `was_connected`: the Tenant's own
    /// status says so, which is believed for one more patience when a manager has just begun to look.
    pub(super) fn listen(
        before: Option<&Self>,
        lease: &Lease,
        was_connected: bool,
        now: Instant,
        wall: Timestamp,
    ) -> Self {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
        let at = match (before, renewed) {
            (_, None) => None,
            (Some(known), _) if known.holder == holder && known.renewed == renewed => known.at,
            (Some(_), Some(_)) => Some(now),
            (None, Some(renewed)) => (was_connected || is_fresh(renewed, wall)).then_some(now),
        };
        Self { holder, renewed, at }
    }

    /// How long the agent still counts as connected.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        let silent = now.saturating_duration_since(self.at?);
        PATIENCE.checked_sub(silent).filter(|left| !left.is_zero())
    }

    /// The version that the agent says it is: its identity is `<version>/<random>`.
    pub(super) fn version(&self) -> Option<String> {
        let version = self.holder.split('/').next().unwrap_or_default();
        (!version.is_empty()).then(|| version.chars().take(64).collect())
    }

    /// When the agent last renewed its Lease, by its own clock.
    pub(super) fn renewed(&self) -> Option<Timestamp> {
        self.renewed
    }
}

fn is_fresh(renewed: Timestamp, wall: Timestamp) -> bool {
    wall.as_second().saturating_sub(renewed.as_second()) < PATIENCE.as_secs().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    fn second(number: i64) -> Timestamp {
        Timestamp::from_second(number).unwrap()
    }

    fn lease(renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some("0.1.0/7f3a".into()),
            renew_time: Some(MicroTime(second(renewed))),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn an_agent_is_connected_for_ninety_seconds_after_its_lease_changed() {
        let start = Instant::now();
        let first = Heard::listen(None, &lease(1000), false, start, second(1010));
        let again = Heard::listen(Some(&first), &lease(1000), true, start + Duration::from_mins(1), second(1070));
        assert_eq!(again.remaining(start + Duration::from_mins(1)), Some(Duration::from_secs(30)));
        assert_eq!(again.remaining(start + Duration::from_secs(90)), None);
        let renewed = Heard::listen(Some(&again), &lease(1075), true, start + Duration::from_secs(75), second(1085));
        assert_eq!(renewed.remaining(start + Duration::from_secs(90)), Some(Duration::from_secs(75)));
    }

    #[test]
    fn a_lease_that_was_left_behind_says_nothing() {
        let start = Instant::now();
        assert_eq!(Heard::listen(None, &lease(1000), false, start, second(9000)).remaining(start), None);
    }

    #[test]
    fn an_agent_whose_clock_is_wrong_is_heard_when_its_lease_changes() {
        let start = Instant::now();
        let first = Heard::listen(None, &lease(1000), false, start, second(9000));
        let renewed = Heard::listen(Some(&first), &lease(1030), false, start + Duration::from_secs(30), second(9030));
        assert_eq!(renewed.remaining(start + Duration::from_secs(30)), Some(PATIENCE));
    }

    #[test]
    fn a_new_manager_gives_a_connected_agent_one_more_patience() {
        let start = Instant::now();
        assert_eq!(Heard::listen(None, &lease(1000), true, start, second(9000)).remaining(start), Some(PATIENCE));
    }

    #[test]
    fn a_lease_without_a_renewal_is_nobody() {
        let start = Instant::now();
        let heard = Heard::listen(None, &Lease::default(), true, start, second(1));
        assert_eq!((heard.remaining(start), heard.version(), heard.renewed()), (None, None, None));
    }

    #[test]
    fn the_version_is_what_precedes_the_slash() {
        let heard = Heard::listen(None, &lease(1000), false, Instant::now(), second(1000));
        assert_eq!(heard.version().as_deref(), Some("0.1.0"));
    }
}
