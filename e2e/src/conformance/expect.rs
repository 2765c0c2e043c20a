//! What the lane knows of Kubernetes' tests before it runs them: which take long, and which ask for what Nave does not
//! promise. Knows names of tests; a test that it does not know is run like every other.
use super::Mode;

/// How long a test takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// Less than half a minute.
    Short,
    /// Up to six minutes.
    Long,
    /// Twelve minutes: five rolling updates of pods that take a minute to end.
    Rolling,
}

/// Parts of the names of tests that are not short. Long for the suite's own waits: for a refusal until a timeout, for
/// wget's retries, for a name until a pod is gone.
const PACES: [(&str, Pace); 5] = [
    ("should be able to change the type and ports of a TCP service", Pace::Long),
    ("should be able to change the type and ports of a UDP service", Pace::Long),
    ("should only allow access from service loadbalancer source ranges", Pace::Long),
    ("should only target nodes with endpoints", Pace::Long),
    ("should not have connectivity disruption during rolling update", Pace::Rolling),
];

/// Parts of the names of tests that are left out, in which modes, and why.
const LEFT_OUT: [(&str, &[Mode], &str); 2] = [
    (
        "should handle load balancer cleanup finalizer for service",
        &Mode::ALL,
        "waits for a finalizer that only a cloud's service controller may put; Nave's is nave.dev/agent",
    ),
    (
        "should be able to create LoadBalancer Service without NodePort and change it",
        &[Mode::NodePort],
        "a Service without node ports needs backends by pod address; its Event NoNodePort says so",
    ),
];

/// How long a test takes.
pub(super) fn pace(name: &str) -> Pace {
    PACES.iter().find(|(part, _)| name.contains(part)).map_or(Pace::Short, |(_, pace)| *pace)
}

/// Why a test is left out in a mode.
pub(super) fn left_out(name: &str, mode: Mode) -> Option<&'static str> {
    let out = LEFT_OUT.iter().find(|(part, modes, _)| name.contains(part) && modes.contains(&mode));
    out.map(|(_, _, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_node_ports_is_tested_with_pods_alone() {
        let name = "should be able to create LoadBalancer Service without NodePort and change it [Slow]";
        assert!(left_out(name, Mode::NodePort).is_some());
        assert_eq!(left_out(name, Mode::PodIp), None);
    }

    #[test]
    fn an_unknown_test_is_short_and_run() {
        let name = "should do what Kubernetes 1.40 asks";
        assert_eq!(pace(name), Pace::Short);
        assert!(Mode::ALL.iter().all(|mode| left_out(name, *mode).is_none()));
    }
}
