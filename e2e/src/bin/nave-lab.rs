//! The lab as a command: the demo, the tools ahead of time, the supervisor of every lab. Knows the command line; the library
//! knows the rest.
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use nave_e2e::demo::{self, Until};
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
    /// Starts a lab without the product, prints its id, and holds it until standard input ends: for the lab's own tests.
    #[command(hide = true)]
    Hold {
        /// With real nodes.
        #[arg(long)]
        full: bool,
    },
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
        Act::Tools { yes } => prepare(yes),
        // Without a runtime: signals are blocked per thread, and one thread there shall be.
        Act::Supervise { id, dir } => Ok(nave_e2e::supervisor::supervise(&id, &dir)?),
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

fn prepare(yes: bool) -> Result<()> {
    let missing = tools::missing();
    if yes || std::env::var("CI").is_ok_and(|ci| ci == "true") {
        tools::install(&missing)?;
    } else if !missing.is_empty() {
        eprintln!("for real nodes these packages are missing: {} (--yes installs them)", missing.join(" "));
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
