//! The follower's end: calls the leader and tells what this manager's Envoys hold, first everything, then every change.
//! Knows when the leader changes; knows nothing of what the leader makes of it.

use std::sync::Arc;
use std::time::Duration;

use nave_proto::fleet::EnvoyReport;
use nave_proto::fleet::fleet_client::FleetClient;
use nave_xds::report::{Observer, Report};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::present::Present;
use super::write;
use crate::authority::Issued;
use crate::conductor::Inbox;
use crate::election::Leadership;

/// Between two calls that failed.
const PAUSE: Duration = Duration::from_millis(250);

/// Hears every report of this manager's Envoys: for the engine here, and for the leader elsewhere.
pub(crate) struct Relay {
    engine: Inbox,
    leader: mpsc::UnboundedSender<Report>,
}

impl Relay {
    /// A relay to the engine, and the queue of what goes to the leader.
    pub(crate) fn new(engine: Inbox) -> (Self, mpsc::UnboundedReceiver<Report>) {
        let (leader, queue) = mpsc::unbounded_channel();
        (Self { engine, leader }, queue)
    }
}

impl Observer for Relay {
    fn report(&self, report: Report) {
        let _ = self.leader.send(report.clone());
        self.engine.report(report);
    }
}

/// Relays until shut down.
pub(crate) async fn relay(
    mut reports: mpsc::UnboundedReceiver<Report>,
    mut leadership: watch::Receiver<Leadership>,
    issued: watch::Receiver<Arc<Issued>>,
    shutdown: CancellationToken,
) {
    let mut present = Present::default();
    let mut call: Option<Call> = None;
    let mut again = tokio::time::interval(PAUSE);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            report = reports.recv() => {
                let Some(report) = report else { return };
                present.note(&report);
                if let Some(call) = &call {
                    call.tell(write(report));
                }
            }
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
                call = None;
                again.reset_immediately();
            }
            _ = again.tick() => {
                let leader = leadership.borrow().elsewhere.clone();
                if call.as_ref().is_none_or(Call::is_over) {
                    call = leader.map(|leader| Call::start(leader, issued.borrow().clone(), &present));
                }
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// One call to one leader. Dropping it hangs up.
struct Call {
    reports: mpsc::UnboundedSender<EnvoyReport>,
    task: tokio::task::JoinHandle<()>,
}

impl Call {
    fn start(leader: String, issued: Arc<Issued>, present: &Present) -> Self {
        let (reports, queue) = mpsc::unbounded_channel();
        for report in present.reports() {
            let _ = reports.send(write(report));
        }
        let task = tokio::spawn(async move {
            if let Err(error) = tell(&leader, &issued, queue).await {
                tracing::info!(leader, error = error.as_ref(), "the leader cannot be told");
            }
        });
        Self { reports, task }
    }

    fn tell(&self, report: EnvoyReport) {
        let _ = self.reports.send(report);
    }

    fn is_over(&self) -> bool {
        self.task.is_finished()
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
    reports: mpsc::UnboundedReceiver<EnvoyReport>,
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
    FleetClient::new(channel).report(UnboundedReceiverStream::new(reports)).await?;
    Ok(())
}
