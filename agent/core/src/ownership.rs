//! Which Services are ours. Knows type and class; knows nothing of what they ask.

use k8s_openapi::api::core::v1::Service;
use nave_api::names;

use crate::Policy;

/// Whether the Service asks for a load balancer, and asks us.
pub fn is_ours(service: &Service, policy: &Policy) -> bool {
    let Some(spec) = &service.spec else { return false };
    let asks = spec.type_.as_deref() == Some("LoadBalancer");
    let us = match spec.load_balancer_class.as_deref() {
        Some(class) => class == names::LOAD_BALANCER_CLASS,
        None => policy.default_load_balancer,
    };
    asks && us
}

/// Whether our finalizer is on the Service.
pub fn is_held(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::AGENT_FINALIZER)
}

/// Whether the user has deleted the Service.
pub fn is_deleted(service: &Service) -> bool {
    service.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(kind: &str, class: Option<&str>) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"type": kind, "loadBalancerClass": class}}))
            .unwrap()
    }

    #[test]
    fn the_class_decides_and_without_one_the_default_agent() {
        let by_default = Policy { default_load_balancer: true, ..Policy::default() };
        let (by_class, asked) =
            (Policy::default(), |kind, class, policy: &Policy| is_ours(&service(kind, class), policy));
        assert!(asked("LoadBalancer", Some("nave.dev/load-balancer"), &by_class));
        assert!(asked("LoadBalancer", None, &by_default));
        assert!(!asked("LoadBalancer", None, &by_class));
        assert!(!asked("LoadBalancer", Some("example.com/other"), &by_default));
        assert!(!asked("ClusterIP", None, &by_default));
        assert!(!is_ours(&Service::default(), &by_default));
    }
}
