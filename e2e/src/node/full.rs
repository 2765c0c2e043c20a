//! A real node: containerd, kubelet and kube-proxy in a network namespace. Knows how to start, lose and cut them.
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipnet::IpNet;
use nix::sys::signal::Signal;

use super::names::Names;
use super::{cgroups, config};
use crate::control_plane::{ControlPlane, write_private};
use crate::error::{Act, Result};
use crate::network::Namespace;
use crate::pki::Login;
use crate::process::{Process, Spec};
use crate::wait::PATIENCE;
use crate::{pki, sweep, tools, wait};

/// Where a real node is to be.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) namespace: Namespace,
    pub(crate) pods: IpNet,
    /// What is reached through a neighbour, and which one: the pods of the other nodes of its cluster, the pool.
    pub(crate) neighbours: Vec<(IpNet, IpAddr)>,
    /// The archives of images that it has from its first day.
    pub(crate) images: Vec<PathBuf>,
    /// Whether its pods resolve the names of Services.
    pub(crate) names: bool,
}

#[derive(Debug)]
pub(super) struct FullNode {
    // Dropped in this order.
    kubelet: Process,
    proxy: Process,
    containerd: Process,
    _names: Option<Names>,
    dir: PathBuf,
    mark: String,
    cgroup: String,
    site: Site,
}

impl FullNode {
    pub(super) async fn start(plane: &ControlPlane, site: Site) -> Result<Self> {
        let supervisor = plane.supervisor();
        let dir = plane.dir().join(&site.name);
        let cgroup = site.namespace.name().to_owned();
        let mark = cgroup.clone();
        cgroups::make(&cgroup)?;
        site.connect()?;
        let names = site.names.then(|| Names::start(&plane.client(), &site.namespace)).transpose()?;
        write_files(plane, &dir, &site, &cgroup)?;
        let process = |tool: &str, program: PathBuf, arguments: Vec<String>| {
            let name = format!("{}-{}-{tool}", plane.name(), site.name);
            let spec = Spec::new(&name, program, arguments).within(site.namespace.name());
            Process::start(supervisor, spec.variable(sweep::NODE_MARK, &mark))
        };
        let containerd = vec!["--config".to_owned(), dir.join("containerd.toml").display().to_string()];
        let containerd = process("containerd", "containerd".into(), containerd)?;
        import(&dir, &containerd, &site.images).await?;
        let flags = config::kubelet_flags(&dir, &site.name, site.address);
        let kubelet = process("kubelet", tools::kubernetes("kubelet")?, flags)?;
        let flags = config::proxy_flags(&plane.kubeconfig_for("system:kube-proxy", &[])?, &site.name);
        let proxy = process("kube-proxy", tools::kubernetes("kube-proxy")?, flags)?;
        Ok(Self { kubelet, proxy, containerd, _names: names, dir, mark, cgroup, site })
    }

    pub(super) fn kubelet(&self) -> &Process {
        &self.kubelet
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.site.namespace
    }

    /// SIGKILL to everything that runs on it, pods too, and the cable is pulled.
    pub(super) fn power_off(&self) -> Result<()> {
        self.site.namespace.unplug()?;
        for process in [&self.kubelet, &self.proxy, &self.containerd] {
            process.kill();
        }
        sweep::end_processes(sweep::NODE_MARK, &self.mark, &self.cgroup);
        Ok(())
    }

    /// Stops or continues everything that runs on it, pods too; the kernel goes on answering for its addresses.
    pub(super) fn signal(&self, signal: Signal) {
        sweep::signal(sweep::NODE_MARK, &self.mark, &self.cgroup, signal);
    }

    /// The machine boots: nothing of what ran is left but the disk.
    pub(super) async fn power_on(&self) -> Result<()> {
        sweep::unmount_below(&self.dir);
        sweep::remove_container_traces(&self.dir);
        let _ = fs::remove_dir_all(self.dir.join("state"));
        self.site.namespace.plug()?;
        self.site.connect()?;
        self.containerd.restart()?;
        import(&self.dir, &self.containerd, &self.site.images).await?;
        self.kubelet.restart()?;
        self.proxy.restart()
    }
}

impl Site {
    fn connect(&self) -> Result<()> {
        self.neighbours.iter().try_for_each(|(pods, node)| self.namespace.route(*pods, *node))
    }
}

fn write_files(plane: &ControlPlane, dir: &Path, site: &Site, cgroup: &str) -> Result<()> {
    for part in ["cni", "kubelet", "pki", "pods"] {
        fs::create_dir_all(dir.join(part)).act(|| format!("make the directory of {}", site.name))?;
    }
    let authority = plane.authority();
    let identity = authority.client(&format!("system:node:{}", site.name), &["system:nodes"])?;
    let names = site.names.then_some(site.address);
    let kubelet = config::kubelet(dir, &plane.dir().join("ca.crt"), cgroup, names);
    for (file, text) in [
        ("containerd.toml", config::containerd(dir)),
        ("cni/10-lab.conflist", config::cni(dir, cgroup, site.pods).to_string()),
        ("kubelet.json", kubelet.to_string()),
        ("kubelet.kubeconfig", pki::kubeconfig(&plane.url(), &authority.certificate(), &Login::Certificate(&identity))),
        ("resolv.conf", String::new()),
    ] {
        write_private(&dir.join(file), &text)?;
    }
    Ok(())
}

/// Waits for containerd and gives it the images.
async fn import(dir: &Path, containerd: &Process, images: &[PathBuf]) -> Result<()> {
    let socket = dir.join("containerd.sock");
    let ctr = |arguments: &[&str]| {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(&socket).args(["--namespace", "k8s.io"]).args(arguments);
        tools::run(&mut ctr, &format!("ctr {}", arguments.join(" ")))
    };
    wait::until(&format!("{} answers", containerd.name()), PATIENCE, || async {
        match (containerd.check(), ctr(&["version"])) {
            (Err(ended), _) => Ok(Err(ended)),
            (Ok(()), Ok(_)) => Ok(Ok(())),
            (Ok(()), Err(error)) => Err(format!("{error:?}")),
        }
    })
    .await??;
    images.iter().try_for_each(|archive| ctr(&["images", "import", &archive.display().to_string()]).map(drop))
}
