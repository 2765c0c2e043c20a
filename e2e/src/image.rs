//! Container images without a builder: an archive written by hand that `ctr images import` takes. Knows the docker archive's
//! layout; knows no registry.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Act, Result};
use crate::tools;

/// The sample backend.
pub const BACKEND: &str = "nave.dev/lab/backend:1";
/// What holds a pod's namespaces.
pub const PAUSE: &str = "nave.dev/lab/pause:1";

/// Writes an archive with both images, which share one layer: the binary and its libraries.
pub fn write(archive: &Path) -> Result<()> {
    let backend = tools::own("nave-backend")?;
    let layer = layer(&[(&backend, "nave-backend")], &[])?;
    let images = [(BACKEND, json!(["/nave-backend"])), (PAUSE, json!(["/nave-backend", "pause"]))];
    pack(archive, &layer, &images)
}

/// Writes an archive with images of these names and entry points, which share one layer.
pub(crate) fn pack<N: AsRef<str>>(archive: &Path, layer: &[u8], images: &[(N, Value)]) -> Result<()> {
    let digest = hex(layer);
    let mut out = tar::Builder::new(File::create(archive).act(|| "make the image archive")?);
    let mut manifest: Vec<Value> = Vec::new();
    add(&mut out, &format!("{digest}/layer.tar"), layer)?;
    for (name, entrypoint) in images {
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": {"Entrypoint": entrypoint},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let config = config.to_string().into_bytes();
        let file = format!("{}.json", hex(&config));
        add(&mut out, &file, &config)?;
        manifest.push(json!({"Config": file, "RepoTags": [name.as_ref()], "Layers": [format!("{digest}/layer.tar")]}));
    }
    add(&mut out, "manifest.json", json!(manifest).to_string().as_bytes())?;
    out.finish().act(|| "finish the image archive")
}

/// A layer of binaries, each at its place, their libraries where their loader looks for them, and files besides.
pub(crate) fn layer(binaries: &[(&Path, &str)], files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    // Read whole: a file with holes would become a sparse entry, which containerd does not know.
    let read = |path: &Path| fs::read(path).act(|| format!("read {}", path.display()));
    let mut all = BTreeSet::new();
    for (binary, inside) in binaries {
        add(&mut layer, inside, &read(binary)?)?;
        all.extend(libraries(binary));
    }
    for library in all {
        let inside = library.strip_prefix("/").unwrap_or(&library).to_string_lossy().into_owned();
        add(&mut layer, &inside, &read(&library)?)?;
    }
    for (inside, content) in files {
        add(&mut layer, inside, content.as_bytes())?;
    }
    layer.into_inner().act(|| "finish the image layer")
}

/// What `ldd` names; nothing for a static binary.
fn libraries(binary: &Path) -> Vec<PathBuf> {
    let listed = tools::run(Command::new("ldd").arg(binary), "list a binary's libraries").unwrap_or_default();
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    paths.filter(|path| path.is_file()).collect()
}

fn add<W: std::io::Write>(archive: &mut tar::Builder<W>, name: &str, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, name, content).act(|| format!("add {name} to an archive"))
}

/// As Go spells it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
