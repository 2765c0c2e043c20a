//! The agent of a spoke: starts the rooms, joins them, ends them in order. Knows no rule; the core decides.

mod agent;
mod connect;
mod error;
mod events;
mod heartbeat;
mod hub;
mod identity;
mod metrics;
mod options;
mod page;
mod perform;
mod queue;
mod resolve;
mod watch;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use options::{LogFormat, Options};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    log(&options);
    // Two providers may be linked one day: the choice is ours, not the linker's. It fails only when made already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // One thread: the work is waiting for two API servers, and decisions have one owner anyway.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let tracker = TaskTracker::new();
    let spoke = connect::spoke(options.kubeconfig.as_deref()).await.context("connect to the spoke")?;
    let metrics = metrics::Metrics::new();
    let (sights, seen) = tokio::sync::mpsc::channel(SIGHTS);
    let (keeper, hub) = hub::Keeper::new(options.source(&spoke), options.renew_age(), sights.clone(), metrics.clone());
    let (health, state) = page::Health::new(hub.trouble());
    let listener = tokio::net::TcpListener::bind(options.http_address).await.context("listen for /metrics")?;
    tracing::info!(address = %options.http_address, version = env!("CARGO_PKG_VERSION"), "serving /metrics, /healthz, /readyz");
    tracker.spawn(page::serve(listener, metrics.clone(), state, stop.clone()));
    watch::spoke(&tracker, &stop, &spoke, &sights, &metrics);
    let names =
        resolve::start(&tracker, &stop, &options.name_servers(), sights.clone()).context("set up the resolver")?;
    let identity = identity::Identity::new(spoke.clone());
    let beats = heartbeat::run(hub.clone(), identity.clone(), sights.clone(), options.cleanup);
    let watches = watch::hub(hub.sessions(), sights, hub.clone(), metrics.clone());
    tracker.spawn(stop.clone().run_until_cancelled_owned(watches));
    tracker.spawn(stop.clone().run_until_cancelled_owned(keeper.run()));
    tracker.spawn(stop.clone().run_until_cancelled_owned(beats));
    let notices = events::start(&tracker, &stop, spoke.clone());
    let performer = perform::Performer { spoke, hub, identity, metrics };
    let agent = agent::Agent::new(options.policy(), performer, notices, names, health);
    tracker.spawn(agent.run(seen, stop.clone()));
    wait_for_signal(&stop).await?;
    tracing::info!("stopping");
    stop.cancel();
    tracker.close();
    // What is under way may end: the API servers keep their deadlines, and so do we.
    if tokio::time::timeout(connect::CALL, tracker.wait()).await.is_err() {
        tracing::warn!("some calls were still under way");
    }
    Ok(())
}

/// So much may be seen before the agent has looked at it.
const SIGHTS: usize = 1024;

async fn wait_for_signal(stop: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => {}
        () = stop.cancelled() => {}
        outcome = tokio::signal::ctrl_c() => outcome.context("listen for SIGINT")?,
    }
    Ok(())
}

fn log(options: &Options) {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let subscriber = tracing_subscriber::fmt().with_env_filter(options.filter());
    let subscriber = subscriber.with_writer(std::io::stderr).with_ansi(colours);
    match options.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}
