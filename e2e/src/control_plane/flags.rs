//! The arguments of a control plane's processes. Knows what each flag is for; starts nothing.
use std::path::{Path, PathBuf};

use super::{Options, Ports};
use crate::error::{Act, Result};

/// What is written to Services and their load balancers is logged with its content: whether it was written twice.
const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[
{"level":"Request","verbs":["create","update","patch"],"resources":[{"group":"","resources":["services","services/status"]},{"group":"nave.dev","resources":["tcploadbalancers","tcploadbalancers/status","ipallocations"]}]},
{"level":"Metadata"}]}"#;

/// Nothing here outlives a test: no fsync.
pub(super) fn etcd(dir: &Path, ports: &Ports) -> Vec<String> {
    let (client, peer) = (local(ports.etcd.number()), local(ports.peer.number()));
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

pub(super) fn api(dir: &Path, logs: &Path, options: &Options, ports: &Ports) -> Result<Vec<String>> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
    let Options { name, services, more_services, address, nodes, audit, node_ports } = options;
    let services: Vec<String> =
        [Some(services), more_services.as_ref()].into_iter().flatten().map(ToString::to_string).collect();
    let mut flags = vec![
        format!("--etcd-servers={}", local(ports.etcd.number())),
        format!("--secure-port={}", ports.api.number()),
        format!(
            "--bind-address={}",
            if address.is_loopback() { *address } else { std::net::Ipv4Addr::UNSPECIFIED.into() }
        ),
        format!("--advertise-address={address}"),
        format!("--service-cluster-ip-range={}", services.join(",")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
        file("client-ca-file", "ca.crt"),
        file("tls-cert-file", "apiserver.crt"),
        file("tls-private-key-file", "apiserver.key"),
        file("kubelet-client-certificate", "kubelets.crt"),
        file("kubelet-client-key", "kubelets.key"),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--allow-privileged".into(),
        "--profiling=false".into(),
    ];
    if !nodes {
        // An address on loopback is no valid endpoint of the Service `kubernetes`, and nobody here reads it.
        flags.push("--endpoint-reconciler-type=none".into());
    }
    flags.extend(node_ports.iter().map(|range| format!("--service-node-port-range={range}")));
    if *audit {
        let policy = dir.join("audit-policy.json");
        std::fs::write(&policy, AUDIT_POLICY).act(|| "write the audit policy")?;
        flags.push(format!("--audit-policy-file={}", policy.display()));
        flags.push(format!("--audit-log-path={}", audit_log(logs, name).display()));
    }
    Ok(flags)
}

pub(super) fn audit_log(logs: &Path, name: &str) -> PathBuf {
    logs.join(format!("{name}-audit.log"))
}

pub(super) fn controllers(dir: &Path, kubeconfig: &Path, options: &Options) -> Vec<String> {
    let mut flags = vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--service-account-private-key-file={}", dir.join("accounts.key").display()),
        format!("--root-ca-file={}", dir.join("ca.crt").display()),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--allocate-node-cidrs=false".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
        // The death of a node is seen in about ten seconds.
        "--node-monitor-period=1s".into(),
        "--node-monitor-grace-period=8s".into(),
    ];
    if !options.nodes {
        // Nodes that a test writes have no kubelet: without this they would be found dead.
        flags.push("--controllers=*,-node-lifecycle-controller".into());
    }
    flags
}

pub(super) fn scheduler(_dir: &Path, kubeconfig: &Path, _options: &Options) -> Vec<String> {
    vec![format!("--kubeconfig={}", kubeconfig.display()), "--leader-elect=false".into(), "--secure-port=0".into()]
}

pub(super) fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
