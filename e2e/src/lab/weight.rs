//! How real the nodes are, and the most that this machine can do. Knows what the full lab needs; starts nothing.
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::node::cgroups;
use crate::tools;

/// What a lab is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Real control planes and a real Envoy; nodes are objects, backends listen on loopback addresses.
    Light,
    /// Real nodes, pods and kube-proxies besides, in network namespaces.
    Full,
}

impl fmt::Display for Weight {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Light => "light",
            Self::Full => "full",
        })
    }
}

/// The heaviest weight that works here, and why.
pub fn heaviest() -> (Weight, String) {
    // Tried once: the trials of two threads would take each other's names.
    static FOUND: LazyLock<(Weight, String)> = LazyLock::new(try_out);
    FOUND.clone()
}

fn try_out() -> (Weight, String) {
    if !nix::unistd::geteuid().is_root() {
        return (Weight::Light, "real nodes need root".into());
    }
    let missing = tools::missing();
    if !missing.is_empty() {
        let packages = missing.join(" ");
        return (
            Weight::Light,
            format!("real nodes need the packages {packages} (`cargo xtask tools --yes` installs them)"),
        );
    }
    if !namespaces_work() {
        return (Weight::Light, "this machine lets nobody make network namespaces".into());
    }
    if !cgroups::work() {
        return (Weight::Light, "this machine lets nobody make cgroups".into());
    }
    if !Path::new("/dev/kmsg").exists() {
        return (Weight::Light, "a kubelet needs /dev/kmsg".into());
    }
    (Weight::Full, "root, containerd and network namespaces are there".into())
}

fn namespaces_work() -> bool {
    let name = format!("nave-probe-{}", std::process::id());
    let ip = |act: &str| {
        let status =
            Command::new("ip").args(["netns", act, &name]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    ip("add") && ip("del")
}
