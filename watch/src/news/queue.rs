//! Events that wait to be sent, the namespaces in turns. Knows whose they are; sends none.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use tokio::time::Instant;

/// So many Events of either kind wait; more are lost, the oldest of the namespace that has most.
const WAITING: usize = 4096;
/// After so many Events of what is wrong, one of what is well is sent, if one waits.
const IN_A_ROW: u32 = 4;

/// An Event, what it is about, and when it was left here.
pub(super) struct Waiting {
    pub(super) event: Event,
    pub(super) about: ObjectReference,
    pub(super) left: Instant,
}

/// All that wait.
#[derive(Default)]
pub(super) struct Queue {
    wrong: Turns,
    well: Turns,
    /// Events of what is wrong that were sent since the last one of what is well.
    in_a_row: u32,
    closed: bool,
}

impl Queue {
    /// No more come.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether no more come.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes one in; whether none was lost for it. What was well of an object before something is wrong with it does not count any more.
    pub(super) fn add(&mut self, waiting: Waiting) -> bool {
        match waiting.event.type_ {
            EventType::Warning => {
                self.well.forget(&waiting.about);
                self.wrong.add(waiting)
            }
            EventType::Normal => self.well.add(waiting),
        }
    }

    /// The next one to send.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        let well_is_due = self.in_a_row >= IN_A_ROW;
        let wrong = if well_is_due && self.well.count > 0 { None } else { self.wrong.next() };
        self.in_a_row = if wrong.is_some() { self.in_a_row.saturating_add(1) } else { 0 };
        wrong.or_else(|| self.well.next())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} wrong, {} well)", self.wrong.count, self.well.count)
    }
}

/// Events of one kind, by whose they are.
#[derive(Default)]
struct Turns {
    by_party: BTreeMap<String, VecDeque<Waiting>>,
    /// Whose turn it was last.
    last: String,
    count: usize,
}

impl Turns {
    fn add(&mut self, waiting: Waiting) -> bool {
        self.by_party.entry(party(&waiting.about)).or_default().push_back(waiting);
        self.count += 1;
        let is_kept = self.count <= WAITING;
        if !is_kept {
            let most = self.by_party.iter().max_by_key(|(_, waiting)| waiting.len()).map(|(party, _)| party.clone());
            most.and_then(|party| self.take(&party));
        }
        is_kept
    }

    fn next(&mut self) -> Option<Waiting> {
        let after = (std::ops::Bound::Excluded(self.last.as_str()), std::ops::Bound::Unbounded);
        let party = self.by_party.range::<str, _>(after).next().or_else(|| self.by_party.iter().next())?.0.clone();
        let next = self.take(&party);
        self.last = party;
        next
    }

    fn take(&mut self, party: &str) -> Option<Waiting> {
        let waiting = self.by_party.get_mut(party)?;
        let first = waiting.pop_front();
        self.count -= usize::from(first.is_some());
        if waiting.is_empty() {
            self.by_party.remove(party);
        }
        first
    }

    /// Drops what waits about an object.
    fn forget(&mut self, about: &ObjectReference) {
        let (party, Some(uid)) = (party(about), about.uid.as_ref()) else { return };
        let Some(waiting) = self.by_party.get_mut(&party) else { return };
        let before = waiting.len();
        waiting.retain(|waiting| waiting.about.uid.as_ref() != Some(uid));
        self.count -= before - waiting.len();
        if waiting.is_empty() {
            self.by_party.remove(&party);
        }
    }
}

/// Whose an Event is: what one writes in its namespace, or the object itself where it has no namespace.
fn party(about: &ObjectReference) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match &about.namespace {
        Some(namespace) => namespace.clone(),
        None => format!("{}/{}", text(&about.kind), text(&about.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(namespace: &str, name: &str, type_: EventType) -> Waiting {
        let (namespace, uid) = (Some(namespace.to_owned()), Some(format!("{namespace}/{name}")));
        let about = ObjectReference { namespace, name: Some(name.into()), uid, ..ObjectReference::default() };
        let event = Event { type_, reason: "R".into(), note: None, action: "A".into(), secondary: None };
        Waiting { event, about, left: Instant::now() }
    }

    fn names(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next()).filter_map(|waiting| waiting.about.uid).collect()
    }

    #[test]
    fn namespaces_take_turns_and_what_is_wrong_comes_first_but_not_for_ever() {
        let mut queue = Queue::default();
        for number in 0..5 {
            queue.add(waiting("a", &number.to_string(), EventType::Warning));
        }
        queue.add(waiting("b", "0", EventType::Warning));
        queue.add(waiting("b", "well", EventType::Normal));
        queue.add(waiting("c", "well", EventType::Normal));
        let sent = names(&mut queue);
        assert_eq!(sent, ["a/0", "b/0", "a/1", "a/2", "b/well", "a/3", "a/4", "c/well"]);
    }

    #[test]
    fn a_full_queue_loses_the_oldest_event_of_the_namespace_that_has_most() {
        let mut queue = Queue::default();
        queue.add(waiting("quiet", "0", EventType::Warning));
        for number in 0..2 * WAITING {
            let is_kept = queue.add(waiting("flood", &number.to_string(), EventType::Warning));
            assert_eq!(is_kept, number + 1 < WAITING, "{number}");
        }
        assert!(!queue.add(waiting("quiet", "1", EventType::Warning)), "one of the flood is lost for it");
        assert_eq!(queue.wrong.count, WAITING);
        let sent = names(&mut queue);
        assert_eq!(sent.len(), WAITING);
        assert!(
            sent[..4].contains(&"quiet/0".to_owned()) && sent[..4].contains(&"quiet/1".to_owned()),
            "{:?}",
            &sent[..4]
        );
        assert_eq!(sent.last().unwrap(), &format!("flood/{}", 2 * WAITING - 1));
    }

    #[test]
    fn an_object_with_which_something_is_wrong_is_not_reported_as_well_before() {
        let mut queue = Queue::default();
        queue.add(waiting("a", "web", EventType::Normal));
        queue.add(waiting("a", "other", EventType::Normal));
        queue.add(waiting("a", "web", EventType::Warning));
        queue.add(waiting("a", "web", EventType::Normal));
        assert_eq!(names(&mut queue), ["a/web", "a/other", "a/web"]);
        assert_eq!((queue.wrong.count, queue.well.count, queue.well.by_party.len()), (0, 0, 0));
    }
}
