//! What the user is told on his Service, and when: once per transition. Knows conditions of the hub; writes nothing.

use nave_api::condition::find;
use nave_api::tcp_load_balancer::TCPLoadBalancerStatus;
use nave_api::{Condition, ConditionType};

use crate::{Key, Problem};

/// The longest note that an Event takes.
const LONGEST: usize = 1000;
/// Reasons that say no more than that something is on its way, or that another condition says why not.
const QUIET: [&str; 5] = ["Pending", "NotAccepted", "NotAllocated", "NodeSetMissing", "AwaitsCloud"];

/// Normal or Warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

/// One Event on a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// The Service.
    pub service: Key,
    /// Its uid.
    pub uid: String,
    /// Normal or Warning.
    pub tone: Tone,
    /// CamelCase.
    pub reason: String,
    /// For people.
    pub note: String,
}

/// What an Event says, before it is known on which Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word {
    /// Normal or Warning.
    pub tone: Tone,
    /// CamelCase.
    pub reason: String,
    /// For people.
    pub note: String,
}

impl Word {
    /// On a Service.
    pub fn on(self, service: &Key, uid: &str) -> Notice {
        let Self { tone, reason, note } = self;
        Notice {
            service: service.clone(),
            uid: uid.to_owned(),
            tone,
            reason,
            note: note.chars().take(LONGEST).collect(),
        }
    }
}

impl From<&Problem> for Word {
    fn from(problem: &Problem) -> Self {
        Self { tone: Tone::Warning, reason: problem.reason().to_owned(), note: problem.message() }
    }
}

/// What is worth an Event between two answers of the hub: a load balancer that is served now, and every new refusal.
pub fn between(before: Option<&TCPLoadBalancerStatus>, after: Option<&TCPLoadBalancerStatus>) -> Vec<Word> {
    use ConditionType::{Accepted, Allocated, Programmed};
    let Some(after) = after else { return Vec::new() };
    let old = |kind| before.and_then(|status| find(&status.conditions, kind));
    [Accepted, Allocated, Programmed]
        .into_iter()
        .filter_map(|kind| {
            let new = find(&after.conditions, kind)?;
            // What the hub says of another wish with other words is news, too.
            let same = |old: &Condition| {
                (&old.status, &old.reason) == (&new.status, &new.reason)
                    && (old.observed_generation == new.observed_generation || old.message == new.message)
            };
            let known = old(kind).is_some_and(same);
            if known { None } else { word(kind, new, after) }
        })
        .collect()
}

fn word(kind: ConditionType, condition: &Condition, status: &TCPLoadBalancerStatus) -> Option<Word> {
    match condition.status.as_str() {
        "True" if kind == ConditionType::Programmed => {
            let addresses: Vec<&str> = status.addresses.iter().map(|address| address.value.as_str()).collect();
            let note = format!("The hub serves it at {}", addresses.join(", "));
            Some(Word { tone: Tone::Normal, reason: condition.reason.clone(), note })
        }
        // It holds, but not for all that was asked.
        "True" if condition.reason != kind.as_str() => Some(warning(kind, condition)),
        "False" if !QUIET.contains(&condition.reason.as_str()) => Some(warning(kind, condition)),
        _ => None,
    }
}

fn warning(kind: ConditionType, condition: &Condition) -> Word {
    let note = format!("{}: {}", kind.as_str(), condition.message);
    Word { tone: Tone::Warning, reason: condition.reason.clone(), note }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(conditions: &[(&str, &str, &str, &str)]) -> TCPLoadBalancerStatus {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, reason, message)| {
                json!({"type": kind, "status": status, "reason": reason, "message": message,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        let addresses = json!([{"value": "203.0.113.7", "family": "IPv4", "pool": "public"}]);
        serde_json::from_value(json!({"addresses": addresses, "conditions": conditions})).unwrap()
    }

    fn reasons(before: &TCPLoadBalancerStatus, after: &TCPLoadBalancerStatus) -> Vec<String> {
        between(Some(before), Some(after)).into_iter().map(|word| word.reason).collect()
    }

    #[test]
    fn a_transition_is_told_once() {
        let pending = answer(&[("Programmed", "False", "Pending", "waits")]);
        let done = answer(&[("Programmed", "True", "Programmed", "served")]);
        let refused = answer(&[("Programmed", "False", "Refused", "edge-1: cannot bind")]);
        let refused_again = answer(&[("Programmed", "False", "Refused", "edge-2: cannot bind")]);
        assert_eq!(reasons(&TCPLoadBalancerStatus::default(), &pending), Vec::<String>::new());
        assert_eq!(reasons(&pending, &done), ["Programmed"]);
        assert_eq!(reasons(&done, &done), Vec::<String>::new());
        assert_eq!(reasons(&done, &refused), ["Refused"]);
        assert_eq!(reasons(&refused, &refused_again), Vec::<String>::new());
        let words = between(None, Some(&done));
        assert_eq!(words[0].note, "The hub serves it at 203.0.113.7");
    }

    #[test]
    fn one_refusal_is_told_once_and_one_in_part_as_well() {
        let refused = answer(&[
            ("Accepted", "False", "QuotaExceeded", "10 of 10"),
            ("Allocated", "False", "NotAccepted", "see Accepted"),
            ("Programmed", "False", "NotAllocated", "see Allocated"),
        ]);
        let partly = answer(&[("Accepted", "True", "BackendsRefused", "10.0.0.1 is not allowed")]);
        let nothing = TCPLoadBalancerStatus::default();
        assert_eq!(reasons(&nothing, &refused), ["QuotaExceeded"]);
        assert_eq!(reasons(&nothing, &partly), ["BackendsRefused"]);
        assert_eq!(reasons(&nothing, &answer(&[("Accepted", "True", "Accepted", "")])), Vec::<String>::new());
    }

    #[test]
    fn an_exhausted_pool_is_a_warning_with_the_hubs_words() {
        let exhausted = answer(&[("Allocated", "False", "PoolExhausted", "pool public has no free address")]);
        let words = between(None, Some(&exhausted));
        let note = "Allocated: pool public has no free address".to_owned();
        assert_eq!(words, [Word { tone: Tone::Warning, reason: "PoolExhausted".into(), note }]);
    }
}
