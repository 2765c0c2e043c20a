//! One nave-agent. Knows its flags and how to end it; knows nothing of what it does.
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::manager::NAMESPACE;
use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::supervisor::Supervisor;
use crate::{client, manager, tools};

/// The Secret in the spoke that holds the agent's kubeconfig of the hub.
pub const HUB_SECRET: &str = "nave-hub";

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    http: SocketAddr,
    _port: Port,
}

impl Agent {
    /// Starts the agent of a spoke and does not wait until it is ready.
    pub fn start(supervisor: &Arc<Supervisor>, spoke: &str, kubeconfig: &Path, flags: &[String]) -> Result<Self> {
        let port = Port::free()?;
        let http = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.number());
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hub-secret={NAMESPACE}/{HUB_SECRET}"),
            "--default-load-balancer".to_owned(),
            "--node-address-types=InternalIP,ExternalIP".to_owned(),
            format!("--http-address={http}"),
            "--log-format=text".to_owned(),
        ];
        let arguments = arguments.into_iter().chain(flags.iter().cloned());
        let spec = Spec::new(&format!("{spoke}-agent"), tools::own("nave-agent")?, arguments);
        Ok(Self { process: Process::start(supervisor, spec)?, http, _port: port })
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) -> Result<()> {
        manager::ready(&self.process, self.http).await
    }

    /// The process: kill, terminate, freeze, restart, log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `/metrics`, `/healthz`, `/readyz`.
    pub async fn get(&self, path: &str) -> Result<String> {
        client::get(self.http, path).await
    }

    /// Starts it again and waits until it is ready.
    pub async fn restart(&self) -> Result<()> {
        self.process.restart()?;
        self.ready().await
    }
}
