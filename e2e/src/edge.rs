//! One edge node: Envoy with the manager's bootstrap, in a network namespace or on the host. Knows Envoy's command line and
//! admin pages; knows no resource.
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nave_xds::bootstrap::{Bootstrap, DRAIN};

use crate::error::{Act, Result};
use crate::process::{Process, Spec};
use crate::supervisor::Supervisor;
use crate::wait::PATIENCE;
use crate::{client, manager, tools, wait};

/// A running Envoy.
#[derive(Debug)]
pub struct Edge {
    name: String,
    address: IpAddr,
    dir: PathBuf,
    process: Process,
}

/// Where an Envoy runs and whom it asks.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) namespace: Option<String>,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) managers: Vec<SocketAddr>,
    /// Its limit of open files, where it has one of its own.
    pub(crate) files: Option<u32>,
}

impl Edge {
    /// Starts Envoy and does not wait.
    pub(crate) fn start(supervisor: &Arc<Supervisor>, place: Place) -> Result<Self> {
        let Place { name, address, namespace, kubeconfig, managers, files } = place;
        let dir = supervisor.dir().join(&name);
        fs::create_dir_all(&dir).act(|| format!("make the directory of {name}"))?;
        let bootstrap = manager::envoy_bootstrap(&kubeconfig, "default", &name, &managers, &dir, files)?;
        let config = dir.join("bootstrap.yaml");
        fs::write(&config, bootstrap).act(|| format!("write the bootstrap of {name}"))?;
        // As many workers as its bootstrap says.
        let arguments = ["--config-path", &config.display().to_string(), "--concurrency", "2", "--disable-hot-restart"]
            .into_iter()
            .chain(["--log-level", "warning"])
            .map(str::to_owned)
            .chain(Bootstrap::arguments(DRAIN))
            .collect::<Vec<_>>();
        let envoy = tools::envoy()?;
        let log = format!("{name}-envoy");
        let mut spec = match files {
            Some(files) => {
                let limit = [format!("--nofile={files}:{files}").into(), envoy.into_os_string()];
                Spec::new(&log, "prlimit", limit.into_iter().chain(arguments.into_iter().map(OsString::from)))
            }
            None => Spec::new(&log, envoy, arguments),
        };
        spec.namespace = namespace;
        Ok(Self { process: Process::start(supervisor, spec)?, name, address, dir })
    }

    /// Waits until Envoy has its first resources and listens.
    pub async fn ready(&self) -> Result<()> {
        wait::until(&format!("Envoy of {} is live", self.name), PATIENCE, || async {
            if let Err(ended) = self.process.check() {
                return Ok(Err(ended));
            }
            self.admin("/ready").await.map(|_| Ok(())).map_err(|error| format!("{error:?}"))
        })
        .await?
    }

    /// The node's name, as its certificate has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The process: kill, freeze, restart, log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Envoy's admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    /// Where its bootstrap and certificates are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An admin page: `/stats`, `/config_dump`, `/clusters`.
    pub async fn admin(&self, path: &str) -> Result<String> {
        client::get_unix(&self.admin_socket(), path).await
    }

    /// One counter or gauge by its exact name; 0 when Envoy has not made it.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let stats = self.admin("/stats").await?;
        let value = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map_or(Ok(0), |value| value.trim().parse().act(|| format!("read the stat {name}")))
    }

    /// How often Envoy refused what it was sent.
    pub async fn refusals(&self) -> Result<u64> {
        let stats = self.admin("/stats").await?;
        let counted = stats
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.ends_with(".update_rejected"));
        let read = |(name, value): (&str, &str)| value.trim().parse::<u64>().act(|| format!("read the stat {name}"));
        counted.map(read).sum()
    }
}
