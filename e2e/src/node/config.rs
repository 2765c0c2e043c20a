//! The configuration of a real node's processes. Knows every setting and why; starts nothing.
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use serde_json::{Value, json};

use super::names::DOMAIN;
use crate::image::PAUSE;

/// containerd with everything in the node's own directory: state, sockets, runc's state, pods' namespaces.
pub(super) fn containerd(dir: &Path) -> String {
    let (dir, snapshotter) = (dir.display(), snapshotter(dir));
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
  address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE}"
  disable_tcp_service = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{dir}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
"#
    )
}

/// An overlay cannot lie on an overlay, which is where a lab inside a container is.
fn snapshotter(dir: &Path) -> &'static str {
    match statfs(dir) {
        Ok(system) if system.filesystem_type() == OVERLAYFS_SUPER_MAGIC => "native",
        _ => "overlayfs",
    }
}

/// A bridge inside the node; pods are routed, not hidden. `network` names what CNI caches, for the sweep.
pub(super) fn cni(dir: &Path, network: &str, pods: IpNet) -> Value {
    json!({"cniVersion": "0.4.0", "name": network, "plugins": [{
        "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": dir.join("addresses"), "ranges": [[{"subnet": pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }]})
}

/// A kubelet that shares its machine with others: nothing outside its directory and its cgroup, no eviction for a disk that
/// is not its own. `names` is the address of the name server that its pods ask.
pub(super) fn kubelet(dir: &Path, authority: &Path, cgroup: &str, names: Option<IpAddr>) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": authority}},
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{cgroup}"), "cgroupsPerQOS": true, "enforceNodeAllocatable": [],
        "failCgroupV1": false, "failSwapOn": false, "makeIPTablesUtilChains": false,
        "containerRuntimeEndpoint": format!("unix://{}", dir.join("containerd.sock").display()),
        "podLogsDir": dir.join("pods"), "resolvConf": dir.join("resolv.conf"),
        "clusterDNS": names.into_iter().collect::<Vec<_>>(), "clusterDomain": names.map_or("", |_| DOMAIN),
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99, "localStorageCapacityIsolation": false,
        "nodeStatusUpdateFrequency": "2s", "nodeLeaseDurationSeconds": 8,
    })
}

pub(super) fn kubelet_flags(dir: &Path, name: &str, address: IpAddr) -> Vec<String> {
    vec![
        format!("--config={}", dir.join("kubelet.json").display()),
        format!("--kubeconfig={}", dir.join("kubelet.kubeconfig").display()),
        format!("--root-dir={}", dir.join("kubelet").display()),
        format!("--cert-dir={}", dir.join("pki").display()),
        format!("--hostname-override={name}"),
        format!("--node-ip={address}"),
    ]
}

/// The conntrack settings are the machine's, not ours to write.
pub(super) fn proxy_flags(kubeconfig: &Path, name: &str) -> Vec<String> {
    let mut flags = vec![format!("--kubeconfig={}", kubeconfig.display()), format!("--hostname-override={name}")];
    let fixed = [
        "--proxy-mode=nftables",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
    ];
    flags.extend(fixed.map(String::from));
    flags
}
