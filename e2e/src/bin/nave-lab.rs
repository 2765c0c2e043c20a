//! The lab as a command: the demo, the tools ahead of time, the supervisor of every lab. Knows the command line; the library
//! knows the rest.
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
}

fn main() -> Result<()> {
    match Arguments::parse().act {
        // Without a runtime: signals are blocked per thread, and one thread there shall be.
        Act::Supervise { id, dir } => nave_e2e::supervisor::supervise(&id, &dir)?,
    }
    Ok(())
}
