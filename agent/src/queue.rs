//! What is to be decided: each work once, never twice at a time, failed ones later. Knows no clock and no work's meaning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The first wait after a failure; it doubles with each.
const FIRST: Duration = Duration::from_millis(250);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(15);
/// So often in a row a work may fail and be due at once when it is touched. A failure may itself touch the work, for example by a
/// condition that says why: what fails more often rests after each failure.
const AT_ONCE: u32 = 3;
/// That rest.
const REST: Duration = Duration::from_secs(1);

/// Works to do, in the order in which they were touched. `now` is any clock that does not go back.
#[derive(Debug)]
pub struct Queue<W> {
    ready: VecDeque<W>,
    waiting: BTreeSet<W>,
    running: BTreeSet<W>,
    /// Touched while running: to be looked at again.
    again: BTreeSet<W>,
    /// How often it failed in a row, and when it did so last.
    attempts: BTreeMap<W, (u32, Duration)>,
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

    /// Something changed: it is due now, whatever failed before; or after a rest, where it failed several times in a row.
    pub fn touch(&mut self, work: W) {
        match self.rested(&work).filter(|_| !self.running.contains(&work)) {
            Some(rested) => self.hasten(work, rested),
            None => self.make_ready(work),
        }
    }

    /// When it has rested, where it has to.
    fn rested(&self, work: &W) -> Option<Duration> {
        let (attempts, failed) = self.attempts.get(work)?;
        (*attempts > AT_ONCE && self.delayed.iter().any(|(_, other)| other == work)).then(|| *failed + REST)
    }

    /// It is due at this time at the latest.
    fn hasten(&mut self, work: W, latest: Duration) {
        let due = self.delayed.iter().find(|(_, other)| *other == work).map(|(due, _)| *due);
        if let Some(due) = due.filter(|due| *due > latest) {
            self.delayed.remove(&(due, work.clone()));
            self.delayed.insert((latest, work));
        }
    }

    fn make_ready(&mut self, work: W) {
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
        let (attempts, failed) = self.attempts.entry(work.clone()).or_default();
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(*attempts)).min(LONGEST);
        (*attempts, *failed) = (attempts.saturating_add(1), now);
        let wait = wait.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0);
        // Touched and failed again meanwhile: its latest wait counts, not several.
        self.delayed.retain(|(_, other)| other != work);
        self.delayed.insert((now + wait, work.clone()));
        self.end(work);
        wait
    }

    /// Whatever was in the way may be gone: all that failed is due now. The waits go on growing: a hub that lists and refuses each
    /// write would be asked as often as it lists.
    pub fn hurry(&mut self) {
        for (_, work) in std::mem::take(&mut self.delayed) {
            self.make_ready(work);
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
                self.make_ready(work);
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
        assert_eq!(queue.failed(&"a", Duration::ZERO, 0.0), 2 * FIRST);
    }

    /// How often a work runs in so many seconds that always fails, and is touched so often by each of its failures, at once or a
    /// moment later.
    fn runs(seconds: u64, touched: impl Fn(&mut Queue<&'static str>)) -> u32 {
        let (mut queue, mut now, mut runs) = (Queue::new(), Duration::ZERO, 0);
        queue.touch("a");
        while now < Duration::from_secs(seconds) {
            now += Duration::from_millis(1);
            queue.wake(now);
            if queue.next().is_some() {
                runs += 1;
                queue.touch("a");
                queue.failed(&"a", now, 0.0);
                touched(&mut queue);
            }
        }
        runs
    }

    #[test]
    fn d_a_failure_that_touches_its_own_work_is_no_loop_without_a_pause() {
        assert!(runs(60, |_| {}) <= 60 + AT_ONCE);
        assert!(runs(60, |queue| queue.touch("a")) <= 60 + AT_ONCE);
        assert!((5..=60 + AT_ONCE).contains(&runs(60, |queue| (0..100).for_each(|_| queue.touch("a")))));
    }

    #[test]
    fn d_a_work_that_always_fails_is_tried_less_than_once_a_second_and_then_less_often() {
        let (mut queue, mut now, mut runs) = (Queue::new(), Duration::ZERO, Vec::new());
        queue.touch("a");
        while now < Duration::from_mins(5) {
            queue.wake(now);
            if queue.next().is_some() {
                runs.push(now);
                queue.failed(&"a", now, 1.0);
            }
            now = queue.next_due().unwrap();
        }
        let minute = |number: u64| runs.iter().filter(|at| at.as_secs() / 60 == number).count();
        assert!(minute(0) <= 12 && minute(4) <= 4, "{runs:?}");
    }

    #[test]
    fn d_a_hub_that_lists_and_refuses_every_write_does_not_begin_the_waits_anew() {
        let mut queue = Queue::new();
        queue.touch("a");
        for _ in 0..6 {
            queue.next();
            queue.failed(&"a", Duration::ZERO, 0.0);
            queue.hurry();
        }
        queue.next();
        assert_eq!(queue.failed(&"a", Duration::ZERO, 0.0), LONGEST);
    }
}
