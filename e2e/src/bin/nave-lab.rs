//! The lab as a command: the demo, the tools ahead of time, the supervisor of every lab. Knows the command line; the library
//! knows the rest.
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use nave_e2e::Lab;
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

fn main() -> Result<()> {
    match Arguments::parse().act {
        // Without a runtime: signals are blocked per thread, and one thread there shall be.
        Act::Supervise { id, dir } => Ok(nave_e2e::supervisor::supervise(&id, &dir)?),
        Act::Hold { full } => runtime()?.block_on(hold(full)),
    }
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

async fn hold(full: bool) -> Result<()> {
    let builder = if full { Lab::full() } else { Lab::light() };
    let lab = builder.nodes(1).bare().start().await?;
    println!("{}", lab.supervisor().id());
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await?;
    Ok(())
}
