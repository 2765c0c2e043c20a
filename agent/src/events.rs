//! Events on the user's Services, told apart from the work itself: they are late when there is much to tell, never in its
//! way. Knows how to write them; the core knows what.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use nave_agent_core::{Notice, Tone};
use nave_api::names;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connect::limited;
use crate::error::line;

/// So many may wait to be told; what is more is logged alone.
const WAITING: usize = 4096;

/// Where to leave what is to be told.
#[derive(Clone, Debug)]
pub struct Notices(mpsc::Sender<Notice>);

impl Notices {
    /// Leaves them; never waits.
    pub fn leave(&self, notices: impl IntoIterator<Item = Notice>) {
        for notice in notices {
            if let Err(error) = self.0.try_send(notice) {
                tracing::warn!(%error, "an Event is not told");
            }
        }
    }
}

/// Starts telling.
pub fn start(tracker: &TaskTracker, stop: &CancellationToken, spoke: Client) -> Notices {
    let (leave, take) = mpsc::channel(WAITING);
    tracker.spawn(stop.clone().run_until_cancelled_owned(tell(spoke, take)));
    Notices(leave)
}

async fn tell(spoke: Client, mut notices: mpsc::Receiver<Notice>) {
    let recorder = Recorder::new(spoke, Reporter::from(names::AGENT_MANAGER));
    while let Some(Notice { service, uid, tone, reason, note }) = notices.recv().await {
        let type_ = match tone {
            Tone::Normal => EventType::Normal,
            Tone::Warning => EventType::Warning,
        };
        tracing::info!(service = %service, reason, note, "told");
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(service.namespace),
            name: Some(service.name),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        let event = Event { type_, reason, note: Some(note), action: "LoadBalance".to_owned(), secondary: None };
        if let Err(error) = limited("write an Event", recorder.publish(&event, &reference)).await {
            tracing::warn!(error = line(&error), "an Event is not told");
        }
    }
}
