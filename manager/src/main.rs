//! `nave-manager`: reads its options and does what they say. Knows no more.

mod authority;
mod bootstrap;
mod client;
mod conductor;
mod election;
mod events;
mod freshness;
mod http;
mod logging;
mod metrics;
mod networks;
mod options;
mod peers;
mod perform;
mod policies;
mod pools;
mod provider;
mod revocations;
mod run;
mod tenants;
mod traffic;
mod watch;

use clap::Parser;
use mimalloc::MiMalloc;
use options::{Act, Options};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { act } = Options::parse();
    match act {
        Act::Run(options) => run::run(*options).await,
        Act::EnvoyBootstrap(options) => bootstrap::print(*options).await,
    }
}
