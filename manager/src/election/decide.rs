//! Who leads: what to do after a look at the Lease. Pure: moments and the Lease's content are arguments.
//!
//! The rules are those of Kubernetes' own components: another's silence is measured on our own clock, since we last saw
//! the Lease change, never by the times written in it; every write carries the resourceVersion that was looked at.

use std::time::Duration;

use tokio::time::Instant;

/// How long what may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// A holder that is silent for so long has lost.
    pub(crate) lease: Duration,
    /// A leader that could not renew for so long stops leading, before another begins.
    pub(crate) renew_within: Duration,
    /// Between two looks.
    pub(crate) retry: Duration,
}

impl Timing {
    /// The usual proportions of a lease.
    pub(crate) fn of(lease: Duration) -> Self {
        Self { lease, renew_within: lease * 2 / 3, retry: lease * 2 / 15 }
    }
}

/// What matters of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Who leads; nobody after a release.
    pub(crate) holder: Option<String>,
    /// Changes with every write.
    pub(crate) version: String,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// There is no Lease: create it, naming ourselves.
    Create,
    /// It is ours: say that we live.
    Renew,
    /// Its holder is silent or gone: name ourselves.
    TakeOver,
    /// Somebody else leads.
    Follow,
}

/// What a candidate remembers between looks.
#[derive(Debug)]
pub(crate) struct Candidate {
    name: String,
    timing: Timing,
    last: Option<(Record, Instant)>,
    renewed: Option<Instant>,
}

impl Candidate {
    /// A candidate of this name that has not looked yet.
    pub(crate) fn new(name: String, timing: Timing) -> Self {
        Self { name, timing, last: None, renewed: None }
    }

    /// What to do about the Lease as it is now.
    pub(crate) fn look(&mut self, record: Option<Record>, now: Instant) -> Act {
        let Some(record) = record else {
            self.last = None;
            return Act::Create;
        };
        let changed = match &self.last {
            Some((before, at)) if *before == record => *at,
            Some(_) | None => now,
        };
        let act = match record.holder.as_deref() {
            Some(holder) if holder == self.name => Act::Renew,
            None | Some("") => Act::TakeOver,
            Some(_) if now.duration_since(changed) >= self.timing.lease => Act::TakeOver,
            Some(_) => Act::Follow,
        };
        self.last = Some((record, changed));
        act
    }

    /// A write that named us succeeded; it was begun at this moment.
    pub(crate) fn won(&mut self, record: Record, begun: Instant) {
        self.last = Some((record, begun));
        self.renewed = Some(begun);
    }

    /// The Lease names somebody else.
    pub(crate) fn lost(&mut self) {
        self.renewed = None;
    }

    /// Whether we lead at this moment.
    pub(crate) fn leads(&self, now: Instant) -> bool {
        self.leads_until().is_some_and(|end| now < end)
    }

    /// Until when we lead if nothing more succeeds.
    pub(crate) fn leads_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.timing.renew_within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing() -> Timing {
        Timing::of(Duration::from_secs(15))
    }

    fn record(holder: &str, version: &str) -> Record {
        Record { holder: Some(holder.to_owned()), version: version.to_owned() }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_to_come_creates_and_who_finds_another_follows() {
        let start = Instant::now();
        let mut me = Candidate::new("me".into(), timing());
        assert_eq!(me.look(None, start), Act::Create);
        assert_eq!(me.look(Some(record("you", "1")), start), Act::Follow);
    }

    #[test]
    fn another_is_followed_until_it_was_silent_for_a_whole_lease_on_our_clock() {
        let start = Instant::now();
        let mut me = Candidate::new("me".into(), timing());
        let looks = [(0, "1"), (14, "1"), (15, "2"), (29, "2"), (30, "2")];
        let acts = looks.map(|(second, version)| me.look(Some(record("you", version)), after(start, second)));
        assert_eq!(acts, [Act::Follow, Act::Follow, Act::Follow, Act::Follow, Act::TakeOver]);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let mut me = Candidate::new("me".into(), timing());
        assert_eq!(me.look(Some(record("", "7")), Instant::now()), Act::TakeOver);
    }

    #[test]
    fn who_cannot_renew_stops_leading_before_another_may_begin() {
        let start = Instant::now();
        let mut me = Candidate::new("me".into(), timing());
        me.won(Record { holder: Some("me".into()), version: "1".into() }, start);
        assert!(me.leads(after(start, 9)));
        assert!(!me.leads(after(start, 10)));
        assert_eq!(me.look(Some(record("me", "1")), after(start, 11)), Act::Renew);
    }

    #[test]
    fn who_was_replaced_leads_no_more() {
        let start = Instant::now();
        let mut me = Candidate::new("me".into(), timing());
        me.won(Record { holder: Some("me".into()), version: "1".into() }, start);
        assert_eq!(me.look(Some(record("you", "2")), after(start, 1)), Act::Follow);
        me.lost();
        assert!(!me.leads(after(start, 1)));
    }
}
