//! When each name of a cloud's load balancer is asked for. Knows how long answers hold; knows no resolver, no clock, and no
//! answer: the last good one is the world's to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An answer holds at least so long, whatever it says: a load balancer's addresses do not move by the second.
const SHORTEST: Duration = Duration::from_secs(5);
/// An answer holds no longer, whatever it says: who moves a load balancer does not wait for hours.
const LONGEST: Duration = Duration::from_mins(5);
/// The first wait after a failure; it doubles with each.
const FIRST: Duration = Duration::from_secs(1);
/// No wait after a failure is longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer that holds for so long.
    Holds(Duration),
    /// None.
    Failed,
}

/// The names that are wanted. `now` is any clock that does not go back.
#[derive(Debug, Default)]
pub struct Schedule {
    names: BTreeMap<String, Name>,
}

#[derive(Clone, Debug)]
struct Name {
    /// `None` while it is being asked for.
    due: Option<Duration>,
    failures: u32,
}

impl Schedule {
    /// These are wanted from now on: new ones are due at once, the others when they were.
    pub fn want(&mut self, names: &BTreeSet<String>, now: Duration) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            self.names.entry(name.clone()).or_insert(Name { due: Some(now), failures: 0 });
        }
    }

    /// The names that are to be asked for now; each counts as asked until it is [`Self::asked`].
    pub fn take(&mut self, now: Duration) -> Vec<String> {
        let due = self.names.iter_mut().filter(|(_, name)| name.due.is_some_and(|due| due <= now));
        due.map(|(text, name)| {
            name.due = None;
            text.clone()
        })
        .collect()
    }

    /// What came of it; one that is not wanted any more is forgotten. How long until it is asked for again.
    pub fn asked(&mut self, name: &str, outcome: Outcome, now: Duration) -> Option<Duration> {
        let name = self.names.get_mut(name)?;
        let wait = match outcome {
            Outcome::Holds(time) => {
                name.failures = 0;
                time.clamp(SHORTEST, LONGEST)
            }
            Outcome::Failed => {
                let wait = FIRST.saturating_mul(2_u32.saturating_pow(name.failures)).min(PATIENCE);
                name.failures = name.failures.saturating_add(1);
                wait
            }
        };
        name.due = Some(now + wait);
        Some(wait)
    }

    /// When the next name is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.names.values().filter_map(|name| name.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wanted(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_is_asked_for_at_once_and_again_when_its_answer_has_ended() {
        let mut schedule = Schedule::default();
        schedule.want(&wanted(&["a", "b"]), at(10));
        assert_eq!(schedule.take(at(10)), ["a", "b"]);
        assert_eq!((schedule.take(at(10)), schedule.next_due()), (vec![], None), "it is being asked for");
        schedule.asked("a", Outcome::Holds(at(30)), at(11));
        schedule.asked("b", Outcome::Holds(at(60)), at(11));
        assert_eq!(schedule.next_due(), Some(at(41)));
        assert_eq!((schedule.take(at(40)), schedule.take(at(41))), (vec![], vec!["a".to_owned()]));
    }

    #[test]
    fn an_answer_holds_no_shorter_and_no_longer_than_makes_sense() {
        let mut schedule = Schedule::default();
        schedule.want(&wanted(&["a"]), at(0));
        assert_eq!(schedule.asked("a", Outcome::Holds(at(0)), at(0)), Some(at(5)));
        assert_eq!(schedule.asked("a", Outcome::Holds(at(86_400)), at(0)), Some(at(300)));
        assert_eq!(schedule.asked("a", Outcome::Holds(at(60)), at(0)), Some(at(60)));
    }

    #[test]
    fn a_name_that_is_not_answered_is_asked_less_and_less_until_it_is() {
        let mut schedule = Schedule::default();
        schedule.want(&wanted(&["a"]), at(0));
        let mut waits = || schedule.asked("a", Outcome::Failed, at(0)).unwrap().as_secs();
        assert_eq!([waits(), waits(), waits(), waits(), waits(), waits(), waits()], [1, 2, 4, 8, 16, 32, 60]);
        schedule.asked("a", Outcome::Holds(at(9)), at(0));
        assert_eq!(schedule.asked("a", Outcome::Failed, at(0)), Some(at(1)));
    }

    #[test]
    fn a_name_that_is_not_wanted_any_more_is_forgotten_and_others_keep_their_time() {
        let mut schedule = Schedule::default();
        schedule.want(&wanted(&["a", "b"]), at(0));
        schedule.take(at(0));
        schedule.asked("a", Outcome::Holds(at(20)), at(0));
        schedule.want(&wanted(&["a"]), at(3));
        assert_eq!(schedule.asked("b", Outcome::Holds(at(20)), at(4)), None);
        assert_eq!(schedule.next_due(), Some(at(20)));
    }
}
