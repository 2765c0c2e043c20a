//! Events for people, on the objects that they concern. Knows the API of Events; what is said is decided by the core.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use nave_manager_core::{Announcement, Tone};
use tokio::sync::mpsc;

/// Publishes Events, one after the other: they must not hold up what matters more. One that cannot be published is lost:
/// the condition says the same.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

/// So many Events wait; more are lost.
const WAITING: usize = 4096;

/// What the API takes of a note.
const NOTE: usize = 1000;
/// How long the API may take for one.
const PATIENCE: Duration = Duration::from_secs(5);

impl Events {
    /// Publishes in the name of this manager.
    pub(crate) fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: "nave.dev/manager".to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client, reporter);
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(WAITING);
        tokio::spawn(async move {
            while let Some((event, about)) = waiting.recv().await {
                match tokio::time::timeout(PATIENCE, recorder.publish(&event, &about)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "an Event is lost"),
                    Err(_) => tracing::debug!("an Event is lost: the API did not answer"),
                }
            }
        });
        Self { queue }
    }

    /// Says it, soon.
    pub(crate) fn publish(&self, announcement: Announcement) {
        let Announcement { about, tone, reason, message } = announcement;
        let event = Event {
            type_: match tone {
                Tone::Normal => EventType::Normal,
                Tone::Warning => EventType::Warning,
            },
            action: reason.clone(),
            reason,
            note: Some(message.chars().take(NOTE).collect()),
            secondary: None,
        };
        if self.queue.try_send((event, about)).is_err() {
            tracing::debug!("an Event is lost: too many wait");
        }
    }
}
