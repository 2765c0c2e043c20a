//! The lab as a command: the demo, the tools ahead of time, the supervisor of every lab. Knows the command line; the library
//! knows the rest.
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use nave_e2e::conformance::{self, Mode, Outcome, Pace};
use nave_e2e::demo::{self, Until};
use nave_e2e::network::wire;
use nave_e2e::{Lab, Weight, tools};
use tokio::runtime::Runtime;

/// The lab of Nave: one hub and its spokes on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Brings up a hub and two spokes, shows Services that work, and says what to try.
    Demo {
        /// Checks both spokes by real connections and ends.
        #[arg(long, conflicts_with = "keep")]
        smoke: bool,
        /// Leaves it up until Ctrl-C.
        #[arg(long)]
        keep: bool,
        /// How real the nodes are.
        #[arg(long, value_enum, default_value_t = Choice::Auto)]
        weight: Choice,
    },
    /// Runs tests of others against Nave, on real nodes.
    Conformance {
        /// Whose tests.
        suite: Suite,
        /// Tests whose full names this regular expression of Ginkgo's finds, instead of those of Services of type LoadBalancer.
        #[arg(long)]
        focus: Option<String>,
        /// One mode of backends instead of both.
        #[arg(long, value_enum)]
        mode: Option<Backends>,
        /// Those that take minutes, too, rolling updates included.
        #[arg(long)]
        all: bool,
        /// How often.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
        runs: u32,
        /// How many tests at a time.
        #[arg(long, default_value_t = conformance::Options::default().at_once, value_parser = at_once)]
        at_once: usize,
    },
    /// Makes sure that everything the lab runs is there; prints the variables that say where.
    Tools {
        /// Installs missing Debian packages, which needs root.
        #[arg(long)]
        yes: bool,
    },
    /// Ends everything of one lab when standard input ends.
    #[command(hide = true)]
    Supervise {
        /// The lab's id.
        id: String,
        /// The lab's directory.
        dir: PathBuf,
    },
    /// A long wire of a lab.
    #[command(hide = true)]
    Wire {
        /// Its ends and its distance.
        arguments: Vec<String>,
    },
    /// Starts a lab without the product, prints its id, and holds it until standard input ends: for the lab's own tests.
    #[command(hide = true)]
    Hold {
        /// With real nodes.
        #[arg(long)]
        full: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    /// Kubernetes' own end-to-end tests.
    Kubernetes,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backends {
    /// Node ports of ready nodes.
    #[value(name = "NodePort")]
    NodePort,
    /// The pods' own addresses.
    #[value(name = "PodIP")]
    PodIp,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    /// The heaviest that works here.
    Auto,
    /// Real nodes and pods in network namespaces.
    Full,
    /// Nodes are objects, backends listen on loopback addresses.
    Light,
}

fn main() -> Result<()> {
    match Arguments::parse().act {
        Act::Demo { smoke, keep, weight } => show(smoke, keep, weight),
        Act::Conformance { suite: Suite::Kubernetes, focus, mode, all, runs, at_once } => {
            let modes = match mode {
                None => Mode::ALL.to_vec(),
                Some(Backends::NodePort) => vec![Mode::NodePort],
                Some(Backends::PodIp) => vec![Mode::PodIp],
            };
            let pace = if all { Pace::Rolling } else { Pace::Short };
            runtime()?.block_on(conform(&conformance::Options { focus, modes, pace, runs, at_once }))
        }
        Act::Tools { yes } => prepare(yes),
        // Without a runtime: signals are blocked per thread, and one thread there shall be.
        Act::Supervise { id, dir } => Ok(nave_e2e::supervisor::supervise(&id, &dir)?),
        Act::Wire { arguments } => {
            let (ends, distance) = wire::Ends::parse(&arguments)?;
            // One thread: it changes its network namespace.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(wire::lay(&ends, distance))?)
        }
        Act::Hold { full } => runtime()?.block_on(hold(full)),
    }
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn show(smoke: bool, keep: bool, weight: Choice) -> Result<()> {
    let weight = match weight {
        Choice::Auto => None,
        Choice::Full => Some(Weight::Full),
        Choice::Light => Some(Weight::Light),
    };
    let until = match (smoke, keep) {
        (true, _) => Until::Checked,
        (false, true) => Until::Interrupted,
        (false, false) => Until::Read,
    };
    let runtime = runtime()?;
    let outcome = runtime.block_on(demo::run(weight, until));
    // Whoever still reads the terminal is not waited for.
    runtime.shutdown_background();
    Ok(outcome?)
}

async fn conform(options: &conformance::Options) -> Result<()> {
    if let Some(why) = conformance::impossible() {
        bail!("not possible here: {why}");
    }
    let run = conformance::kubernetes(options, |line| println!("{line}"));
    let rows = tokio::select! {
        rows = run => rows?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    };
    println!(
        "{}
reports and logs: {}",
        conformance::table(&rows),
        conformance::reports().display()
    );
    let failed = rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed { .. })).count();
    if failed == 0 { Ok(()) } else { bail!("{failed} failed") }
}

/// Each has a network namespace, for which the lab has so many addresses.
fn at_once(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "write a number".to_owned())?;
    if (1..=32).contains(&number) { Ok(number) } else { Err("write a number from 1 to 32".to_owned()) }
}

fn prepare(yes: bool) -> Result<()> {
    let missing = [tools::missing(), tools::missing_for_conformance()].concat();
    if yes || std::env::var("CI").is_ok_and(|ci| ci == "true") {
        tools::install(&missing)?;
    } else if !missing.is_empty() {
        eprintln!(
            "for real nodes and Kubernetes' own tests these packages are missing: {} (--yes installs them)",
            missing.join(" ")
        );
    }
    let mut dirs = Vec::new();
    for (tool, _) in tools::KUBERNETES {
        dirs.extend(tools::kubernetes(tool)?.parent().map(PathBuf::from));
    }
    dirs.dedup();
    // Tools from several places: whoever needs one finds it as we did.
    if let [dir] = dirs.as_slice() {
        println!("KUBEBUILDER_ASSETS={}", dir.display());
    }
    println!("ENVOY={}", tools::envoy()?.display());
    Ok(())
}

async fn hold(full: bool) -> Result<()> {
    let builder = if full { Lab::full() } else { Lab::light() };
    let lab = builder.nodes(1).bare().start().await?;
    println!("{}", lab.supervisor().id());
    if tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await.is_err() {
        bail!("standard input could not be read");
    }
    Ok(())
}
