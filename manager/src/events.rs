//! Events for people, on the objects that they concern. Knows the API of Events; what is said is decided by the core.

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use nave_manager_core::{Announcement, Tone};

/// Publishes Events. One that cannot be published is lost: the condition says the same.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
}

/// What the API takes of a note.
const NOTE: usize = 1000;

impl Events {
    /// Publishes in the name of this manager.
    pub(crate) fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: "nave.dev/manager".to_owned(), instance: Some(instance) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Says it, soon.
    pub(crate) fn publish(&self, announcement: Announcement) {
        let Announcement { about, tone, reason, message } = announcement;
        let recorder = self.recorder.clone();
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
        tokio::spawn(async move {
            if let Err(error) = recorder.publish(&event, &about).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "an Event is lost");
            }
        });
    }
}
