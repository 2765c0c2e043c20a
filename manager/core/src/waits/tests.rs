//! Who is waited for, and for how long: what one moment cannot show.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn key(name: &str) -> Key {
    Key::new("tenant-shop", name)
}

fn fleet() -> Arc<str> {
    "default".into()
}

fn envoy(node: &str) -> Envoy {
    (fleet(), node.into())
}

impl Waits {
    fn lacks(&mut self, name: &str, nodes: &[&str], second: i64) {
        let lacking: Nodes = nodes.iter().map(|node| Arc::from(*node)).collect();
        let holding = ["a", "b"].map(Arc::from).into_iter().filter(|node| !lacking.contains(node)).collect();
        self.note(&key(name), &fleet(), &lacking, &holding, at(second));
        self.open(&key(name), at(second));
    }

    /// Lets time pass as an engine does, which is called at every alarm.
    fn until(&mut self, second: i64) -> BTreeSet<Key> {
        let mut balancers = BTreeSet::new();
        while let Some(next) = self.next().filter(|next| *next <= at(second)) {
            balancers.extend(self.due(next).balancers);
            assert_ne!(self.next(), Some(next), "an alarm that does not end");
        }
        balancers
    }

    fn stopped(&self, node: &str) -> bool {
        self.is_stopped(&fleet(), &node.into())
    }
}

#[test]
fn a_silent_envoy_is_waited_for_half_a_minute_and_counts_again_with_its_next_acknowledgement() {
    let mut waits = Waits::default();
    waits.lacks("web", &["a"], 0);
    assert_eq!(waits.held_back(&envoy("a"), at(0)), 0);
    assert_eq!(waits.due(at(1)).fleets, BTreeSet::from([fleet()]));
    assert_eq!(waits.held_back(&envoy("a"), at(1)), 1);
    assert_eq!((waits.until(29).len(), waits.stopped("a")), (0, false));
    assert_eq!((waits.until(30), waits.stopped("a")), (BTreeSet::from([key("web")]), true));
    waits.lacks("later", &["a"], 40);
    assert!(waits.stopped("a"), "it counts for nothing new");
    assert!(waits.acknowledged(&envoy("a"), at(50)));
    assert!(!waits.stopped("a"));
    waits.until(79);
    assert!(!waits.stopped("a"));
    waits.until(80);
    assert!(waits.stopped("a"), "silent again");
}

#[test]
fn an_envoy_that_starts_and_acknowledges_now_and_then_is_waited_for() {
    let mut waits = Waits::default();
    waits.lacks("web", &["a"], 0);
    for second in [25, 50, 75, 100] {
        waits.until(second);
        waits.acknowledged(&envoy("a"), at(second));
    }
    assert!(!waits.stopped("a"));
    waits.lacks("web", &[], 119);
    assert_eq!(waits.next(), None);
}

#[test]
fn an_envoy_that_acknowledges_and_completes_nothing_stops_after_two_minutes_until_it_completes_something() {
    let mut waits = Waits::default();
    for name in ["one", "two"] {
        waits.lacks(name, &["a"], 0);
    }
    for second in 1..120 {
        waits.until(second);
        waits.acknowledged(&envoy("a"), at(second));
    }
    assert!(!waits.stopped("a"));
    waits.until(120);
    assert!(waits.stopped("a"));
    assert!(!waits.acknowledged(&envoy("a"), at(121)), "which completes nothing");
    assert!(waits.stopped("a"));
    waits.lacks("one", &[], 122);
    assert!(!waits.stopped("a"));
}

#[test]
fn a_load_balancer_waits_for_two_minutes_for_an_envoy_that_serves_others() {
    let mut waits = Waits::default();
    waits.lacks("web", &["a"], 0);
    let mut due = BTreeSet::new();
    for second in 1..=120 {
        waits.lacks("other", &["a"], second);
        waits.lacks("other", &[], second);
        due.extend(waits.until(second));
    }
    assert_eq!((due, waits.stopped("a")), (BTreeSet::from([key("web")]), false));
    assert!(waits.is_overdue(&key("web"), at(120)) && !waits.is_overdue(&key("web"), at(119)));
}

#[test]
fn an_envoy_between_two_streams_goes_on_owing() {
    let mut waits = Waits::default();
    waits.lacks("web", &["a"], 0);
    for second in [10, 20, 29] {
        waits.note(&key("web"), &fleet(), &Nodes::new(), &Nodes::new(), at(second));
        waits.lacks("web", &["a"], second);
    }
    assert_eq!((waits.until(30), waits.stopped("a")), (BTreeSet::from([key("web")]), true));
}

#[test]
fn what_is_deleted_or_not_chosen_is_forgotten() {
    let mut waits = Waits::default();
    waits.lacks("web", &["a", "b"], 0);
    waits.lacks("other", &["b"], 0);
    waits.forget(&key("web"));
    waits.leave(&envoy("b"));
    assert!(waits.balancers.is_empty() && waits.envoys.is_empty() && waits.alarms.is_empty(), "{waits:?}");
}

#[test]
fn a_silent_envoy_stays_stopped_when_what_it_owed_is_deleted() {
    let mut waits = Waits::default();
    waits.lacks("web", &["a"], 0);
    waits.until(30);
    waits.forget(&key("web"));
    assert!(waits.stopped("a"));
    waits.acknowledged(&envoy("a"), at(40));
    assert!(!waits.stopped("a"));
}
