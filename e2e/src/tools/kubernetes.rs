//! Kubernetes and etcd at the versions that `e2e/kubernetes/go.mod` pins: given, cached, or built. Knows the Go module; knows
//! no flag of what it builds.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::{cache, lock, run};
use crate::error::{Act, Error, Result};

/// Every tool and its main package in the module.
pub const ALL: [(&str, &str); 6] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
];

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes");

/// The path of one tool: in the directory that `KUBEBUILDER_ASSETS` names, else in the cache, else built into the cache.
pub fn kubernetes(tool: &str) -> Result<PathBuf> {
    let given = std::env::var_os("KUBEBUILDER_ASSETS").map(|dir| PathBuf::from(dir).join(tool));
    if let Some(path) = given.filter(|path| path.is_file()) {
        return Ok(path);
    }
    let dir = cache()?.join(format!("kubernetes-{}", key(Path::new(MODULE), &["go.mod", "go.sum"])?));
    let path = dir.join(tool);
    if path.is_file() {
        return Ok(path);
    }
    let _lock = lock(&dir)?;
    if !path.is_file() {
        build(tool, &dir)?;
    }
    Ok(path)
}

/// The cache's key for what is built from these files of a module: other pins, other binaries.
pub(super) fn key(module: &Path, files: &[&str]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files.iter().map(|file| module.join(file)) {
        hash.update(std::fs::read(&file).act(|| format!("read {}", file.display()))?);
    }
    let digest = hash.finalize();
    Ok(digest.iter().take(6).fold(String::new(), |key, byte| key + &format!("{byte:02x}")))
}

/// The first build of all takes about ten minutes on two cores; one line per tool says how far it is.
fn build(tool: &str, dir: &Path) -> Result<()> {
    let Some((_, package)) = ALL.iter().find(|(name, _)| *name == tool) else {
        return Err(Error::new(format!("build {tool}: it is none of the lab's tools")));
    };
    let started = Instant::now();
    eprintln!("building {tool} from its Go module (the first time takes minutes) ...");
    let unfinished = dir.join(format!(".{tool}.{}", std::process::id()));
    let mut go = Command::new("go");
    go.current_dir(MODULE).env("CGO_ENABLED", "0").args(["build", "-trimpath", "-ldflags", &version_flags()?, "-o"]);
    go.arg(&unfinished).arg(package);
    run(&mut go, &format!("build {tool} with Go"))?;
    std::fs::rename(&unfinished, dir.join(tool)).act(|| format!("put {tool} into the cache"))?;
    eprintln!("built {tool} in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Kubernetes learns its own version from the linker.
pub(super) fn version_flags() -> Result<String> {
    let module =
        std::fs::read_to_string(Path::new(MODULE).join("go.mod")).act(|| "read go.mod of the lab's Kubernetes")?;
    let version = module.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    let version = version.and_then(|rest| rest.split_whitespace().next());
    let version = version.ok_or_else(|| Error::new("find the version of k8s.io/kubernetes in go.mod"))?;
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or("1"), parts.next().unwrap_or("0"));
    let name = "k8s.io/component-base/version";
    Ok(format!("-s -w -X {name}.gitVersion=v{version} -X {name}.gitMajor={major} -X {name}.gitMinor={minor}"))
}
