//! The follower's end: calls the leader and tells what this manager's Envoys hold, first everything, then every change, and how many
//! connections they have open.
//! Knows when the leader changes; knows nothing of what the leader makes of it.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use nave_manager_core::{Open, Seen};
use nave_proto::fleet::EnvoyReport;
use nave_proto::fleet::fleet_client::FleetClient;
use nave_xds::report::{Observer, Report};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::present::Present;
use super::{open, write};
use crate::authority::Issued;
use crate::conductor::Inbox;
use crate::election::Leadership;

/// Between two calls of which the first failed; each pause is twice as long as the last, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A call that lasts for so long has not failed: the pauses begin again.
const LASTING: Duration = Duration::from_secs(10);
/// Messages that wait for the leader to read them. A leader that is behind by more is called again and gets everything.
const WAITING: usize = 1024;

/// Hears every word of this manager's Envoys: for the engine here, and for the leader elsewhere. Clones are the same.
#[derive(Clone)]
pub(crate) struct Relay {
    engine: Inbox,
    leader: mpsc::UnboundedSender<Word>,
}

/// What the leader gets.
pub(crate) enum Word {
    /// What an Envoy holds.
    Report(Report),
    /// What is open at an Envoy now. It is sent again soon: a leader that is not called misses nothing.
    Open(Open),
}

impl Relay {
    /// A relay to the engine, and the queue of what goes to the leader.
    pub(crate) fn new(engine: Inbox) -> (Self, mpsc::UnboundedReceiver<Word>) {
        let (leader, queue) = mpsc::unbounded_channel();
        (Self { engine, leader }, queue)
    }

    /// An Envoy of this manager measured what is open.
    pub(crate) fn measured(&self, open: Open) {
        let _ = self.leader.send(Word::Open(open.clone()));
        self.engine.seen(Seen::Open(open));
    }
}

impl Observer for Relay {
    fn report(&self, report: Report) {
        let _ = self.leader.send(Word::Report(report.clone()));
        self.engine.report(report);
    }
}

/// Relays until shut down.
pub(crate) async fn relay(
    mut words: mpsc::UnboundedReceiver<Word>,
    mut leadership: watch::Receiver<Leadership>,
    issued: watch::Receiver<Arc<Issued>>,
    shutdown: CancellationToken,
) {
    let mut present = Present::default();
    let mut call: Option<Call> = None;
    let mut pauses = Pauses::default();
    let mut due = Some(Instant::now());
    loop {
        tokio::select! {
            word = words.recv() => {
                let Some(word) = word else { return };
                if let Word::Report(report) = &word {
                    present.note(report);
                }
                if call.as_ref().is_some_and(|call| !call.tell(word)) {
                    tracing::info!("the leader does not keep up with the reports: it gets all of them again");
                    due = Some(hang_up(&mut call, &mut pauses));
                }
            }
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
                (call, pauses, due) = (None, Pauses::default(), Some(Instant::now()));
            }
            () = ended(&mut call) => due = Some(hang_up(&mut call, &mut pauses)),
            () = at(due), if call.is_none() => {
                let leader = leadership.borrow().elsewhere.clone();
                (call, due) = (leader.map(|leader| Call::start(leader, issued.borrow().clone(), &present)), None);
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// Ends a call; returns when to make the next one.
fn hang_up(call: &mut Option<Call>, pauses: &mut Pauses) -> Instant {
    let lasted = call.take().map(|call| call.began.elapsed()).unwrap_or_default();
    Instant::now() + pauses.after(lasted)
}

/// Ends when the call does.
async fn ended(call: &mut Option<Call>) {
    match call {
        Some(call) => drop((&mut call.task).await),
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The pauses between one call and the next.
struct Pauses(ExponentialBackoff);

impl Default for Pauses {
    fn default() -> Self {
        let pauses = ExponentialBuilder::default().with_min_delay(PAUSE).with_max_delay(LONGEST_PAUSE);
        Self(pauses.with_factor(2.0).without_max_times().build())
    }
}

impl Pauses {
    /// The pause after a call that lasted for so long.
    fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= LASTING {
            *self = Self::default();
        }
        self.0.next().unwrap_or(LONGEST_PAUSE)
    }
}

/// One call to one leader. Dropping it hangs up.
struct Call {
    began: Instant,
    reports: mpsc::Sender<EnvoyReport>,
    task: tokio::task::JoinHandle<()>,
}

impl Call {
    fn start(leader: String, issued: Arc<Issued>, present: &Present) -> Self {
        let (reports, queue) = mpsc::channel(WAITING);
        let present = present.reports();
        let task = tokio::spawn(async move {
            if let Err(error) = tell(&leader, &issued, present, queue).await {
                tracing::info!(leader, error = error.as_ref(), "the leader cannot be told");
            }
        });
        Self { began: Instant::now(), reports, task }
    }

    /// Returns whether the word is on its way.
    fn tell(&self, word: Word) -> bool {
        let messages = match word {
            Word::Report(report) => write(report),
            Word::Open(open) => vec![open::write(open)],
        };
        messages.into_iter().all(|message| self.reports.try_send(message).is_ok())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tell(
    leader: &str,
    issued: &Issued,
    present: Vec<Report>,
    reports: mpsc::Receiver<EnvoyReport>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (host, port) = crate::options::host_and_port(leader)?;
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&issued.authority))
        .identity(Identity::from_pem(&issued.chain, &issued.key))
        .domain_name(host);
    let channel = Endpoint::from_shared(format!("https://{authority}"))?
        .tls_config(tls)?
        .connect_timeout(Duration::from_secs(3))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .connect()
        .await?;
    let present = tokio_stream::iter(present.into_iter().flat_map(write));
    FleetClient::new(channel).report(present.chain(ReceiverStream::new(reports))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_pauses_between_calls_that_fail_grow_and_begin_again_after_one_that_lasts() {
        let mut pauses = Pauses::default();
        let waited: Vec<u64> = [Duration::ZERO; 6].map(|lasted| pauses.after(lasted).as_secs()).into();
        assert_eq!(waited, [1, 2, 4, 8, 10, 10]);
        assert_eq!(pauses.after(LASTING.saturating_sub(Duration::from_millis(1))), LONGEST_PAUSE);
        assert_eq!([pauses.after(LASTING), pauses.after(Duration::ZERO)], [PAUSE, 2 * PAUSE]);
    }
}
