//! Where the lab's binaries come from. Knows caches and builds; knows nothing of what the binaries do.
mod debian;
mod envoy;
mod go;
mod kubernetes;
mod suite;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use debian::{install, missing, missing_for_conformance};
pub use envoy::envoy;
pub use go::{etcdctl, etcdutl, helm};
pub use kubernetes::{ALL as KUBERNETES, kubernetes};
pub use suite::{Suite, suite};

use crate::error::{Act, Error, Result};

/// A binary of this workspace: beside the running one, or built now when a single test was asked for.
pub fn own(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().act(|| "find the running binary")?;
    let beside = here.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    if let Some(path) = beside {
        return Ok(path);
    }
    let profile_dir = here.ancestors().skip(1).find(|dir| !dir.ends_with("deps") && !dir.ends_with("examples"));
    let profile_dir = profile_dir.ok_or_else(|| Error::new("find the build directory"))?;
    build_own(name, profile_dir)
}

fn build_own(name: &str, profile_dir: &Path) -> Result<PathBuf> {
    eprintln!("building {name} ...");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With the whole workspace's features, as everything else is built.
    cargo.args(["build", "--quiet", "--workspace", "--bin", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    run(&mut cargo, &format!("build {name}"))?;
    let path = profile_dir.join(name);
    if path.is_file() { Ok(path) } else { Err(Error::new(format!("find {name} after building it"))) }
}

/// The user's cache of this project.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let dir = base
        .or_else(home)
        .ok_or_else(|| Error::new("find the user's cache: neither XDG_CACHE_HOME nor HOME is set"))?;
    let dir = dir.join("nave");
    std::fs::create_dir_all(&dir).act(|| format!("make the cache {}", dir.display()))?;
    Ok(dir)
}

/// Waits until no other lab builds into the directory.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    std::fs::create_dir_all(dir).act(|| format!("make {}", dir.display()))?;
    let file = File::create(dir.join(".lock")).act(|| format!("open the lock of {}", dir.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another lab that builds its tools ...");
        file.lock().act(|| format!("lock {}", dir.display()))?;
    }
    Ok(file)
}

/// Runs a command to its end; its output is part of the error.
pub(crate) fn run(command: &mut Command, act: &str) -> Result<String> {
    let output = command.output().act(|| act.to_owned())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{act}: {}", crate::supervisor::tail(text.trim(), 15))))
}
