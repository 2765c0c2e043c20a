//! `nave-manager envoy-bootstrap`: a client certificate and the bootstrap that uses it. Knows files; what is in the
//! bootstrap is the xDS crate's matter.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nave_xds::bootstrap::{Bootstrap, Certificates};

use crate::authority::Authority;
use crate::client;
use crate::options::{EnvoyBootstrap, Hub, host_and_port};

/// How long an Envoy's certificate lasts.
const LIFE: Duration = Duration::from_hours(365 * 24);
/// How often Envoy sends its traffic counters.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// Issues, writes and prints.
pub(crate) async fn print(options: EnvoyBootstrap) -> anyhow::Result<()> {
    let EnvoyBootstrap { hub, fleet, node, xds, certificates, admin_socket, max_connections, heap } = options;
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
        max_connections,
    }
    .render();
    for (path, secret) in &rendered.secrets {
        write_private(path, &serde_json::to_string_pretty(secret)?)?;
    }
    println!("{}", serde_json::to_string_pretty(&rendered.bootstrap)?);
    Ok(())
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
