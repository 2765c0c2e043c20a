//! Whether a load balancer is programmed: what its condition says, and for how long that may wait. Knows what Envoys said; knows
//! not which of them count.

use std::time::Duration;

use nave_api::TCPLoadBalancer;
use nave_api::condition::{self, ConditionType, Verdict};
use nave_xds::text;

use super::serve::{Entry, Programmed};
use super::standing::Standing;
use super::status::PATIENCE;
use crate::problem::Problem;

/// So many characters of an Envoy's words stand in a condition, which is another party's to read.
const WORDS: usize = 256;

/// What a change says that waits.
const LISTENERS_WAIT: &str = "waits: too many listeners of this tenant were added, changed or removed at once, and Envoy drains them for 30 s; or \
     the tenant has half of the listeners that the Envoys can open: delete ports, or ask the hub's administrators for Envoys with more open files";

/// Whether the fleet serves it, and how long saying so may wait. Nothing where nothing new is known.
pub(super) fn programmed(
    balancer: &TCPLoadBalancer,
    entry: &mut Entry,
    stopped: Option<&Problem>,
    standing: Standing,
) -> (Option<Verdict>, Duration) {
    let kind = ConditionType::Programmed;
    if let Some(problem) = stopped {
        return (Some(Verdict::fails(kind, "NotAccepted", problem.to_string())), Duration::ZERO);
    }
    if entry.waits {
        return (Some(Verdict::fails(kind, "ListenersWait", LISTENERS_WAIT)), Duration::ZERO);
    }
    if entry.fragment.is_empty() {
        return (Some(unallocated()), Duration::ZERO);
    }
    let was_programmed = is_programmed(balancer, entry);
    // Its backends are not known yet: no client shall come to it. What was served once stays as it is.
    let is_unknown =
        |problem: &&Problem| matches!(problem, Problem::NodeSetMissing { .. } | Problem::DependsOnUnreadable { .. });
    let unknown = entry.problems.iter().find(is_unknown);
    if let Some(problem) = unknown.filter(|_| !was_programmed) {
        return (Some(Verdict::fails(kind, "NotAccepted", problem.to_string())), PATIENCE);
    }
    let fleet = &entry.fleet;
    let served = || {
        Verdict::holds(
            kind,
            "Programmed",
            format!("the Envoys of fleet {fleet} acknowledged it; the Fleet's status says which Envoys are connected"),
        )
    };
    match standing {
        Standing::Refused { node, message } => {
            let message =
                format!("the Envoy of {node} refuses it, see also its log: {}", text::printable(&message, WORDS));
            entry.programmed = Programmed::No;
            (Some(Verdict::fails(kind, "Refused", message)), Duration::ZERO)
        }
        Standing::Held => {
            let served = served();
            entry.programmed = Programmed::Yes;
            (Some(served), Duration::ZERO)
        }
        Standing::Awaited | Standing::NoEnvoy if was_programmed => (Some(served()), Duration::ZERO),
        Standing::NoEnvoy if entry.programmed == Programmed::Unknown && says_programmed(balancer, false) => {
            (None, Duration::ZERO)
        }
        Standing::Awaited => {
            let message = format!("waits for the Envoys of fleet {fleet} to acknowledge it");
            (Some(Verdict::fails(kind, "Pending", message)), PATIENCE)
        }
        Standing::NoEnvoy => {
            let message = format!(
                "no Envoy of fleet {fleet} is connected, on a node that the Fleet chooses: start one on an edge node, or see the \
                 Fleet's status"
            );
            (Some(Verdict::fails(kind, "NoEnvoy", message)), PATIENCE)
        }
    }
}

/// Whether it was programmed when this was said last, as it is specified now.
pub(super) fn is_programmed(balancer: &TCPLoadBalancer, entry: &Entry) -> bool {
    match entry.programmed {
        Programmed::Yes => true,
        Programmed::No => false,
        Programmed::Unknown => says_programmed(balancer, true),
    }
}

/// Whether the status that was seen says that it is programmed, as it is specified now or as it ever was.
pub(super) fn says_programmed(balancer: &TCPLoadBalancer, as_it_is: bool) -> bool {
    let conditions = balancer.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    condition::is_true(conditions, ConditionType::Programmed)
        && (!as_it_is
            || condition::find(conditions, ConditionType::Programmed).and_then(|c| c.observed_generation)
                == balancer.metadata.generation)
}

pub(super) fn unallocated() -> Verdict {
    Verdict::fails(ConditionType::Programmed, "NotAllocated", "waits for its addresses")
}
