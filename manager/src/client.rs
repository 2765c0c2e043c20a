//! The client of the hub's API. Knows kubeconfigs and timeouts; knows no resource.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use axum::http::{HeaderValue, header};
use base64::Engine as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nave_watch::connection;

/// Longer than any watch is silent: the server ends each after a minute. A connection that was cut without a word, under a
/// list as well, is given up after this.
const SILENCE: Duration = Duration::from_secs(75);

/// How to reach the hub, from a file or from the pod's service account.
pub(crate) async fn config(kubeconfig: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.context("use the kubeconfig")?
        }
        None => Config::incluster().context("use the pod's service account (or give --kubeconfig)")?,
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(SILENCE);
    let agent = HeaderValue::from_static(concat!("nave-manager/", env!("CARGO_PKG_VERSION")));
    config.headers.push((header::USER_AGENT, agent)); // the hub's audit log tells our requests from others
    config.reset_reader_on_write = true; // a connection that was idle between two requests was not silent
    Ok(config)
}

/// A client of the hub.
pub(crate) fn connect(config: Config) -> anyhow::Result<Client> {
    connection::client(config).context("make a client of the hub's API")
}

/// The certificates that vouch for the hub's API, as PEM; empty when the system's do.
pub(crate) fn authority_pem(config: &Config) -> anyhow::Result<Vec<u8>> {
    if let Some(path) = &config.root_cert_file {
        return std::fs::read(path).with_context(|| format!("read {}", path.display()));
    }
    let mut pem = String::new();
    for der in config.root_cert.iter().flatten() {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    Ok(pem.into_bytes())
}
