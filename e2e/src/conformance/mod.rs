//! Kubernetes' own end-to-end tests on the full lab: one spoke whose backends are node ports, one whose backends are pods.
//! Knows how they are run, several at once; what the lane expects of each is in `expect`, what they said in `report`.
mod expect;
mod image;
mod report;
mod run;
mod table;

use std::fmt;
use std::path::{Path, PathBuf};

pub use expect::Pace;
pub use report::{Outcome, Test};
pub use table::table;

use crate::error::{Act, Error, Result};
use crate::lab::{Lab, Weight, heaviest};
use crate::tools;

/// How the agent of the tested spoke gives backends to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Node ports of ready nodes, the default.
    NodePort,
    /// The pods' own addresses.
    PodIp,
}

impl Mode {
    /// Both, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::NodePort, Self::PodIp];
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::NodePort => "NodePort",
            Self::PodIp => "PodIP",
        })
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// A regular expression of Ginkgo's that chooses tests by their full names, long ones too; absent: all LoadBalancer tests.
    pub focus: Option<String>,
    /// The modes.
    pub modes: Vec<Mode>,
    /// The slowest tests that are run; `focus` is not bound by it.
    pub pace: Pace,
    /// How often, in the same lab.
    pub runs: u32,
    /// How many tests at a time.
    pub at_once: usize,
}

impl Default for Options {
    /// The short form: what continuous integration runs.
    fn default() -> Self {
        Self { focus: None, modes: Mode::ALL.to_vec(), pace: Pace::Short, runs: 1, at_once: 4 }
    }
}

/// What one test in one mode did, or why it was not run.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Counts from 1.
    pub run: u32,
    /// The test.
    pub test: Test,
    /// The mode.
    pub mode: Mode,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why the lane cannot run on this machine; `None`: it can.
pub fn impossible() -> Option<String> {
    let (weight, why) = heaviest();
    let missing = tools::missing_for_conformance();
    match weight {
        Weight::Light => Some(why),
        Weight::Full if missing.is_empty() => None,
        Weight::Full => Some(format!("the packages {} are missing", missing.join(" "))),
    }
}

/// Where reports and logs are put: one directory for each run, mode and test.
pub fn reports() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    target.join("conformance/kubernetes")
}

/// Builds the tests, starts the lab and runs them; `progress` hears a line about each.
pub async fn kubernetes(options: &Options, progress: impl Fn(&str)) -> Result<Vec<Row>> {
    let out = reports();
    let _ = std::fs::remove_dir_all(&out); // of the last time
    std::fs::create_dir_all(&out).act(|| format!("make {}", out.display()))?;
    let out = out.canonicalize().act(|| "find the directory of reports")?;
    let suite = aside(tools::suite).await?;
    let chosen = {
        let (suite, focus, out) = (suite.clone(), options.focus.clone(), out.clone());
        aside(move || report::list(&suite, focus.as_deref(), &out)).await?
    };
    if chosen.is_empty() {
        return Err(Error::new("choose a test: none has such a name"));
    }
    let archive = out.join("images.tar");
    {
        let (suite, archive) = (suite.clone(), archive.clone());
        aside(move || image::write(&suite, &archive)).await?;
    }
    let lab = start(options, &archive).await?;
    let _ = std::fs::remove_file(&archive);
    let outcome = run::all(&lab, &suite, &chosen, options, &out, &progress).await;
    lab.supervisor().judge(outcome)
}

/// One spoke for each mode.
async fn start(options: &Options, archive: &Path) -> Result<Lab> {
    let spokes = u8::try_from(options.modes.len()).unwrap_or(u8::MAX);
    let mut builder = Lab::full().spokes(spokes).nodes(2).names().images(archive.to_owned());
    for (mode, spoke) in options.modes.iter().zip(1..) {
        builder = match mode {
            Mode::NodePort => builder,
            Mode::PodIp => builder.by_pod(spoke),
        };
    }
    builder.start().await
}

/// Does what takes long on a thread that may wait.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.act(|| "wait for a thread")?
}
