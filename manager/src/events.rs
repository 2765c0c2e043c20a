//! Events of the manager, on the objects that they concern. Knows what kube calls their parts; what is said is decided by the
//! core.

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use nave_manager_core::{Announcement, Tone};
use nave_watch::News;

/// Tells Events. Clones are the same.
#[derive(Clone)]
pub(crate) struct Events(News);

impl Events {
    /// Tells in the name of this manager.
    pub(crate) fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: "nave.dev/manager".to_owned(), instance: Some(instance) };
        let (news, tell) = News::new(Recorder::new(client, reporter));
        tokio::spawn(tell);
        Self(news)
    }

    /// Says it, soon.
    pub(crate) fn publish(&self, announcement: Announcement) {
        let Announcement { about, tone, reason, message } = announcement;
        let type_ = match tone {
            Tone::Normal => EventType::Normal,
            Tone::Warning => EventType::Warning,
        };
        self.0.leave(Event { type_, action: reason.clone(), reason, note: Some(message), secondary: None }, about);
    }
}
