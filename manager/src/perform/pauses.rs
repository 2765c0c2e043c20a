//! How long a step waits before it is tried or decided again. Knows the waits; knows no API.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::Target;

/// The first pause after an attempt that failed; each is twice as long as the last, up to the longest.
pub(super) const FIRST: Duration = Duration::from_millis(50);
pub(super) const LONGEST: Duration = Duration::from_secs(5);
/// How long to wait at least for news of an object about which the API says nothing that helps.
pub(super) const NEWS: Duration = Duration::from_secs(1);

/// The waits of all steps.
pub(super) struct Pauses {
    each: ExponentialBuilder,
    longest: Duration,
    news: Duration,
    rows: Mutex<BTreeMap<Target, Row>>,
}

/// Steps on one object that could not be done, one after the other.
struct Row {
    pauses: ExponentialBackoff,
    /// When the last pause ends.
    ends: Instant,
}

impl Pauses {
    /// Waits that begin with `first` and are doubled up to `longest`; `news` where the API does not say how things are.
    pub(super) fn new(first: Duration, longest: Duration, news: Duration) -> Self {
        let each = ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest);
        Self { each: each.with_jitter().without_max_times(), longest, news, rows: Mutex::default() }
    }

    /// The pauses between attempts at one step.
    pub(super) fn of_one_step(&self) -> ExponentialBackoff {
        self.each.build()
    }

    /// The pause after a step that lost against another writer. The first time there is none: the engine decides on what it has learnt.
    /// A program that changes the object all the time makes the engine decide less and less often.
    pub(super) fn lost(&self, target: &Target, now: Instant) -> Duration {
        self.next(target, Duration::ZERO, now)
    }

    /// The pause after a step about which the API says nothing that the engine could decide on.
    pub(super) fn hopeless(&self, target: &Target, now: Instant) -> Duration {
        self.next(target, self.news, now)
    }

    /// A step on this object was done: the next one that cannot be done is the first of its row.
    pub(super) fn won(&self, target: &Target) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
    }

    fn next(&self, target: &Target, least: Duration, now: Instant) -> Duration {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        // An object about which nothing was tried for so long has rested.
        rows.retain(|_, row| now < row.ends + self.longest);
        let pause = match rows.get_mut(target) {
            Some(row) => row.pauses.next().unwrap_or(self.longest).max(least),
            None => least,
        };
        let ends = now + pause;
        rows.entry(target.clone()).or_insert_with(|| Row { pauses: self.each.build(), ends }).ends = ends;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target::Allocation(name.to_owned())
    }

    #[test]
    fn a_step_that_loses_once_is_decided_again_at_once_and_then_less_and_less_often() {
        let (pauses, mut now) = (Pauses::new(FIRST, LONGEST, NEWS), Instant::now());
        let begun = now;
        let mut losses = 0;
        while now - begun < Duration::from_mins(1) {
            let pause = pauses.lost(&target("a"), now);
            assert_eq!(pause.is_zero(), losses == 0, "loss {losses}");
            assert!(losses < 10 || pause >= LONGEST, "{pause:?}");
            losses += 1;
            now += pause;
        }
        assert!((10..=30).contains(&losses), "{losses}: each takes two calls");
        assert!(pauses.lost(&target("b"), now).is_zero(), "another object waits for none of it");
    }

    #[test]
    fn a_step_that_is_done_and_a_rest_end_the_row() {
        let (pauses, now) = (Pauses::new(FIRST, LONGEST, NEWS), Instant::now());
        let lost = |now| pauses.lost(&target("a"), now).is_zero();
        assert_eq!([lost(now), lost(now)], [true, false]);
        pauses.won(&target("a"));
        assert_eq!([lost(now), lost(now), lost(now + 3 * LONGEST)], [true, false, true]);
        assert!(pauses.rows.lock().unwrap().len() == 1);
    }

    #[test]
    fn without_news_there_is_a_second_at_least() {
        let (pauses, now) = (Pauses::new(FIRST, LONGEST, NEWS), Instant::now());
        let waits: Vec<Duration> = (0..12).map(|_| pauses.hopeless(&target("a"), now)).collect();
        assert!(waits.iter().all(|wait| *wait >= NEWS) && waits[11] >= LONGEST, "{waits:?}");
    }
}
