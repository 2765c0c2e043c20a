//! Why the hub does not serve a load balancer as asked. Knows the hub's conditions; knows no Service.

use nave_api::condition::{self, find};
use nave_api::tcp_load_balancer::TCPLoadBalancerStatus;
use nave_api::{Condition, ConditionType};

/// Reasons that end by themselves, mostly before a person has looked.
const PASSING: [&str; 3] = ["Pending", "NodeSetMissing", "AwaitsCloud"];
/// Reasons that only say that another condition says why.
const REFERRING: [&str; 2] = ["NotAccepted", "NotAllocated"];
/// The longest reason of a condition.
const LONGEST: usize = 1024;

/// What the hub says of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is served as asked.
    Served,
    /// It is not.
    Waits(Cause),
    /// The hub speaks of what was asked before.
    Unknown,
}

/// A reason of the hub and its words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Cause {
    fn of(condition: &Condition) -> Self {
        // A condition of a Service with a reason of another form is refused by its API server.
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_reason = condition.reason.len() <= LONGEST
            && condition.reason.starts_with(|c: char| c.is_ascii_alphabetic())
            && condition.reason.chars().all(good);
        let reason = if is_reason { condition.reason.clone() } else { "Unknown".to_owned() };
        Self { reason, message: condition.message.clone() }
    }

    /// Whether it mostly ends by itself within seconds.
    pub fn is_passing(&self) -> bool {
        PASSING.contains(&self.reason.as_str())
    }
}

/// Where a load balancer stands: the first of its conditions that does not hold and gives a reason of its own. `generation`: of
/// what is asked now; `None`: the hub has yet to hear it.
pub fn standing(answer: Option<&TCPLoadBalancerStatus>, generation: Option<i64>) -> Standing {
    use ConditionType::{Accepted, Allocated, Programmed};
    let find = |kind| answer.and_then(|answer| find(&answer.conditions, kind));
    let is_current = |said: &Condition| generation.is_some_and(|wish| said.observed_generation.unwrap_or(wish) >= wish);
    if let Some(said) = find(Programmed).filter(|said| said.status == "True") {
        return if is_current(said) { Standing::Served } else { Standing::Unknown };
    }
    let failing =
        || [Accepted, Allocated, Programmed].into_iter().filter_map(find).filter(|said| said.status != "True");
    let own = failing().find(|said| !REFERRING.contains(&said.reason.as_str()));
    let silent = || Cause { reason: "Pending".to_owned(), message: "The hub has not answered yet".to_owned() };
    Standing::Waits(own.or_else(|| failing().next()).map_or_else(silent, Cause::of))
}

/// What of a load balancer the hub does not do, or does otherwise than asked; and whether the rest is done.
pub fn verdict(answer: &TCPLoadBalancerStatus) -> (Vec<Cause>, bool) {
    use ConditionType::{Accepted, Allocated};
    let all = |kind: ConditionType| condition::find(&answer.conditions, kind).into_iter();
    let partly =
        |kind: ConditionType| all(kind).filter(move |said| said.status == "True" && said.reason != kind.as_str());
    let refused: Vec<&Condition> = all(Accepted).filter(|said| said.status == "False").collect();
    let causes = refused.iter().copied().chain(partly(Accepted)).chain(partly(Allocated)).map(Cause::of);
    (causes.collect(), refused.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(conditions: &[(&str, &str, &str)]) -> TCPLoadBalancerStatus {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} says so"),
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
            })
            .collect();
        serde_json::from_value(json!({"conditions": conditions})).unwrap()
    }

    fn reason(conditions: &[(&str, &str, &str)]) -> String {
        match standing(Some(&answer(conditions)), Some(1)) {
            Standing::Waits(cause) => cause.reason,
            other @ (Standing::Served | Standing::Unknown) => format!("{other:?}"),
        }
    }

    #[test]
    fn kind_m_the_cause_of_a_wait_is_the_condition_that_has_a_reason_of_its_own() {
        let accepted = ("Accepted", "True", "Accepted");
        let referring = ("Programmed", "False", "NotAllocated");
        for cause in ["PoolNotOpen", "AddressTaken", "PoolExhausted"] {
            assert_eq!(reason(&[accepted, ("Allocated", "False", cause), referring]), cause);
        }
        let unaccepted = [("Accepted", "False", "QuotaExceeded"), ("Allocated", "False", "NotAccepted"), referring];
        assert_eq!(reason(&unaccepted), "QuotaExceeded");
        let allocated = ("Allocated", "True", "Allocated");
        assert_eq!(reason(&[accepted, allocated, ("Programmed", "False", "NoEnvoy")]), "NoEnvoy");
        assert_eq!(reason(&[accepted, allocated, ("Programmed", "Unknown", "no such reason")]), "Unknown");
        assert_eq!(reason(&[accepted, referring]), "NotAllocated", "better than nothing");
        assert_eq!((reason(&[]), reason(&[("Programmed", "True", "Programmed")])), ("Pending".into(), "Served".into()));
    }

    #[test]
    fn kind_m_what_the_hub_says_of_an_older_wish_is_no_cause_and_no_success() {
        let served = answer(&[("Programmed", "True", "Programmed")]);
        assert_eq!(standing(Some(&served), Some(2)), Standing::Unknown);
        assert_eq!(standing(Some(&served), None), Standing::Unknown);
    }

    #[test]
    fn kind_m_what_is_accepted_in_part_is_said_beside_what_is_refused() {
        let reasons = |conditions: &[(&str, &str, &str)]| {
            let (causes, served) = verdict(&answer(conditions));
            (causes.into_iter().map(|cause| cause.reason).collect::<Vec<_>>(), served)
        };
        assert_eq!(reasons(&[("Accepted", "True", "Accepted"), ("Allocated", "True", "Allocated")]), (vec![], true));
        assert_eq!(
            reasons(&[("Accepted", "True", "BackendsRefused"), ("Allocated", "True", "Orphaned")]),
            (vec!["BackendsRefused".into(), "Orphaned".into()], true)
        );
        assert_eq!(reasons(&[("Accepted", "False", "QuotaExceeded")]), (vec!["QuotaExceeded".into()], false));
    }
}
