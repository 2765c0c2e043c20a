//! Which Services are ours, and how much of them. Knows type, class and the annotations that opt in; knows nothing of what
//! else they ask.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use nave_api::names;

use crate::backends::Mode;
use crate::{Policy, annotations};

/// The class of Services that PaperLB served.
const PAPERLB: &str = "lb.paperlb.com/paperlb-class";

/// What clouds' controllers put on Services that they balance.
const CLOUD_FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// How a Service asks us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Not at all.
    None,
    /// It is ours: its load balancer status is what we say.
    Whole(Mode),
    /// It is served by us beside what it is otherwise: its load balancer status belongs to a cloud or to nobody, and what
    /// we have to say is a condition.
    Beside(Mode),
}

/// How the Service asks us.
pub fn claim(service: &Service, policy: &Policy) -> Claim {
    let Some(spec) = &service.spec else { return Claim::None };
    let asked = annotations::backends(service.annotations());
    let mode = asked.unwrap_or(policy.backends);
    let opts_in = annotations::opts_in(service.annotations());
    match spec.type_.as_deref() {
        Some("LoadBalancer") => match (asks_us(spec.load_balancer_class.as_deref(), policy), mode, asked) {
            (true, Mode::NodePort | Mode::PodIp, _) => Claim::Whole(mode),
            (true, Mode::Provider, _) | (false, _, Some(Mode::Provider)) => Claim::Beside(Mode::Provider),
            (false, _, None) if opts_in => Claim::Beside(Mode::Provider),
            (false, _, _) => Claim::None,
        },
        Some("NodePort") => match (asked, opts_in) {
            (Some(Mode::NodePort | Mode::PodIp), _) => Claim::Beside(mode),
            (None, true) => Claim::Beside(if mode == Mode::Provider { Mode::NodePort } else { mode }),
            (Some(Mode::Provider), _) | (None, false) => Claim::None,
        },
        Some(_) | None => Claim::None,
    }
}

/// Whether the load balancer status may be a cloud's: only ours is no other controller's class.
pub fn is_foreign(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let balancer = spec.is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    balancer && spec.and_then(|spec| spec.load_balancer_class.as_deref()) != Some(names::LOAD_BALANCER_CLASS)
}

/// Whether our finalizer is on the Service.
pub fn is_held(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::AGENT_FINALIZER)
}

/// Whether a cloud's controller has put its finalizer on the Service.
pub fn is_held_by_cloud(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == CLOUD_FINALIZER)
}

/// Whether the user has deleted the Service.
pub fn is_deleted(service: &Service) -> bool {
    service.metadata.deletion_timestamp.is_some()
}

/// Who serves those without a class serves PaperLB's, too, which cannot be changed on a Service that has it.
fn asks_us(class: Option<&str>, policy: &Policy) -> bool {
    match class {
        Some(names::LOAD_BALANCER_CLASS) => true,
        Some(PAPERLB) | None => policy.default_load_balancer,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(kind: &str, class: Option<&str>, annotations: &[(&str, &str)], policy: &Policy) -> Claim {
        let annotations: std::collections::BTreeMap<&str, &str> = annotations.iter().copied().collect();
        let metadata = json!({"name": "web", "annotations": annotations});
        let service = json!({"metadata": metadata, "spec": {"type": kind, "loadBalancerClass": class}});
        claim(&serde_json::from_value(service).unwrap(), policy)
    }

    #[test]
    fn the_class_decides_and_without_one_the_default_agent() {
        let by_default = Policy { default_load_balancer: true, ..Policy::default() };
        let by_class = Policy::default();
        let whole = Claim::Whole(Mode::NodePort);
        assert_eq!(asked("LoadBalancer", Some("nave.dev/load-balancer"), &[], &by_class), whole);
        assert_eq!(asked("LoadBalancer", None, &[], &by_default), whole);
        assert_eq!(asked("LoadBalancer", None, &[], &by_class), Claim::None);
        assert_eq!(asked("LoadBalancer", Some("example.com/other"), &[], &by_default), Claim::None);
        assert_eq!(asked("LoadBalancer", Some("lb.paperlb.com/paperlb-class"), &[], &by_default), whole);
        assert_eq!(asked("LoadBalancer", Some("lb.paperlb.com/paperlb-class"), &[], &by_class), Claim::None);
        assert_eq!(asked("ClusterIP", None, &[], &by_default), Claim::None);
        assert_eq!(claim(&Service::default(), &by_default), Claim::None);
    }

    #[test]
    fn a_service_of_a_cloud_and_one_with_node_ports_opt_in_by_annotation() {
        let policy = Policy::default();
        let backends = |mode| [("nave.dev/backends", mode)];
        let other = Some("example.com/other");
        assert_eq!(asked("LoadBalancer", other, &backends("Provider"), &policy), Claim::Beside(Mode::Provider));
        assert_eq!(asked("LoadBalancer", other, &backends("PodIP"), &policy), Claim::None);
        assert_eq!(asked("NodePort", None, &[], &policy), Claim::None);
        assert_eq!(asked("NodePort", None, &backends("PodIP"), &policy), Claim::Beside(Mode::PodIp));
        let kubelb = [("kubernetes.io/service.class", "kubelb")];
        assert_eq!(asked("NodePort", None, &kubelb, &policy), Claim::Beside(Mode::NodePort));
        assert_eq!(asked("LoadBalancer", other, &kubelb, &policy), Claim::Beside(Mode::Provider));
        let by_default = Policy { default_load_balancer: true, ..Policy::default() };
        assert_eq!(asked("LoadBalancer", None, &kubelb, &by_default), Claim::Whole(Mode::NodePort));
    }
}
