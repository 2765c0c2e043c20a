//! Helm at the version that `e2e/helm/go.mod` pins: given by `HELM`, cached, or built. Knows the Go module; knows no chart.
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::{cache, lock, run};
use crate::error::{Act, Result};

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm");
const PACKAGE: &str = "helm.sh/helm/v3/cmd/helm";

/// The path of Helm; the first build takes a minute or two.
pub fn helm() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("HELM") {
        return Ok(PathBuf::from(given));
    }
    let sums = std::fs::read(Path::new(MODULE).join("go.sum")).act(|| "read go.sum of the lab's Helm")?;
    let digest = Sha256::digest(&sums);
    let key = digest.iter().take(6).fold(String::new(), |key, byte| key + &format!("{byte:02x}"));
    let dir = cache()?.join(format!("helm-{key}"));
    let path = dir.join("helm");
    let _lock = lock(&dir)?;
    if !path.is_file() {
        eprintln!("building helm from its Go module ...");
        let unfinished = dir.join(".helm.unfinished");
        let mut go = Command::new("go");
        go.current_dir(MODULE).env("CGO_ENABLED", "0").args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]);
        run(go.arg(&unfinished).arg(PACKAGE), "build helm with Go")?;
        std::fs::rename(&unfinished, &path).act(|| "put helm into the cache")?;
    }
    Ok(path)
}
