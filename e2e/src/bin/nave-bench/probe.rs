//! Connecting as a client does: until the first byte, or until it is refused. Knows addresses only.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use k8s_openapi::api::core::v1::Service;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long to wait for a change at an address.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two attempts; what is measured is at most this much too long.
const PAUSE: Duration = Duration::from_micros(200);

/// Connects again and again until the backend's first byte comes through.
pub(crate) async fn first_byte(at: SocketAddr) -> anyhow::Result<()> {
    until(at, "no byte", true).await
}

/// Connects again and again until nobody answers.
pub(crate) async fn refused(at: SocketAddr) -> anyhow::Result<()> {
    until(at, "still an answer", false).await
}

async fn until(at: SocketAddr, what: &str, answers: bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while answered(at).await != answers {
        if Instant::now() > deadline {
            bail!("{what} from {at} after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn answered(at: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(at).await else { return false };
    let mut byte = [0];
    matches!(stream.read(&mut byte).await, Ok(1))
}

/// The address that a Service shows.
pub(crate) fn ingress(service: &Service) -> Option<String> {
    service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?.ip.clone()
}
