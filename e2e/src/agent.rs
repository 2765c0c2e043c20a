//! One nave-agent. Knows its flags and how to end it; knows nothing of what it does.
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::manager::NAMESPACE;
use crate::network::{Home, Namespace};
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
    home: Home,
    _port: Port,
}

impl Agent {
    /// Starts the agent of a spoke on the host and does not wait until it is ready.
    pub fn start(supervisor: &Arc<Supervisor>, spoke: &str, kubeconfig: &Path, flags: &[String]) -> Result<Self> {
        Self::start_at(supervisor, spoke, kubeconfig, Home::host(Ipv4Addr::LOCALHOST.into()), flags)
    }

    /// Starts the agent of a spoke at home and does not wait until it is ready.
    pub fn start_at(
        supervisor: &Arc<Supervisor>,
        spoke: &str,
        kubeconfig: &Path,
        home: Home,
        flags: &[String],
    ) -> Result<Self> {
        let port = Port::free()?;
        let http = SocketAddr::new(home.address, port.number());
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hub-secret={NAMESPACE}/{HUB_SECRET}"),
            "--default-load-balancer".to_owned(),
            "--node-address-types=InternalIP,ExternalIP".to_owned(),
            format!("--http-address={http}"),
            "--log-format=text".to_owned(),
        ];
        let arguments = arguments.into_iter().chain(flags.iter().cloned());
        let mut spec = Spec::new(&format!("{spoke}-agent"), tools::own("nave-agent")?, arguments);
        spec.namespace = home.namespace.as_ref().map(|namespace| namespace.name().to_owned());
        Ok(Self { process: Process::start(supervisor, spec)?, http, home, _port: port })
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) -> Result<()> {
        manager::ready(&self.process, self.http).await
    }

    /// The process: kill, terminate, freeze, restart, log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its network namespace, when the lab was asked for one.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.home.namespace.as_ref()
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
