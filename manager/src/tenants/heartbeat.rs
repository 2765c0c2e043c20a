//! Whether a tenant's agent is heard. Judges the Lease that it renews by our own clock: spokes' clocks may be wrong.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;

/// An agent that was not heard for so long, three of its renewals, is not connected.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// The last word of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// The version that it says it is.
    pub(super) version: Option<String>,
    /// When it spoke, by its own clock.
    pub(super) at: Timestamp,
}

/// What is remembered of an agent: its last word and when it came in, if it came since we listen.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    word: Word,
    until: Option<Instant>,
}

impl Word {
    /// The word in a Lease whose holder is `<version>/<random>`. `None`: no agent has renewed it yet.
    pub(super) fn read(lease: &Lease) -> Option<Self> {
        let spec = lease.spec.as_ref()?;
        let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
        let at = spec.renew_time.as_ref()?.0;
        let version =
            holder.split('/').next().filter(|version| !version.is_empty()).map(|v| v.chars().take(63).collect());
        Some(Self { version, at })
    }
}

impl Heard {
    /// Takes a word in at `now`, which is `clock` on the wall. The first one may be old: it counts as fresh when its time
    /// says so, or when the agent was `believed` to be connected, so that a new leader changes nobody's mind.
    pub(super) fn hear(before: Option<&Self>, word: Word, believed: bool, now: Instant, clock: Timestamp) -> Self {
        let until = match before {
            Some(before) if before.word == word => before.until,
            Some(_) => Some(now + PATIENCE),
            None if believed => Some(now + PATIENCE),
            None => {
                let age = Duration::try_from(clock.duration_since(word.at).abs()).unwrap_or(Duration::MAX);
                PATIENCE.checked_sub(age).map(|left| now + left)
            }
        };
        Self { word, until }
    }

    /// How much longer the agent counts as connected. `None`: it does not.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// The last word.
    pub(super) fn word(&self) -> &Word {
        &self.word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(second: i64) -> Word {
        Word { version: Some("0.1.0".into()), at: Timestamp::from_second(second).unwrap() }
    }

    fn clock(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_agent_is_connected_for_ninety_seconds_after_each_word() {
        let now = Instant::now();
        let first = Heard::hear(None, word(1000), false, now, clock(1000));
        let same = Heard::hear(Some(&first), word(1000), false, now + Duration::from_secs(60), clock(1060));
        assert_eq!(same.left(now + Duration::from_secs(60)), Some(Duration::from_secs(30)));
        assert_eq!(same.left(now + PATIENCE), None);
        let next = Heard::hear(Some(&same), word(1100), false, now + Duration::from_secs(100), clock(1100));
        assert_eq!(next.left(now + Duration::from_secs(100)), Some(PATIENCE));
    }

    #[test]
    fn a_wrong_clock_of_a_spoke_matters_only_to_the_first_word() {
        let now = Instant::now();
        let first = Heard::hear(None, word(0), false, now, clock(10_000));
        assert_eq!(first.left(now), None);
        assert_eq!(Heard::hear(Some(&first), word(30), false, now, clock(10_030)).left(now), Some(PATIENCE));
    }

    #[test]
    fn a_new_leader_believes_what_the_last_one_said_until_it_knows_better() {
        let now = Instant::now();
        assert_eq!(Heard::hear(None, word(0), true, now, clock(10_000)).left(now), Some(PATIENCE));
    }

    #[test]
    fn a_lease_that_nobody_renewed_is_no_word() {
        assert_eq!(Word::read(&Lease::default()), None);
    }
}
