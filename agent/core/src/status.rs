//! What a Service shows of its load balancer. Knows the hub's answer and what is shown now; remembers nothing.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, PortStatus, Service};
use nave_api::tcp_load_balancer::{Address, TCPLoadBalancerStatus};
use nave_api::{Condition, ConditionType, condition};

use crate::Problem;
use crate::waiting::Cause;
use crate::world::Saying;

/// Traffic reaches the backends from a proxy, so nodes must not short-cut the address to themselves.
const PROXY: &str = "Proxy";
/// The type of our condition [`Topic::Programmed`].
pub const PROGRAMMED: &str = "nave.dev/Programmed";
/// The type of our condition [`Topic::Accepted`].
pub const ACCEPTED: &str = "nave.dev/Accepted";
/// The longest message of one.
const LONGEST: usize = 1000;
/// The reason where there are several.
pub const SEVERAL: &str = "SeveralProblems";

/// What the Service shows now.
pub fn shown(service: &Service) -> &[LoadBalancerIngress] {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default()
}

/// What it shall show. An address appears once it is programmed for this `generation` of our wish (`None`: the hub has yet
/// to hear it), and stays, whatever Programmed says later, until the hub no longer lists it. A hub that has not spoken yet
/// (no status) takes nothing away.
pub fn wanted(
    shown: &[LoadBalancerIngress],
    answer: Option<&TCPLoadBalancerStatus>,
    generation: Option<i64>,
) -> Vec<LoadBalancerIngress> {
    let Some(answer) = answer else { return shown.to_vec() };
    let told = condition::find(&answer.conditions, ConditionType::Programmed).filter(|told| told.status == "True");
    let programmed = told.is_some_and(|told| is_current(told, generation));
    let present = |address: &Address| {
        let is_it = |text: Option<&str>| text == Some(address.value.as_str());
        shown.iter().find(|entry| is_it(entry.ip.as_deref()) || is_it(entry.hostname.as_deref()))
    };
    answer
        .addresses
        .iter()
        .filter_map(|address| if programmed { Some(entry(address)) } else { present(address).cloned() })
        .collect()
}

/// A condition of ours on a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Why it is not served; where its load balancer status is not ours, also that it is, and where.
    Programmed,
    /// What of it is not done, or done differently than it says; absent when there is no such thing.
    Accepted,
}

impl Topic {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Programmed, Self::Accepted];

    /// The condition's type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Programmed => PROGRAMMED,
            Self::Accepted => ACCEPTED,
        }
    }
}

/// What we said in the Service's conditions.
pub fn said(service: &Service, topic: Topic) -> Option<&Condition> {
    let conditions = service.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().find(|condition| condition.type_ == topic.as_str())
}

/// That the Service is served, and where; `None` when it is said already.
pub fn served(service: &Service, answer: &TCPLoadBalancerStatus) -> Option<Saying> {
    let addresses: Vec<&str> = answer.addresses.iter().map(|address| address.value.as_str()).collect();
    let message = format!("Served at {}", addresses.join(", "));
    news(service, Topic::Programmed, "True", ConditionType::Programmed.as_str(), &message)
}

/// That the Service waits for the hub, and why; `None` when it is said already.
pub fn waits(service: &Service, Cause { reason, message }: &Cause) -> Option<Saying> {
    news(service, Topic::Programmed, "False", reason, message)
}

/// What to say of problems, ours and the hub's, some; `None` when it is said already. `served`: the rest of the Service is.
pub fn verdict(service: &Service, problems: &BTreeSet<Problem>, causes: &[Cause], served: bool) -> Option<Saying> {
    let own = problems.iter().map(|problem| -> &str { problem.reason() });
    let reasons: BTreeSet<&str> = own.chain(causes.iter().map(|cause| cause.reason.as_str())).collect();
    let reason = if reasons.len() == 1 { reasons.first().copied().unwrap_or_default() } else { SEVERAL };
    let words = problems.iter().map(Problem::message).chain(causes.iter().map(|cause| cause.message.clone()));
    let message = words.collect::<Vec<_>>().join("; ");
    news(service, Topic::Accepted, if served { "True" } else { "False" }, reason, &message)
}

fn news(service: &Service, topic: Topic, status: &str, reason: &str, message: &str) -> Option<Saying> {
    let message: String = message.chars().take(LONGEST).collect();
    let said = said(service, topic);
    let same = said.is_some_and(|said| (&*said.status, &*said.reason, &said.message) == (status, reason, &message));
    let since = said.filter(|said| said.status == status).map(|said| said.last_transition_time.clone());
    (!same).then(|| Saying { topic, status: status.to_owned(), reason: reason.to_owned(), message, since })
}

/// Whether the hub speaks of this `generation` of our wish; `None`: it has yet to hear it.
fn is_current(told: &Condition, generation: Option<i64>) -> bool {
    generation.is_some_and(|wish| told.observed_generation.unwrap_or(wish) >= wish)
}

/// Whether what is shown can only be ours: every entry is an address behind a proxy, as no cloud says.
pub fn is_ours(shown: &[LoadBalancerIngress]) -> bool {
    !shown.is_empty() && shown.iter().all(|entry| entry.ip.is_some() && entry.ip_mode.as_deref() == Some(PROXY))
}

/// Whether what is shown may be ours: every entry is such an address, or a name.
pub fn may_be_ours(shown: &[LoadBalancerIngress]) -> bool {
    let may = |entry: &LoadBalancerIngress| match (&entry.ip, &entry.hostname) {
        (Some(_), _) => entry.ip_mode.as_deref() == Some(PROXY),
        (None, name) => name.is_some(),
    };
    !shown.is_empty() && shown.iter().all(may)
}

fn entry(address: &Address) -> LoadBalancerIngress {
    let ports: Vec<PortStatus> = address
        .ports
        .iter()
        .map(|port| PortStatus { error: None, port: port.port.into(), protocol: port.protocol.as_str().to_owned() })
        .collect();
    let is_name = address.family.is_none();
    LoadBalancerIngress {
        hostname: is_name.then(|| address.value.clone()),
        ip: (!is_name).then(|| address.value.clone()),
        ip_mode: (!is_name).then(|| PROXY.to_owned()),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(programmed: &str, addresses: &[&str]) -> TCPLoadBalancerStatus {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|a| {
                json!({"value": a, "family": if a.contains(':') { "IPv6" } else { "IPv4" }, "pool": "public",
                "ports": [{"protocol": "TCP", "port": 443}]})
            })
            .collect();
        serde_json::from_value(
            json!({"addresses": addresses, "conditions": [{"type": "Programmed", "status": programmed,
            "reason": "Any", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        )
        .unwrap()
    }

    fn addresses(entries: &[LoadBalancerIngress]) -> Vec<&str> {
        entries.iter().filter_map(|entry| entry.ip.as_deref()).collect()
    }

    #[test]
    fn an_address_is_shown_once_it_is_programmed() {
        assert!(wanted(&[], Some(&answer("False", &["203.0.113.7"])), Some(1)).is_empty());
        let entries = wanted(&[], Some(&answer("True", &["203.0.113.7", "2001:db8::7"])), Some(1));
        assert_eq!(addresses(&entries), ["203.0.113.7", "2001:db8::7"]);
        assert!(is_ours(&entries));
        assert_eq!(entries[0].ports.as_ref().unwrap()[0].port, 443);
    }

    #[test]
    fn what_is_shown_stays_until_the_hub_no_longer_lists_it() {
        let before = wanted(&[], Some(&answer("True", &["203.0.113.7", "2001:db8::7"])), Some(1));
        assert_eq!(wanted(&before, Some(&answer("False", &["203.0.113.7", "2001:db8::7"])), Some(1)), before);
        assert_eq!(addresses(&wanted(&before, Some(&answer("Unknown", &["2001:db8::7"])), Some(1))), ["2001:db8::7"]);
        assert_eq!(addresses(&wanted(&before, Some(&answer("False", &["203.0.113.8"])), Some(1))), Vec::<&str>::new());
    }

    #[test]
    fn what_the_hub_says_of_an_older_wish_shows_nothing_new() {
        let mut old = answer("True", &["203.0.113.7"]);
        old.conditions[0].observed_generation = Some(1);
        assert!(wanted(&[], Some(&old), Some(2)).is_empty());
        assert!(wanted(&[], Some(&old), None).is_empty());
        assert_eq!(addresses(&wanted(&[], Some(&old), Some(1))), ["203.0.113.7"]);
    }

    #[test]
    fn a_hub_that_has_not_spoken_takes_nothing_away() {
        let before = wanted(&[], Some(&answer("True", &["203.0.113.7"])), Some(1));
        assert_eq!(wanted(&before, None, Some(1)), before);
    }

    #[test]
    fn what_others_show_is_not_ours() {
        let foreign = LoadBalancerIngress { hostname: Some("lb.example.com".into()), ..LoadBalancerIngress::default() };
        assert!(!is_ours(&[foreign]));
        assert!(!is_ours(&[]) && !may_be_ours(&[]));
        let direct = LoadBalancerIngress { ip: Some("198.51.100.9".into()), ..LoadBalancerIngress::default() };
        assert!(!may_be_ours(&[direct]));
    }
}
