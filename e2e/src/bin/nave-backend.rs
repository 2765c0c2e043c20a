//! The sample backend as a container: says who it is, then gives back what it is sent. Knows its environment; the library
//! knows the protocols.
use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use nave_e2e::{Backend, Protocol};
use tokio::signal::unix::{SignalKind, signal};

/// `nave-backend tcp/8080 udp/5353` answers with the banner in `BANNER`; `nave-backend pause` only waits.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut backends = Vec::new();
    for argument in std::env::args().skip(1).filter(|argument| argument != "pause") {
        let (protocol, port) = argument.split_once('/').context("a port is tcp/NUMBER or udp/NUMBER")?;
        let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port.parse().context("a port is a number")?);
        let banner = std::env::var("BANNER").unwrap_or_default();
        backends.push(Backend::start(protocol, address, &banner).await?);
    }
    // As process 1 of a container it must ask for the signal that ends it.
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}
