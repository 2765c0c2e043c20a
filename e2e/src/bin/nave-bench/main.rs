//! `nave-bench`: how close Nave comes to the physical floor. Figures are ratios to a floor of the same run: machines differ
//! and are noisy. Knows how to print; the benches measure.
//!
//! `cargo xtask bench convergence`, `engine`, `distance` and `neighbour` build it for release and run it.

mod convergence;
mod distance;
mod engine;
mod floor;
mod measure;
mod neighbour;
mod nodes;
mod probe;
mod replay;
mod seen;
mod start;
mod table;
mod tenants;
mod world;
mod worst;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mimalloc::MiMalloc;
use nave_e2e::network::wire;
use serde::Serialize;

/// As in the manager: its engine is measured here.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures Nave against the floor of the same run.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// From a Service's creation to its first byte and its status, with more and more Services present.
    Convergence(Convergence),
    /// One Service and a burst of them while the hub is far from the agent; needs root.
    Distance(Distance),
    /// The engine by itself: pools with many taken addresses, one event among many load balancers, a start; and many tenants.
    Engine {
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// One tenant's Services while another tenant writes the worst objects that its quota admits.
    Neighbour(Neighbour),
}

#[derive(Args)]
struct Convergence {
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Adds a row with 5000 Services present.
    #[arg(long)]
    full: bool,
    /// How many Services are present, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000])]
    present: Vec<u32>,
    /// Passes over each number.
    #[arg(long, default_value_t = 100)]
    samples: u32,
    /// How many Services at once in the burst.
    #[arg(long, default_value_t = 1000)]
    burst: u32,
}

#[derive(Args)]
struct Distance {
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// The round trip between agent and hub, in milliseconds.
    #[arg(long, default_value_t = 150)]
    round_trip: u64,
    /// Lost packets of a thousand, each way.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..1000))]
    lost: u16,
    /// Services one after another. The lab's pool has 256 addresses.
    #[arg(long, default_value_t = 50)]
    samples: u32,
    /// Services at once.
    #[arg(long, default_value_t = 200)]
    burst: u32,
}

#[derive(Args)]
struct Neighbour {
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// How long the hostile tenant writes, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many writes a second at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { bench } = Options::parse();
    match bench {
        Bench::Convergence(options) => converge(options).await,
        Bench::Neighbour(Neighbour { json, seconds, rate }) => {
            let plan = neighbour::Plan { length: Duration::from_secs(seconds), rate };
            let report = neighbour::run(&plan, |now| eprintln!("{now}")).await?;
            print(json, &report, neighbour::table)
        }
        Bench::Distance(Distance { json, round_trip, lost, samples, burst }) => {
            let distance = wire::Distance { round_trip: Duration::from_millis(round_trip), lost_per_mille: lost };
            let report = distance::run(&distance::Plan { distance, samples, burst }, |now| eprintln!("{now}")).await?;
            print(json, &report, distance::table)
        }
        Bench::Engine { json } => {
            let report = engine::run(|now| eprintln!("{now}")).await?;
            print(json, &report, table::engine)
        }
    }
}

async fn converge(options: Convergence) -> anyhow::Result<()> {
    let Convergence { json, full, mut present, samples, burst } = options;
    if full {
        present.push(5000);
    }
    let report = convergence::run(&convergence::Plan { present, samples, burst }, |now| eprintln!("{now}")).await?;
    print(json, &report, table::convergence)
}

/// As one JSON object, or as a table.
fn print<R: Serialize>(json: bool, report: &R, table: impl Fn(&R) -> String) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{}", table(report));
    }
    Ok(())
}
