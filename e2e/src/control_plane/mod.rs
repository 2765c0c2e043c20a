//! One real control plane: etcd, API server, controller manager and, where there are nodes, a scheduler, with keys and
//! addresses of its own. Knows Kubernetes' processes; knows nothing of Nave.
mod flags;
pub mod snapshot;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::apply::apply;
use crate::error::{Act, Result};
use crate::pki::{self, Authority, Login, SigningKey};
use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::supervisor::Supervisor;
use crate::wait::PATIENCE;
use crate::{tools, wait};

/// A port may be lost to a stranger between finding and binding it: so often are new ones tried.
const ATTEMPTS: u32 = 3;

/// How a control plane is to be. `Options::default()` serves a test that needs an API server and its controllers, no nodes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the cluster in logs, files and certificates: lower case, digits, dashes.
    pub name: String,
    /// Where Services get their cluster addresses from.
    pub services: IpNet,
    /// A second such range, of the other family: Services may have cluster addresses of both.
    pub more_services: Option<IpNet>,
    /// The address at which clients and nodes reach the API server.
    pub address: IpAddr,
    /// Whether nodes will join: a scheduler, the node lifecycle controller, endpoints of the Service `kubernetes`.
    pub nodes: bool,
    /// Whether the API server writes an audit log (`logs/<name>-audit.log`, one line per request).
    pub audit: bool,
    /// The range of node ports; absent: Kubernetes' own, 30000-32767.
    pub node_ports: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "cluster".into(),
            services: IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16)),
            more_services: None,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            nodes: false,
            audit: false,
            node_ports: None,
        }
    }
}

/// A running control plane; dropping it stops it.
pub struct ControlPlane {
    options: Options,
    dir: PathBuf,
    authority: Authority,
    ports: Ports,
    client: kube::Client,
    processes: Processes,
    supervisor: Arc<Supervisor>,
}

struct Ports {
    etcd: Port,
    peer: Port,
    api: Port,
}

// Dropped in this order: who asks first, who is asked last.
struct Processes {
    scheduler: Mutex<Option<Process>>,
    controllers: Mutex<Option<Process>>,
    api: Process,
    etcd: Process,
}

impl ControlPlane {
    /// Starts a control plane under a supervisor of its own and waits until it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let supervisor = Supervisor::start()?;
        supervisor.judge(Self::start_in(&supervisor, options).await)
    }

    /// Starts a control plane as part of a lab.
    pub async fn start_in(supervisor: &Arc<Supervisor>, options: Options) -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::attempt(supervisor, options.clone()).await {
                Err(error) if attempt < ATTEMPTS && format!("{error:?}").contains("address already in use") => {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(supervisor: &Arc<Supervisor>, options: Options) -> Result<Self> {
        let dir = supervisor.dir().join(&options.name);
        fs::create_dir_all(&dir).act(|| format!("make the directory of {}", options.name))?;
        let authority = Authority::new(&options.name)?;
        let ports = Ports { etcd: Port::free()?, peer: Port::free()?, api: Port::free()? };
        write_keys(&dir, &authority, &options)?;
        let text = kubeconfig_text(&authority, &options, &ports, "admin", &["system:masters"])?;
        write_private(&dir.join("admin.kubeconfig"), &text)?;
        let client = connect(&text).await?;
        let start = |tool: &str, arguments: Vec<String>| {
            let name = format!("{}-{tool}", options.name);
            Process::start(supervisor, Spec::new(&name, tools::kubernetes(tool)?, arguments))
        };
        let processes = Processes {
            etcd: start("etcd", flags::etcd(&dir, &ports))?,
            api: start("kube-apiserver", flags::api(&dir, &supervisor.logs(), &options, &ports)?)?,
            controllers: Mutex::new(None),
            scheduler: Mutex::new(None),
        };
        let plane = Self { options, dir, authority, ports, client, processes, supervisor: supervisor.clone() };
        plane.ready().await?;
        plane.start_controllers()?;
        Ok(plane)
    }

    /// A client with every right.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The administrator's kubeconfig, a file that carries its certificates in itself.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Writes a kubeconfig for a user with groups; what it may do is RBAC's matter.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let text = kubeconfig_text(&self.authority, &self.options, &self.ports, user, groups)?;
        let path = self.dir.join(format!("{}.kubeconfig", user.replace(':', "-")));
        write_private(&path, &text)?;
        Ok(path)
    }

    /// Makes a service account, if it is not there, and writes a kubeconfig with a token of it that lasts a day.
    pub async fn kubeconfig_of_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let metadata = json!({"namespace": namespace, "name": name});
        apply(&self.client, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).await?;
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(24 * 60 * 60), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let issued = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let issued = issued.act(|| format!("ask for a token of {namespace}/{name}"))?;
        let token = issued.status.map(|status| status.token).unwrap_or_default();
        let path = self.dir.join(format!("{name}.kubeconfig"));
        write_private(&path, &pki::kubeconfig(&self.url(), &self.authority.certificate(), &Login::Token(&token)))?;
        Ok(path)
    }

    /// `https://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        url(&self.options, &self.ports)
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.options.address, self.ports.api.number())
    }

    /// The cluster's name in the lab.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Where its Services get cluster addresses from.
    pub fn services(&self) -> IpNet {
        self.options.services
    }

    /// The cluster's certificate authority, for whoever joins it.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The supervisor that ends it.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// The lines of the audit log so far, when the options asked for one.
    pub fn audit(&self) -> Result<String> {
        let path = flags::audit_log(&self.supervisor.logs(), &self.options.name);
        fs::read_to_string(&path).act(|| format!("read {}", path.display()))
    }

    /// Takes the API server away, at once; etcd keeps the state, the port stays ours.
    pub fn stop_api(&self) {
        self.processes.api.kill();
    }

    /// Brings the API server back at the same address, with its controllers, and waits until it is ready.
    pub async fn start_api(&self) -> Result<()> {
        self.processes.api.restart()?;
        self.ready().await?;
        self.start_controllers()
    }

    /// The API server hangs: connections stay open, nothing is answered.
    pub fn freeze_api(&self) {
        self.processes.api.freeze();
    }

    /// A frozen API server goes on.
    pub fn thaw_api(&self) {
        self.processes.api.thaw();
    }

    async fn ready(&self) -> Result<()> {
        let what = format!("{} is ready", self.options.name);
        wait::until(&what, PATIENCE, || async {
            for process in [&self.processes.etcd, &self.processes.api] {
                if let Err(ended) = process.check() {
                    return Ok(Err(ended));
                }
            }
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
            self.client.request_text(request).await.map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .await?
    }

    /// The controllers give up when the API server is away for long: they are started with it.
    fn start_controllers(&self) -> Result<()> {
        let start = |tool: &str, user: &str, arguments: fn(&Path, &Path, &Options) -> Vec<String>| {
            let kubeconfig = self.kubeconfig_for(user, &[])?;
            let name = format!("{}-{tool}", self.options.name);
            let arguments = arguments(&self.dir, &kubeconfig, &self.options);
            Process::start(&self.supervisor, Spec::new(&name, tools::kubernetes(tool)?, arguments))
        };
        let Processes { scheduler, controllers, api: _, etcd: _ } = &self.processes;
        replace(controllers, start("kube-controller-manager", "system:kube-controller-manager", flags::controllers)?);
        if self.options.nodes {
            replace(scheduler, start("kube-scheduler", "system:kube-scheduler", flags::scheduler)?);
        }
        Ok(())
    }
}

fn replace(place: &Mutex<Option<Process>>, process: Process) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
}

fn url(options: &Options, ports: &Ports) -> String {
    format!("https://{}", SocketAddr::new(options.address, ports.api.number()))
}

fn kubeconfig_text(
    authority: &Authority,
    options: &Options,
    ports: &Ports,
    user: &str,
    groups: &[&str],
) -> Result<String> {
    let identity = authority.client(user, groups)?;
    Ok(pki::kubeconfig(&url(options, ports), &authority.certificate(), &Login::Certificate(&identity)))
}

fn write_keys(dir: &Path, authority: &Authority, options: &Options) -> Result<()> {
    let service = options.services.hosts().next().map(|address| address.to_string());
    let names =
        ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(String::from);
    let names = names.into_iter().chain([options.address.to_string()]).chain(service).collect();
    let api = authority.server("kube-apiserver", names)?;
    let kubelets = authority.client("kube-apiserver-kubelet-client", &["system:masters"])?;
    let accounts = SigningKey::new()?;
    for (file, text) in [
        ("ca.crt", &authority.certificate()),
        ("apiserver.crt", &api.certificate),
        ("apiserver.key", &api.key),
        ("kubelets.crt", &kubelets.certificate),
        ("kubelets.key", &kubelets.key),
        ("accounts.key", &accounts.private),
        ("accounts.pub", &accounts.public),
    ] {
        write_private(&dir.join(file), text)?;
    }
    Ok(())
}

/// Writes a file that only its owner reads.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).act(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).act(|| format!("protect {}", path.display()))
}

/// A client from the text of a kubeconfig.
pub async fn connect(text: &str) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::from_yaml(text).act(|| "read a kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.act(|| "load a kubeconfig")?).act(|| "make a client")
}
