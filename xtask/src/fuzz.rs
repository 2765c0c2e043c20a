//! `cargo xtask fuzz`: every target for a while, two at a time. Knows how the fuzzer is built and started; knows no property.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// What turns the fuzzer's binary on.
pub const FEATURE: &str = "nave-fuzz/libfuzzer";
/// How long a target runs unless asked otherwise.
pub const SECONDS: u32 = 30;
/// No input may be longer, in bytes, ...
const LONGEST: u32 = 4096;
/// ... and none may take longer, in seconds: the fuzzer's own smallest unit, on a machine that does more than this.
const SLOWEST: u32 = 2;
const AT_ONCE: usize = 2;

/// What came of it.
#[derive(Debug, Default, PartialEq)]
pub struct Fuzzed {
    pub passed: u32,
    pub failed: u32,
}

/// Runs the targets; none named: all. Each is a directory of seeds.
pub fn run(seconds: u32, targets: &[String]) -> Result<Fuzzed> {
    let home = home()?;
    let known = known(&home)?;
    if let Some(strange) = targets.iter().find(|target| !known.contains(target)) {
        bail!("no fuzz target is called {strange}: there are {}", known.join(", "));
    }
    let targets = if targets.is_empty() { &known } else { targets };
    let mut fuzzed = Fuzzed::default();
    for some in targets.chunks(AT_ONCE) {
        let running = some.iter().map(|target| start(&home, target, seconds)).collect::<Vec<_>>();
        for (target, child) in some.iter().zip(running) {
            if ended_well(target, child?)? { fuzzed.passed += 1 } else { fuzzed.failed += 1 }
        }
    }
    Ok(fuzzed)
}

fn known(home: &Path) -> Result<Vec<String>> {
    let mut known = Vec::new();
    for entry in std::fs::read_dir(home.join("corpus")).context("list the seeds")? {
        known.push(entry.context("list the seeds")?.file_name().to_string_lossy().into_owned());
    }
    known.sort();
    Ok(known)
}

fn home() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").canonicalize().context("find fuzz/")
}

/// Builds the fuzzer. Only crates of the workspace get coverage counters. What they depend on is the same as the tests have, so that it is
/// compiled once: of the whole workspace, for a package by itself has other features.
pub fn build() -> Result<()> {
    let mut cargo = crate::cargo();
    cargo.args(["build", "--quiet", "--workspace", "--bin", "nave-fuzz", "--features", FEATURE]);
    crate::run(cargo.env("RUSTC_WORKSPACE_WRAPPER", home()?.join("instrument.sh")))?;
    // The name in the build directory belongs to whatever build was the last, with counters or without.
    std::fs::create_dir_all(output()).context("make the fuzzer's directory")?;
    std::fs::copy(crate::binary("debug", "nave-fuzz"), fuzzer()).context("keep the fuzzer")?;
    Ok(())
}

fn fuzzer() -> PathBuf {
    output().join("nave-fuzz")
}

/// Where the fuzzer and its findings are.
fn output() -> PathBuf {
    crate::target().join("fuzz")
}

fn start(home: &Path, target: &str, seconds: u32) -> Result<Child> {
    let found = output().join("found").join(target);
    std::fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
    Command::new(fuzzer())
        .env("NAVE_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={SLOWEST}"))
        .arg(format!("-artifact_prefix={}/crash-{target}-", output().display()))
        .arg(found)
        .arg(home.join("corpus").join(target))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start the fuzzer for {target}"))
}

fn ended_well(target: &str, child: Child) -> Result<bool> {
    let output = child.wait_with_output().with_context(|| format!("wait for the fuzzer of {target}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or_default();
    if output.status.success() {
        println!("fuzz {target} ... ok. {last}");
        return Ok(true);
    }
    let tail: Vec<_> = said.lines().filter(|line| !line.starts_with('#')).collect();
    println!("fuzz {target} ... FAILED\n{}", tail[tail.len().saturating_sub(40)..].join("\n"));
    if let Some(file) = said.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, file)| file) {
        println!("the input is in {file}\nrepeat it: NAVE_FUZZ_TARGET={target} {} {file}", fuzzer().display());
    }
    Ok(false)
}
