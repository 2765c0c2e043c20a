//! Kubernetes' own tests of Services of type LoadBalancer, those that take less than half a minute, with node ports and with
//! pods as backends. `cargo xtask conformance kubernetes --all` runs the others, too; docs/conformance.md has the results.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use nave_e2e::conformance::{self, Mode, Options, Outcome, table};

/// So many of Kubernetes 1.36's tests are short and ask for what Nave promises: fewer, and the lane has lost some.
const SHORT: [(Mode, usize); 2] = [(Mode::NodePort, 8), (Mode::PodIp, 9)];

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_own_load_balancer_tests_pass_with_node_ports_and_with_pods() {
    if let Some(why) = conformance::impossible() {
        eprintln!("not tried: {why}");
        return;
    }
    let rows = conformance::kubernetes(&Options::default(), |line| eprintln!("{line}")).await.unwrap();
    let failed = rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed { .. })).count();
    assert_eq!(failed, 0, "{}", table(&rows));
    for (mode, least) in SHORT {
        let passed =
            rows.iter().filter(|row| row.mode == mode && matches!(row.outcome, Outcome::Passed { .. })).count();
        assert!(passed >= least, "{passed} of {least} passed with {mode}: {}", table(&rows));
    }
}
