//! Flags and environment of `nave-manager`. Knows names and defaults; starts nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

/// The manager of Nave: allocates addresses, serves Envoy, writes status. One, or more, in the hub.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) act: Act,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Act {
    /// Runs a manager. Several may run: all serve Envoy, one of them writes.
    Run(Box<Run>),
    /// Issues the client certificate of an edge node's Envoy, and prints its bootstrap.
    EnvoyBootstrap(Box<EnvoyBootstrap>),
}

/// Where the hub is.
#[derive(Debug, Args)]
pub(crate) struct Hub {
    /// The hub's kubeconfig. Default: the service account of the pod.
    #[arg(long, env = "NAVE_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The namespace of the managers: their Lease and the Secret of the authority are there.
    #[arg(long, env = "NAVE_NAMESPACE", default_value = "nave-system")]
    pub(crate) namespace: String,
}

/// `nave-manager run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) hub: Hub,
    /// Where to serve Envoys and other managers, with mutual TLS.
    #[arg(long, env = "NAVE_XDS_ADDRESS", default_value = "0.0.0.0:18000", value_name = "IP:PORT")]
    pub(crate) xds_address: SocketAddr,
    /// How Envoys and other managers reach this one; becomes part of its certificate.
    #[arg(long, env = "NAVE_ADVERTISE", value_name = "HOST:PORT")]
    pub(crate) advertise: String,
    /// Names by which Envoys reach the managers together, such as their Service's; become part of the certificate.
    #[arg(long, env = "NAVE_XDS_NAMES", value_delimiter = ',', value_name = "HOST,…")]
    pub(crate) xds_names: Vec<String>,
    /// Where to serve /metrics, /healthz and /readyz, in clear.
    #[arg(long, env = "NAVE_HTTP_ADDRESS", default_value = "0.0.0.0:8080", value_name = "IP:PORT")]
    pub(crate) http_address: SocketAddr,
    /// The hub's API server as agents reach it; goes into their kubeconfigs. Default: as this manager reaches it.
    #[arg(long, env = "NAVE_HUB_API_URL", value_name = "URL")]
    pub(crate) hub_api_url: Option<String>,
    /// Networks of the hub itself, where no backend may lie, besides those of its Nodes and ServiceCIDRs.
    #[arg(long, env = "NAVE_HUB_NETWORKS", value_delimiter = ',', value_name = "CIDR,…")]
    pub(crate) hub_networks: Vec<IpNet>,
    /// The load balancers of a Tenant without `spec.quota.loadBalancers`.
    #[arg(long, env = "NAVE_DEFAULT_LOAD_BALANCERS", default_value_t = 1000, value_name = "NUMBER")]
    pub(crate) default_load_balancers: u32,
    /// The endpoints, backend addresses times ports, of a Tenant without `spec.quota.endpoints`.
    #[arg(long, env = "NAVE_DEFAULT_ENDPOINTS", default_value_t = 50_000, value_name = "NUMBER")]
    pub(crate) default_endpoints: u32,
    /// Lets backends lie on loopback addresses. For a lab on one machine: anywhere else, it lets tenants reach what
    /// listens on the edge nodes themselves.
    #[arg(long, env = "NAVE_INSECURE_ALLOW_LOOPBACK_BACKENDS")]
    pub(crate) insecure_allow_loopback_backends: bool,
    /// How long the leader may be silent before another manager takes over. It renews several times in that time.
    #[arg(long, env = "NAVE_LEASE_DURATION", default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub(crate) lease_duration: Duration,
    /// How long a copy of a certificate stays in a tenant's namespace that no load balancer names.
    #[arg(long, env = "NAVE_UNNAMED_COPIES_LAST", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub(crate) unnamed_copies_last: Duration,
    #[command(flatten)]
    pub(crate) log: Log,
}

/// `nave-manager envoy-bootstrap`.
#[derive(Debug, Args)]
pub(crate) struct EnvoyBootstrap {
    #[command(flatten)]
    pub(crate) hub: Hub,
    /// The fleet that the Envoy belongs to; becomes part of its certificate.
    #[arg(long, env = "NAVE_FLEET", default_value = "default")]
    pub(crate) fleet: String,
    /// The edge node that it runs on, unique in the fleet; becomes part of its certificate.
    #[arg(long, env = "NAVE_NODE")]
    pub(crate) node: String,
    /// Where the managers serve, one or more.
    #[arg(long, env = "NAVE_XDS", value_delimiter = ',', required = true, value_name = "HOST:PORT,…")]
    pub(crate) xds: Vec<String>,
    /// Where to write ca.crt, tls.crt and tls.key, readable by this user only. Envoy takes new ones without a restart.
    #[arg(long, value_name = "DIR")]
    pub(crate) certificates: PathBuf,
    /// Where Envoy makes the Unix socket of its admin interface.
    #[arg(long, value_name = "PATH")]
    pub(crate) admin_socket: PathBuf,
    /// The hard limit of open files (`ulimit -Hn`) under which Envoy will run. Of it the manager divides UDP sessions and listeners
    /// among load balancers, and Envoy refuses connections before it ends. Default: the limit of this command.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1024..))]
    pub(crate) files: Option<u64>,
    /// The workers that Envoy will have (`--concurrency`). Default: as many as this machine has processors.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) concurrency: Option<u64>,
    /// TCP connections that Envoy accepts at once, over all listeners. Default, and at most: 15 % of --files.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_connections: Option<u64>,
    /// Memory that Envoy may use for its heap, in MiB; near it, it sheds load. Default: no limit.
    #[arg(long, value_name = "MIB")]
    pub(crate) heap: Option<u64>,
}

/// How to log.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The form of the log.
    #[arg(long, env = "NAVE_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// What to log: a level, or levels by module, as in `info,nave_xds=debug`.
    #[arg(long, env = "NAVE_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

fn duration(text: &str) -> Result<Duration, nave_api::duration::InvalidDuration> {
    nave_api::Duration(text.to_owned()).parse()
}

/// `host:port`, the host perhaps an IPv6 address in brackets.
pub(crate) fn host_and_port(text: &str) -> anyhow::Result<(String, u16)> {
    let wrong = || anyhow::anyhow!("{text} is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    anyhow::ensure!(!host.is_empty(), wrong());
    Ok((host.to_owned(), port.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        assert_eq!(host_and_port("[::1]:18000").unwrap(), ("::1".to_owned(), 18000));
        assert_eq!(host_and_port("managers.nave:18000").unwrap(), ("managers.nave".to_owned(), 18000));
        assert!(["managers", ":1", "a:b", "a:70000"].iter().all(|text| host_and_port(text).is_err()));
    }
}
