//! Where log lines go: standard error, as text or as JSON.

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::options::{Log, LogFormat};

/// Begins to log.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let Log { log_format, log } = log;
    let filter = EnvFilter::try_new(log).with_context(|| format!("read the log filter {log}"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log_format {
        LogFormat::Text => subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}
