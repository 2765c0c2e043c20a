//! Waiting with a deadline and a memory: who gives up says what was last seen. Knows no fixed pause: it looks again until it is true.
use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long anything may take on a machine that is slow and busy with other tests. What is expected comes in a fraction of it.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// How often a condition is looked at again.
const PACE: Duration = Duration::from_millis(25);

/// Looks until `look` answers `Ok`, for at most `patience`. Its `Err` says what was seen instead; the last one is shown on expiry.
///
/// ```no_run
/// # async fn example(client: kube::Client) -> nave_e2e::Result<()> {
/// use nave_e2e::wait;
/// let version = wait::until("the API server answers", wait::PATIENCE, || async {
///     client.apiserver_version().await.map_err(|error| error.to_string())
/// })
/// .await?;
/// # drop(version); Ok(()) }
/// ```
pub async fn until<T, F, Fut>(what: &str, patience: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = std::result::Result<T, String>>,
{
    let started = Instant::now();
    let mut seen = String::from("nothing");
    loop {
        let left = patience.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(instead)) => seen = instead,
            Err(_) => {}
        }
        if started.elapsed() + PACE >= patience {
            return Err(Error::new(format!("waited {} s until {what}; last seen: {seen}", patience.as_secs())));
        }
        tokio::time::sleep(PACE).await;
    }
}
