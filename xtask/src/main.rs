//! The one door: `cargo xtask demo | test | conformance | fuzz | check | gen | bench | tools`. Knows which command does what; everything of
//! substance is in the crates.

mod fuzz;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

/// Everything that a contributor runs.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Brings up one hub and two spokes on this machine and shows them working (--smoke, --keep, --weight auto|full|light).
    Demo {
        /// For the demo itself: `cargo xtask demo --help` lists them after a build.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs all tests, with the real components that they need.
    Test {
        /// For `cargo test`: names, packages, `-- --nocapture`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs the tests of others on real nodes: `cargo xtask conformance kubernetes [--all] [--focus REGEX] [--mode NodePort|PodIP]`.
    Conformance {
        /// Whose tests, and which: `cargo xtask conformance --help` lists it after a build.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Feeds what users write to every parser, by coverage: `cargo xtask fuzz --seconds 600 ranges`.
    Fuzz {
        /// How long each target runs.
        #[arg(long, default_value_t = fuzz::SECONDS)]
        seconds: u32,
        /// The targets, as in fuzz/corpus; none: all.
        targets: Vec<String>,
    },
    /// Formatting, lints, documentation, generated files.
    Check,
    /// Renders the CRDs and our gRPC code.
    Gen {
        /// Only says whether they are current.
        #[arg(long)]
        check: bool,
    },
    /// Runs a bench, built for release: `cargo xtask bench convergence [--json] [--full]`, `cargo xtask bench engine [--json]`.
    Bench {
        /// The bench and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Builds or fetches what the lab runs, ahead of time.
    Tools {
        /// Installs missing Debian packages, which needs root.
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Demo { arguments } => demo(&arguments),
        Task::Test { arguments } => test(&arguments),
        Task::Conformance { arguments } => conformance(&arguments),
        Task::Fuzz { seconds, targets } => fuzzed(seconds, &targets),
        Task::Check => check(),
        Task::Gen { check } => generate(check),
        Task::Bench { arguments } => bench(&arguments),
        Task::Tools { yes } => tools(yes),
    }
}

fn demo(arguments: &[String]) -> Result<()> {
    build(&[])?;
    become_it(Command::new(binary("debug", "nave-lab")).arg("demo").args(arguments))
}

fn conformance(arguments: &[String]) -> Result<()> {
    build(&[])?;
    become_it(Command::new(binary("debug", "nave-lab")).arg("conformance").args(arguments))
}

fn tools(yes: bool) -> Result<()> {
    run(cargo().args(["build", "--quiet", "--workspace", "--bin", "nave-lab"]))?;
    become_it(Command::new(binary("debug", "nave-lab")).arg("tools").args(yes.then_some("--yes")))
}

fn bench(arguments: &[String]) -> Result<()> {
    build(&["--release"])?;
    become_it(Command::new(binary("release", "nave-bench")).args(arguments))
}

/// The tests find the tools in the variables that `nave-lab tools` prints.
fn test(arguments: &[String]) -> Result<()> {
    let started = Instant::now();
    // All of it at once: tests and the fuzzer turn on features, and what is built without them would be built twice.
    let all = arguments.is_empty();
    build(if all { &["--tests", "--features", fuzz::FEATURE] } else { &[] })?;
    if all {
        fuzz::build()?;
    }
    let tools = Command::new(binary("debug", "nave-lab")).arg("tools").stderr(Stdio::inherit()).output();
    let tools = tools.context("look for the tools")?;
    if !tools.status.success() {
        bail!("the tests need these tools");
    }
    let mut cargo = cargo();
    let some = arguments.iter().any(|argument| argument == "-p" || argument.starts_with("--package"));
    cargo
        .args(["test", "--no-fail-fast"])
        .args((!some).then_some("--workspace"))
        .args(if all { ["--features", fuzz::FEATURE].as_slice() } else { &[] })
        .args(arguments)
        .stdout(Stdio::piped());
    for (name, value) in String::from_utf8_lossy(&tools.stdout).lines().filter_map(|line| line.split_once('=')) {
        cargo.env(name, value);
    }
    // The fuzzer runs beside the tests, when all of them are asked for.
    let beside = all.then(|| std::thread::spawn(|| fuzz::run(fuzz::SECONDS, &[])));
    let mut tests = cargo.spawn().context("start cargo test")?;
    let mut tally = Tally::default();
    for line in tests.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line.context("read what cargo test says")?;
        println!("{line}");
        tally.add(&line);
    }
    let succeeded = tests.wait().context("wait for cargo test")?.success();
    let fuzzed = match beside.map(std::thread::JoinHandle::join) {
        None => fuzz::Fuzzed::default(),
        Some(Ok(fuzzed)) => fuzzed.context("fuzz beside the tests")?,
        Some(Err(_)) => bail!("the fuzzer's thread panicked"),
    };
    let succeeded = succeeded && fuzzed.failed == 0;
    let Tally { passed, failed, ignored } = tally;
    let (passed, failed) = (passed + fuzzed.passed, failed + fuzzed.failed);
    println!("all of it took {} s", started.elapsed().as_secs());
    println!("tests: {passed} passed, {failed} failed, {ignored} skipped");
    if succeeded { Ok(()) } else { bail!("there are failures") }
}

fn fuzzed(seconds: u32, targets: &[String]) -> Result<()> {
    fuzz::build()?;
    let fuzz::Fuzzed { passed, failed } = fuzz::run(seconds, targets)?;
    println!("fuzz: {passed} passed, {failed} failed");
    if failed == 0 { Ok(()) } else { bail!("there are inputs that break a parser") }
}

fn check() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    run(cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    generate(true)
}

/// Generated files are rendered by the tests that hold them against their sources.
fn generate(check: bool) -> Result<()> {
    let mut tests = cargo();
    tests.args(["test", "--quiet", "--workspace", "--test", "current"]);
    if !check {
        tests.env("UPDATE_GENERATED", "1");
    }
    run(&mut tests)
}

fn build(arguments: &[&str]) -> Result<()> {
    run(cargo().args(["build", "--workspace", "--bins"]).args(arguments))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Where cargo puts what it builds.
fn target() -> std::path::PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(std::path::PathBuf::from);
    target.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../target").into())
}

/// Where cargo puts a binary of the workspace.
fn binary(profile: &str, name: &str) -> std::path::PathBuf {
    target().join(profile).join(name)
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("start {name}"))?;
    if status.success() { Ok(()) } else { bail!("{name} ended with {status}") }
}

/// Ctrl-C is for the lab alone, which has much to end: nobody may return to the prompt before it.
fn become_it(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("start {}", command.get_program().to_string_lossy()))
}

/// What the lines `test result: ok. 3 passed; 0 failed; 0 ignored; …` add up to.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Tally {
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let count = |what: &str| -> u32 {
            let words = counts.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect::<Vec<_>>();
            words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_test_binaries_add_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 7, failed: 2, ignored: 1 });
    }
}
