//! Whether an agent is alive, by its Lease. Knows the Lease's words; both clocks are arguments.
//!
//! The agent's clock is another cluster's: its `renewTime` is believed only once, when a manager sees a Lease for the first
//! time. After that, what counts is when we saw it change.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use nave_api::cluster::Mark;
use nave_api::names::{CLUSTER, OTHER_CLUSTER_ANNOTATION};

/// An agent that was silent for so long is not connected; it renews its Lease every 30 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// So much is kept of what another cluster's agent writes, in characters.
const LONGEST: usize = 128;

/// What the Lease said when we last saw it change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    holder: String,
    renewed: Option<Timestamp>,
    at: Option<Instant>,
    /// The cluster to which the namespace belongs.
    owner: Option<Mark>,
    other: Option<Other>,
}

/// Another cluster whose agent has the same credential.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    mark: Mark,
    /// When it looked last, in its own words: what counts is when we saw them change.
    word: String,
    at: Option<Instant>,
}

impl Other {
    fn listen(before: Option<&Heard>, lease: &Lease, now: Instant, wall: Timestamp) -> Option<Self> {
        let word = lease.metadata.annotations.as_ref()?.get(OTHER_CLUSTER_ANNOTATION)?;
        let (mark, time) = word.split_once(' ')?;
        let mark = mark.parse().ok()?;
        let word: String = word.chars().take(LONGEST).collect();
        let known = before.and_then(|before| before.other.as_ref()).filter(|known| known.word == word);
        let fresh = || before.is_some() || time.parse().is_ok_and(|time| is_fresh(time, wall));
        let at = known.map_or_else(|| fresh().then_some(now), |known| known.at);
        Some(Self { mark, word, at })
    }
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
        let label = lease.metadata.labels.as_ref().and_then(|labels| labels.get(CLUSTER));
        let owner = label.and_then(|mark| mark.parse().ok());
        let other = Other::listen(before, lease, now, wall);
        Self { holder, renewed, at, owner, other }
    }

    /// The cluster to which the tenant's namespace belongs.
    pub(super) fn owner(&self) -> Option<&Mark> {
        self.owner.as_ref()
    }

    /// Another cluster whose agent has the same credential and was heard a moment ago; and how long that counts.
    pub(super) fn other(&self, now: Instant) -> Option<(&Mark, Duration)> {
        let Other { mark, word: _, at } =
            self.other.as_ref().filter(|other| self.owner.as_ref() != Some(&other.mark))?;
        Some((mark, left(*at, now)?))
    }

    /// How long the agent still counts as connected.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        left(self.at, now)
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

/// What is left of the patience that began at `at`.
fn left(at: Option<Instant>, now: Instant) -> Option<Duration> {
    let silent = now.saturating_duration_since(at?);
    PATIENCE.checked_sub(silent).filter(|left| !left.is_zero())
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

    /// A Lease of cluster c1, in which an agent of another cluster has written.
    fn with_other(word: &str) -> Lease {
        let mut lease = lease(1000);
        lease.metadata.labels = Some([(CLUSTER.to_owned(), "c1".to_owned())].into());
        lease.metadata.annotations = Some([(OTHER_CLUSTER_ANNOTATION.to_owned(), word.to_owned())].into());
        lease
    }

    #[test]
    fn h_another_cluster_is_named_for_ninety_seconds_after_it_was_heard() {
        let (start, wall) = (Instant::now(), second(1010));
        let other = |heard: &Heard, seconds| {
            heard.other(start + Duration::from_secs(seconds)).map(|(mark, left)| (mark.to_string(), left.as_secs()))
        };
        let first = Heard::listen(None, &with_other("c2 1970-01-01T00:16:45Z"), true, start, wall);
        assert_eq!(other(&first, 60), Some(("c2".into(), 30)));
        assert_eq!(other(&first, 90), None);
        let again = Heard::listen(Some(&first), &with_other("c2 1970-01-01T00:16:45Z"), true, start, wall);
        assert_eq!(other(&again, 90), None, "the same word is no news");
        let later = start + Duration::from_secs(90);
        let third = Heard::listen(Some(&again), &with_other("c3 any time"), true, later, wall);
        assert_eq!(other(&third, 91), Some(("c3".into(), 89)), "the latest is named");
        let old = Heard::listen(None, &with_other("c2 1970-01-01T00:00:01Z"), true, start, wall);
        assert_eq!(other(&old, 0), None, "it was left behind");
    }

    #[test]
    fn h_a_word_that_is_no_cluster_and_one_of_the_owner_name_nobody() {
        let long = format!("{} x", "a".repeat(64));
        for word in ["", "c2", " c2", "c/2 x", "c1 1970-01-01T00:16:45Z", &long] {
            let heard = Heard::listen(None, &with_other(word), true, Instant::now(), second(1010));
            assert_eq!(heard.other(Instant::now()), None, "{word:?}");
            assert_eq!(heard.owner().map(Mark::as_str), Some("c1"));
        }
    }

    #[test]
    fn the_version_is_what_precedes_the_slash() {
        let heard = Heard::listen(None, &lease(1000), false, Instant::now(), second(1000));
        assert_eq!(heard.version().as_deref(), Some("0.1.0"));
    }
}
