//! Small tools of tests at the versions that Go modules beside this crate pin: given by a variable, cached, or built. Knows
//! modules; knows nothing of what the tools do.
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::{cache, lock, run};
use crate::error::{Act, Result};

/// The path of Helm; the first build takes a minute or two.
pub fn helm() -> Result<PathBuf> {
    Tool { name: "helm", given: "HELM", module: "helm", package: "helm.sh/helm/v3/cmd/helm" }.path()
}

/// The path of etcdctl, which takes snapshots; the first build takes half a minute.
pub fn etcdctl() -> Result<PathBuf> {
    Tool { name: "etcdctl", given: "ETCDCTL", module: "etcd", package: "go.etcd.io/etcd/etcdctl/v3" }.path()
}

/// The path of etcdutl, which restores snapshots; the first build takes half a minute.
pub fn etcdutl() -> Result<PathBuf> {
    Tool { name: "etcdutl", given: "ETCDUTL", module: "etcd", package: "go.etcd.io/etcd/etcdutl/v3" }.path()
}

struct Tool {
    name: &'static str,
    /// The variable that names it.
    given: &'static str,
    /// The module's directory in this crate.
    module: &'static str,
    package: &'static str,
}

impl Tool {
    fn path(&self) -> Result<PathBuf> {
        let Self { name, given, module, package } = self;
        if let Some(given) = std::env::var_os(given) {
            return Ok(PathBuf::from(given));
        }
        let module_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(module);
        let sums = std::fs::read(module_dir.join("go.sum")).act(|| format!("read go.sum of {name}"))?;
        let digest = Sha256::digest(&sums);
        let key = digest.iter().take(6).fold(String::new(), |key, byte| key + &format!("{byte:02x}"));
        let dir = cache()?.join(format!("{module}-{key}"));
        let path = dir.join(name);
        let _lock = lock(&dir)?;
        if !path.is_file() {
            eprintln!("building {name} from its Go module ...");
            let unfinished = dir.join(format!(".{name}.unfinished"));
            let mut go = Command::new("go");
            go.current_dir(&module_dir).env("CGO_ENABLED", "0").args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]);
            run(go.arg(&unfinished).arg(package), &format!("build {name} with Go"))?;
            std::fs::rename(&unfinished, &path).act(|| format!("put {name} into the cache"))?;
        }
        Ok(path)
    }
}
