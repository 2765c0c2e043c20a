//! What real nodes need from the distribution: named when missing, installed when root says yes. Knows Debian's package names.
use std::path::Path;
use std::process::Command;

use super::run;
use crate::error::{Error, Result};

/// A file that shows that the package is there, and the package.
const NEEDED: [(&str, &str); 6] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
];

/// What Kubernetes' own tests call in their pods.
const CALLED: [(&str, &str); 3] = [("nc.openbsd", "netcat-openbsd"), ("curl", "curl"), ("wget", "wget")];

/// The Debian packages that the full lab needs and that are not installed.
pub fn missing() -> Vec<&'static str> {
    absent(&NEEDED)
}

/// The Debian packages that Kubernetes' own tests need besides and that are not installed.
pub fn missing_for_conformance() -> Vec<&'static str> {
    absent(&CALLED)
}

fn absent(files: &[(&str, &'static str)]) -> Vec<&'static str> {
    files.iter().filter(|(file, _)| !is_there(file)).map(|(_, package)| *package).collect()
}

/// Installs the packages with apt-get, which needs root.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::new(format!("install {} as root, or use the light lab", packages.join(" "))));
    }
    eprintln!("installing {} ...", packages.join(" "));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    run(apt().args(["update", "-qq"]), "update the package lists")?;
    run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages), "install packages")?;
    Ok(())
}

fn is_there(file: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let dirs = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    file.starts_with('/') && Path::new(file).is_file()
        || !file.starts_with('/') && dirs.into_iter().any(|dir| Path::new(dir).join(file).is_file())
}
