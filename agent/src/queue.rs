//! What is to be decided: each work once, never twice at a time, failed ones later. Knows no clock and no work's meaning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The first wait after a failure; it doubles with each.
const FIRST: Duration = Duration::from_millis(250);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(15);

/// Works to do, in the order in which they were touched. `now` is any clock that does not go back.
#[derive(Debug)]
pub struct Queue<W> {
    ready: VecDeque<W>,
    waiting: BTreeSet<W>,
    running: BTreeSet<W>,
    /// Touched while running: to be looked at again.
    again: BTreeSet<W>,
    attempts: BTreeMap<W, u32>,
    delayed: BTreeSet<(Duration, W)>,
}

impl<W: Ord + Clone> Queue<W> {
    /// Nothing to do.
    pub fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            again: BTreeSet::new(),
            attempts: BTreeMap::new(),
            delayed: BTreeSet::new(),
        }
    }

    /// Something changed: it is due now, whatever failed before.
    pub fn touch(&mut self, work: W) {
        if self.running.contains(&work) {
            self.again.insert(work);
        } else if self.waiting.insert(work.clone()) {
            self.ready.push_back(work);
        }
    }

    /// The next work; it counts as running until it is [`Self::done`] or [`Self::failed`].
    pub fn next(&mut self) -> Option<W> {
        let work = self.ready.pop_front()?;
        self.waiting.remove(&work);
        self.running.insert(work.clone());
        Some(work)
    }

    /// It has been done.
    pub fn done(&mut self, work: &W) {
        self.attempts.remove(work);
        self.end(work);
    }

    /// It has failed and is due again after a while, `chance` (0 to 1) of a quarter longer, so that many do not come back at
    /// once. How long it waits.
    pub fn failed(&mut self, work: &W, now: Duration, chance: f64) -> Duration {
        let attempts = self.attempts.entry(work.clone()).or_default();
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(*attempts)).min(LONGEST);
        *attempts = attempts.saturating_add(1);
        let wait = wait.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0);
        // Touched and failed again meanwhile: its latest wait counts, not several.
        self.delayed.retain(|(_, other)| other != work);
        self.delayed.insert((now + wait, work.clone()));
        self.end(work);
        wait
    }

    /// Whatever was in the way may be gone: all that failed is due now, and its waits begin anew.
    pub fn hurry(&mut self) {
        for (_, work) in std::mem::take(&mut self.delayed) {
            self.attempts.remove(&work);
            self.touch(work);
        }
    }

    /// When the next failed work is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Makes due what is due.
    pub fn wake(&mut self, now: Duration) {
        while self.delayed.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, work)) = self.delayed.pop_first() {
                self.touch(work);
            }
        }
    }

    /// Whether something is due.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many are due, running, and waiting after a failure.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.ready.len(), self.running.len(), self.delayed.len())
    }

    fn end(&mut self, work: &W) {
        self.running.remove(work);
        if self.again.remove(work) {
            self.touch(work.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_runs_once_at_a_time_and_again_when_it_was_touched_meanwhile() {
        let mut queue = Queue::new();
        queue.touch("a");
        queue.touch("a");
        assert_eq!((queue.next(), queue.next()), (Some("a"), None));
        queue.touch("a");
        assert_eq!(queue.next(), None);
        queue.done(&"a");
        assert_eq!((queue.next(), queue.next()), (Some("a"), None));
    }

    #[test]
    fn waits_double_up_to_a_quarter_of_a_minute_and_end_with_success() {
        let mut queue = Queue::new();
        let mut waits = Vec::new();
        for _ in 0..12 {
            queue.touch("a");
            queue.next();
            waits.push(queue.failed(&"a", Duration::ZERO, 0.0));
        }
        assert_eq!(waits[..3], [250, 500, 1000].map(Duration::from_millis));
        assert_eq!(waits[11], LONGEST);
        queue.touch("a");
        queue.next();
        queue.done(&"a");
        queue.touch("a");
        queue.next();
        assert_eq!(queue.failed(&"a", Duration::ZERO, 0.0), FIRST);
    }

    #[test]
    fn a_failed_work_is_due_after_its_wait_and_at_once_when_touched() {
        let mut queue = Queue::new();
        for work in ["a", "b"] {
            queue.touch(work);
            queue.next();
            queue.failed(&work, Duration::from_secs(1), 0.0);
        }
        assert_eq!(queue.next_due(), Some(Duration::from_millis(1250)));
        queue.touch("b");
        assert_eq!(queue.next(), Some("b"));
        queue.done(&"b");
        queue.wake(Duration::from_secs(2));
        assert_eq!(queue.next(), Some("a"));
    }

    #[test]
    fn all_that_failed_is_due_at_once_when_the_obstacle_is_gone() {
        let mut queue = Queue::new();
        for work in ["a", "b"] {
            queue.touch(work);
            queue.next();
            queue.failed(&work, Duration::from_secs(1), 0.0);
        }
        queue.hurry();
        assert_eq!((queue.next(), queue.next(), queue.next_due()), (Some("a"), Some("b"), None));
        assert_eq!(queue.failed(&"a", Duration::ZERO, 0.0), FIRST);
    }
}
