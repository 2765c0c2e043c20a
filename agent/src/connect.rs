//! Clients of API servers, with deadlines. Knows kubeconfigs; knows nothing of what is asked with them.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nave_watch::connection;

use crate::error::Error;

/// A call that is no watch is answered within this time, or has failed.
pub const CALL: Duration = Duration::from_secs(15);
/// A connection is made within this time.
const CONNECT: Duration = Duration::from_secs(5);
/// A watch is begun anew after this time: on the way there are machines that forget silent connections.
pub const WATCH_SECONDS: u32 = 60;
/// Nothing is silent for longer than a watch.
const READ: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 15);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read or means nothing.
    #[error("read the kubeconfig")]
    Read(#[source] kube::config::KubeconfigError),
    /// There is neither a kubeconfig nor a service account.
    #[error("find the pod's service account")]
    Find(#[source] kube::config::InClusterError),
    /// What it says makes no client.
    #[error("make a client")]
    Make(#[source] Box<kube::Error>),
}

/// A client of the spoke: by a kubeconfig, else by the service account of the pod.
pub async fn spoke(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(ConnectError::Read)?;
            configure(kubeconfig).await?
        }
        None => Config::incluster().map_err(ConnectError::Find)?,
    };
    client(config)
}

/// A client of the hub, and what it talks to.
pub async fn hub(kubeconfig: Kubeconfig) -> Result<(Client, Config), ConnectError> {
    let config = configure(kubeconfig).await?;
    Ok((client(config.clone())?, config))
}

/// Waits for a call, but not for ever.
pub async fn limited<T>(act: &'static str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(CALL, call).await {
        Ok(outcome) => outcome.map_err(|error| Error::Call { act, source: Box::new(error) }),
        Err(_) => Err(Error::Silence { act, patience: CALL }),
    }
}

async fn configure(kubeconfig: Kubeconfig) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(ConnectError::Read)
}

fn client(mut config: Config) -> Result<Client, ConnectError> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.reset_reader_on_write = true;
    connection::client(config).map_err(|error| ConnectError::Make(Box::new(error)))
}
