//! Kubernetes' own end-to-end tests, and what they need, built from `e2e/conformance/kubernetes`. Knows packages; knows no
//! test.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::kubernetes::{key, version_flags};
use super::{cache, lock, run};
use crate::error::{Act, Result};

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/kubernetes");
/// What decides about the binaries.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "suite/suite_test.go"];

/// Where the binaries are.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The tests.
    pub tests: PathBuf,
    /// What runs in the tests' pods.
    pub agnhost: PathBuf,
    /// How the tests run commands in pods.
    pub kubectl: PathBuf,
}

/// The binaries from the cache, else built into it: a minute and a half after the lab's Kubernetes was built, else as long as
/// that.
pub fn suite() -> Result<Suite> {
    let dir = cache()?.join(format!("conformance-{}", key(Path::new(MODULE), &SOURCES)?));
    let _lock = lock(&dir)?;
    let build = |name: &str, arguments: &[&str], package: &str| {
        let path = dir.join(name);
        if !path.is_file() {
            compile(&path, arguments, package)?;
        }
        Ok(path)
    };
    Ok(Suite {
        tests: build("e2e.test", &["test", "-c", "-vet=off"], "./suite")?,
        agnhost: build("agnhost", &["build"], "k8s.io/kubernetes/test/images/agnhost")?,
        kubectl: build("kubectl", &["build"], "k8s.io/kubernetes/cmd/kubectl")?,
    })
}

/// With the flags of the lab's Kubernetes, so that Go finds in its cache what both have in common.
fn compile(path: &Path, arguments: &[&str], package: &str) -> Result<()> {
    let (started, name) = (Instant::now(), path.file_name().unwrap_or_default().display());
    eprintln!("building {name} of Kubernetes' own tests ...");
    let unfinished = path.with_extension(format!("{}", std::process::id()));
    let mut go = Command::new("go");
    go.current_dir(MODULE).env("CGO_ENABLED", "0").args(arguments);
    go.args(["-trimpath", "-ldflags", &version_flags()?, "-o"]).arg(&unfinished).arg(package);
    run(&mut go, &format!("build {name} with Go"))?;
    std::fs::rename(&unfinished, path).act(|| format!("put {name} into the cache"))?;
    eprintln!("built {name} in {} s", started.elapsed().as_secs());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The requirements and replacements of a go.mod.
    fn pins(text: &str) -> BTreeSet<String> {
        let lines =
            text.lines().map(|line| line.trim().trim_start_matches("require ").trim_end_matches(" // indirect"));
        lines.filter(|line| line.contains(" v") && !line.starts_with("//")).map(str::to_owned).collect()
    }

    #[test]
    fn the_tests_are_pinned_to_the_kubernetes_that_the_lab_runs() {
        let (lab, tests) =
            (pins(include_str!("../../kubernetes/go.mod")), pins(include_str!("../../conformance/kubernetes/go.mod")));
        let other: Vec<&String> = lab.difference(&tests).collect();
        assert!(other.is_empty(), "pin these in e2e/conformance/kubernetes/go.mod, too: {other:?}");
        assert!(lab.iter().any(|pin| pin.starts_with("k8s.io/kubernetes v")), "{lab:?}");
    }
}
