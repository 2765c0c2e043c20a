//! The images of the tests' pods, under the names that the tests ask for, so that no registry is needed. Knows which commands
//! the tests call in pods.
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::error::{Error, Result};
use crate::image::{layer, pack};
use crate::tools::{self, Suite};

/// Commands of the distribution, and how they are called in pods. Not busybox': its shell prefers an `nc` of its own, which
/// lacks flags that the tests use.
const COMMANDS: [(&str, &str); 10] = [
    ("bash", "bin/sh"),
    ("nc.openbsd", "bin/nc"),
    ("curl", "bin/curl"),
    ("wget", "bin/wget"),
    ("seq", "bin/seq"),
    ("cat", "bin/cat"),
    ("grep", "bin/grep"),
    ("tail", "bin/tail"),
    ("sleep", "bin/sleep"),
    ("timeout", "bin/timeout"),
];
/// GNU wget tries twenty times where the tests expect one.
const FILES: [(&str, &str); 1] = [("etc/wgetrc", "tries = 1\n")];
const REGISTRY: &str = "registry.k8s.io/";

/// Writes the archive.
pub(super) fn write(suite: &Suite, archive: &Path) -> Result<()> {
    let commands = COMMANDS.iter().map(|(name, inside)| Ok((find(name)?, *inside))).collect::<Result<Vec<_>>>()?;
    let commands = commands.iter().map(|(path, inside)| (path.as_path(), *inside));
    let binaries: Vec<_> = commands.chain([(suite.agnhost.as_path(), "agnhost")]).collect();
    let names = tools::run(Command::new(&suite.tests).arg("--list-images"), "list the images of the tests")?;
    let names = names.lines().map(str::trim).filter(|name| name.starts_with(REGISTRY));
    let images: Vec<_> = names
        .filter_map(|name| match name {
            _ if name.contains("/agnhost:") => Some((name, json!(["/agnhost"]))),
            _ if name.contains("/pause:") => Some((name, json!(["/agnhost", "pause"]))),
            _ => None,
        })
        .collect();
    pack(archive, &layer(&binaries, &FILES)?, &images)
}

/// Where a command is.
fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let dirs = path.split(':').chain(["/usr/bin", "/bin"]).map(Path::new);
    let found = dirs.map(|dir| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Error::new(format!("find the command {name}")))
}
