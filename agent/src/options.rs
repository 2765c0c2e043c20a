//! What the agent is told by flags and environment. Knows words and defaults; opens nothing but what a flag names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum};
use nave_agent_core::backends::Mode;
use nave_agent_core::nodes::{AddressType, LabelRule};
use nave_agent_core::{Key, Policy};
use tracing_subscriber::EnvFilter;

use crate::hub::Source;

/// The agent of Nave, one in every spoke: makes Services of type `LoadBalancer` reachable through the hub.
///
/// It watches Services, Nodes and `EndpointSlices` of the spoke, keeps a `TCPLoadBalancer` for each of its Services in the
/// hub, and shows the hub's answer in the Service's status and Events.
#[derive(Debug, Parser)]
#[command(version, about, group(ArgGroup::new("hub").required(true).args(["hub_kubeconfig", "hub_secret"])))]
pub struct Options {
    /// Kubeconfig of the spoke. Default: the service account of the pod it runs in.
    #[arg(long, env = "NAVE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Kubeconfig of the hub. The agent renews the token in it, and writes the new one back to this file.
    #[arg(long, env = "NAVE_HUB_KUBECONFIG", value_name = "FILE")]
    pub hub_kubeconfig: Option<PathBuf>,

    /// Secret of the spoke whose key `kubeconfig` is the kubeconfig of the hub; renewed tokens are written back to it.
    #[arg(long, env = "NAVE_HUB_SECRET", value_name = "NAMESPACE/NAME")]
    pub hub_secret: Option<SecretName>,

    /// Renew the token of the hub when it is so many seconds old. Default, and at the latest: at two thirds of its life.
    #[arg(long, env = "NAVE_HUB_TOKEN_AGE", value_name = "SECONDS")]
    pub hub_token_age: Option<u64>,

    /// Serve Services that name no load balancer class, too. Default: only those of class nave.dev/load-balancer.
    #[arg(long, env = "NAVE_DEFAULT_LOAD_BALANCER")]
    pub default_load_balancer: bool,

    /// Which addresses of nodes the hub connects to, most preferred first; the first one of a family is used.
    #[arg(
        long,
        env = "NAVE_NODE_ADDRESS_TYPES",
        value_name = "TYPE,…",
        value_delimiter = ',',
        default_value = "InternalIP,ExternalIP"
    )]
    pub node_address_types: Vec<AddressType>,

    /// Labels that nodes must have to get traffic. Default: none.
    #[arg(long, env = "NAVE_NODE_SELECTOR", value_name = "KEY[=VALUE],…", value_delimiter = ',')]
    pub node_selector: Vec<LabelRule>,

    /// How the hub reaches Services that do not say: `NodePort` (node ports of ready nodes), `PodIP` (the pods themselves) or
    /// Provider (the load balancer of the spoke's own cloud).
    #[arg(long, env = "NAVE_BACKENDS", value_name = "MODE", default_value = "NodePort")]
    pub backends: Mode,

    /// Who resolves the names of clouds' load balancers; without it those of /etc/resolv.conf. The port is 53 unless said.
    #[arg(long = "name-server", env = "NAVE_NAME_SERVERS", value_name = "ADDRESS[:PORT]", value_delimiter = ',')]
    pub name_servers: Vec<NameServer>,

    /// Let go of everything and end: delete what this agent made in the hub, clear what it shows, release its finalizers.
    /// To be run once before the agent is uninstalled for good, when no other one runs.
    #[arg(long)]
    pub cleanup: bool,

    /// Where to serve /metrics, /healthz and /readyz.
    #[arg(long, env = "NAVE_HTTP_ADDRESS", value_name = "ADDRESS:PORT", default_value = "[::]:8080")]
    pub http_address: SocketAddr,

    /// How to log.
    #[arg(long, env = "NAVE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What to log: a level, or `target=level` with commas between.
    #[arg(long, env = "NAVE_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// Namespace and name of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName(pub Key);

/// Where a name server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

/// A text that names no name server.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("write an address, or an address and a port: 10.96.0.10, 10.96.0.10:53, [fd00::a]:53")]
pub struct InvalidNameServer;

impl FromStr for NameServer {
    type Err = InvalidNameServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let alone = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        text.parse().or_else(|_| alone()).map(Self).map_err(|_| InvalidNameServer)
    }
}

/// A text that names no Secret.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("write NAMESPACE/NAME")]
pub struct InvalidSecretName;

impl FromStr for SecretName {
    type Err = InvalidSecretName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').ok_or(InvalidSecretName)?;
        let good = |part: &str| !part.is_empty() && !part.contains('/');
        let named = good(namespace) && good(name);
        named.then(|| Self(Key { namespace: namespace.into(), name: name.into() })).ok_or(InvalidSecretName)
    }
}

impl Options {
    /// What the core must know.
    pub fn policy(&self) -> Policy {
        Policy {
            default_load_balancer: self.default_load_balancer,
            address_types: self.node_address_types.clone(),
            node_selector: self.node_selector.clone(),
            leaving: self.cleanup,
            backends: self.backends,
        }
    }

    /// Who resolves names; empty: whom the system asks.
    pub fn name_servers(&self) -> Vec<SocketAddr> {
        self.name_servers.iter().map(|NameServer(address)| *address).collect()
    }

    /// At what age tokens are renewed.
    pub fn renew_age(&self) -> Option<Duration> {
        self.hub_token_age.map(Duration::from_secs)
    }

    /// Where the credential of the hub is; clap has seen to it that there is one.
    pub fn source(&self, spoke: &kube::Client) -> Source {
        match (&self.hub_secret, &self.hub_kubeconfig) {
            (Some(SecretName(key)), _) => Source::Secret { spoke: spoke.clone(), key: key.clone() },
            (None, file) => Source::File(file.clone().unwrap_or_default()),
        }
    }

    /// What to log; a filter that does not parse logs everything of note and says so. The client's own word on a failed
    /// call is left out unless asked for: who called says the same, and what for.
    pub fn filter(&self) -> EnvFilter {
        EnvFilter::try_new(format!("kube_client=off,{}", self.log)).unwrap_or_else(|error| {
            eprintln!("--log: {error}; logging at level info");
            EnvFilter::new("kube_client=off,info")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn exactly_one_source_of_the_hubs_credential_is_given() {
        let parse = |arguments: &[&str]| Options::try_parse_from([&["nave-agent"], arguments].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--hub-kubeconfig=f", "--hub-secret=a/b"]).is_err());
        assert!(parse(&["--hub-secret=a"]).is_err());
        let options = parse(&["--hub-secret=a/b", "--node-address-types=ExternalIP"]).unwrap();
        assert_eq!(options.policy().address_types, [AddressType::ExternalIp]);
    }

    #[test]
    fn a_name_server_is_an_address_with_or_without_a_port() {
        let parse = |text: &str| text.parse().map(|NameServer(address)| address.to_string()).ok();
        assert_eq!(parse("10.96.0.10").as_deref(), Some("10.96.0.10:53"));
        assert_eq!(parse("10.96.0.10:5353").as_deref(), Some("10.96.0.10:5353"));
        assert_eq!(parse("fd00::a").as_deref(), Some("[fd00::a]:53"));
        assert_eq!(parse("dns.example.com"), None);
    }
}
