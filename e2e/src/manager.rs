//! One replica of nave-manager. Knows its flags and how to end it; knows nothing of what it does.
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ipnet::IpNet;

use crate::error::Result;
use crate::network::{Home, Namespace};
use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::supervisor::Supervisor;
use crate::wait::PATIENCE;
use crate::{client, tools, wait};

/// Where the managers live in the hub, and the agent in a spoke.
pub const NAMESPACE: &str = "nave-system";
/// What every replica is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The hub's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The hub's API server as agents reach it.
    pub hub_api: String,
    /// Where Envoys reach the managers.
    pub address: IpAddr,
    /// What belongs to the hub itself.
    pub hub_networks: Vec<IpNet>,
    /// The light lab's backends are on loopback addresses, which law 6 refuses.
    pub loopback_backends: bool,
    /// Flags besides.
    pub flags: Vec<String>,
}

/// A running replica.
#[derive(Debug)]
pub struct Manager {
    process: Process,
    xds: SocketAddr,
    http: SocketAddr,
    home: Home,
    _ports: [Port; 2],
}

impl Manager {
    /// Starts replica `index` on the host and does not wait until it is ready.
    pub fn start(supervisor: &Arc<Supervisor>, index: usize, options: &Options) -> Result<Self> {
        Self::start_at(supervisor, index, Home::host(options.address), options)
    }

    /// Starts replica `index` at home, whatever the options' address, and does not wait until it is ready.
    pub fn start_at(supervisor: &Arc<Supervisor>, index: usize, home: Home, options: &Options) -> Result<Self> {
        let Options { kubeconfig, hub_api, address: _, hub_networks, loopback_backends, flags } = options;
        let ports = [Port::free()?, Port::free()?];
        let [xds, http] = [0, 1].map(|at| SocketAddr::new(home.address, ports[at].number()));
        let networks: Vec<String> = hub_networks.iter().map(ToString::to_string).collect();
        let mut arguments = vec![
            "run".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--namespace={NAMESPACE}"),
            format!("--xds-address={xds}"),
            format!("--advertise={xds}"),
            format!("--http-address={http}"),
            format!("--hub-api-url={hub_api}"),
            format!("--hub-networks={}", networks.join(",")),
            "--log-format=text".to_owned(),
        ];
        if *loopback_backends {
            arguments.push("--insecure-allow-loopback-backends".to_owned());
        }
        arguments.extend(flags.iter().cloned());
        let name = format!("manager-{}", index + 1);
        let mut spec = Spec::new(&name, tools::own("nave-manager")?, arguments).variable("POD_NAME", &name);
        spec.namespace = home.namespace.as_ref().map(|namespace| namespace.name().to_owned());
        Ok(Self { process: Process::start(supervisor, spec)?, xds, http, home, _ports: ports })
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) -> Result<()> {
        ready(&self.process, self.http).await
    }

    /// The process: kill, terminate, freeze, restart, log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where Envoys connect.
    pub fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// Its network namespace, when the lab was asked for one.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.home.namespace.as_ref()
    }

    /// `/metrics`, `/healthz`, `/readyz`.
    pub async fn get(&self, path: &str) -> Result<String> {
        client::get(self.http, path).await
    }

    /// Starts it again at the same addresses and waits until it is ready.
    pub async fn restart(&self) -> Result<()> {
        self.process.restart()?;
        self.ready().await
    }
}

/// Waits until a product process is ready, and gives up at once when it has ended.
pub(crate) async fn ready(process: &Process, http: SocketAddr) -> Result<()> {
    wait::until(&format!("{} is ready", process.name()), PATIENCE, || async {
        if let Err(ended) = process.check() {
            return Ok(Err(ended));
        }
        client::get(http, "/readyz").await.map(|_| Ok(())).map_err(|error| format!("{error:?}"))
    })
    .await?
}

/// What Envoy on an edge node starts with; certificates are written into `dir`.
/// It may open so many files; absent: more than Envoy opens in a lab, whatever the limit of this machine is: one tenant has the ports
/// of many tests.
pub fn envoy_bootstrap(
    kubeconfig: &Path,
    fleet: &str,
    node: &str,
    xds: &[SocketAddr],
    dir: &Path,
    files: Option<u32>,
) -> Result<String> {
    let managers: Vec<String> = xds.iter().map(ToString::to_string).collect();
    let mut manager = Command::new(tools::own("nave-manager")?);
    manager.arg("envoy-bootstrap").arg("--kubeconfig").arg(kubeconfig).args(["--namespace", NAMESPACE]);
    manager.args(["--fleet", fleet, "--node", node, "--xds", &managers.join(",")]);
    manager.arg("--certificates").arg(dir).arg("--admin-socket").arg(dir.join("admin.sock"));
    manager.args(["--concurrency", "2"]); // as the edge starts it
    manager.args(["--files", &files.unwrap_or(500_000).to_string()]);
    tools::run(&mut manager, &format!("make the bootstrap of {node}"))
}
