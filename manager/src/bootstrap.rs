//! `nave-manager envoy-bootstrap`: a client certificate and the bootstrap that uses it. Knows files; what is in the
//! bootstrap is the xDS crate's matter.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nave_xds::bootstrap::{Bootstrap, Certificates, DRAIN};
use nave_xds::files::Files;

use crate::authority::Authority;
use crate::client;
use crate::options::{EnvoyBootstrap, Hub, host_and_port};

/// How long an Envoy's certificate lasts.
const LIFE: Duration = Duration::from_hours(365 * 24);
/// How often Envoy sends its traffic counters.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// Issues, writes and prints.
pub(crate) async fn print(options: EnvoyBootstrap) -> anyhow::Result<()> {
    let EnvoyBootstrap { hub, fleet, node, xds, certificates, admin_socket, files, concurrency, max_connections, heap } =
        options;
    let files = descriptors(files, concurrency, max_connections)?;
    let Hub { kubeconfig, namespace } = hub;
    let client = client::connect(client::config(kubeconfig.as_deref()).await?)?;
    let issued = Authority::of_hub(client, &namespace).await?.envoy(&fleet, &node, LIFE)?;
    let directory = std::path::absolute(&certificates).context("find the directory of the certificates")?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .with_context(|| format!("make {}", directory.display()))?;
    for (name, text) in [("ca.crt", &issued.authority), ("tls.crt", &issued.chain), ("tls.key", &issued.key)] {
        write_private(&directory.join(name), text)?;
    }
    let rendered = Bootstrap {
        fleet,
        node,
        xds_endpoints: xds.iter().map(|endpoint| host_and_port(endpoint)).collect::<anyhow::Result<_>>()?,
        certificates: Some(Certificates { secrets: directory.clone(), directory }),
        admin_socket,
        metrics_every: Some(METRICS_EVERY),
        heap_bytes: heap.map(|mib| mib * 1024 * 1024),
        files,
    }
    .render();
    for (path, secret) in &rendered.secrets {
        write_private(path, &serde_json::to_string_pretty(secret)?)?;
    }
    println!("{}", serde_json::to_string_pretty(&rendered.bootstrap)?);
    let arguments = Bootstrap::arguments(DRAIN).join(" ");
    eprintln!(
        "start Envoy with a limit of {} open files: envoy --config-path FILE --concurrency {} {arguments}",
        files.limit, files.workers
    );
    Ok(())
}

/// What Envoy may open, where nothing is said as this command may.
fn descriptors(files: Option<u64>, concurrency: Option<u64>, max_connections: Option<u64>) -> anyhow::Result<Files> {
    let limit = match files {
        Some(files) => files,
        None => hard_limit(&fs::read_to_string("/proc/self/limits").context("read the limits of this process")?)
            .context("find the limit of open files; --files says it")?,
    };
    let processors = || std::thread::available_parallelism().map_or(1, |number| number.get() as u64);
    let files = Files::of(limit, concurrency.unwrap_or_else(processors));
    Ok(max_connections.map_or(files, |connections| files.with_connections(connections)))
}

/// The hard limit of open files in `/proc/<pid>/limits`.
fn hard_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// A new file takes the old one's place at once, so that Envoy never reads half of it.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g_the_hard_limit_counts_since_envoy_raises_its_own_to_it() {
        let limits = |files: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\nMax open files            {files}  files\n"
            )
        };
        assert_eq!(hard_limit(&limits("1024                 524288             ")), Some(524_288));
        assert_eq!(hard_limit(&limits("unlimited            unlimited          ")), Some(u64::MAX));
        assert_eq!(hard_limit(""), None);
        let files = descriptors(Some(20_000), Some(2), Some(100)).unwrap();
        assert_eq!((files.limit, files.workers, files.connections), (20_000, 2, 100));
        assert!(descriptors(None, None, None).is_ok());
    }
}
