//! Events of the agent, on the user's Services. Knows what kube calls their parts; the core knows what is told.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use nave_agent_core::{Notice, Tone};
use nave_api::names;
use nave_watch::News;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where to leave what is to be told.
#[derive(Clone, Debug)]
pub struct Notices(News);

impl Notices {
    /// Leaves them; never waits.
    pub fn leave(&self, notices: impl IntoIterator<Item = Notice>) {
        for Notice { service, uid, tone, reason, note } in notices {
            tracing::info!(service = %service, reason, note, "told");
            let about = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Service".to_owned()),
                namespace: Some(service.namespace),
                name: Some(service.name),
                uid: Some(uid),
                ..ObjectReference::default()
            };
            let type_ = match tone {
                Tone::Normal => EventType::Normal,
                Tone::Warning => EventType::Warning,
            };
            let action = "LoadBalance".to_owned();
            self.0.leave(Event { type_, reason, note: Some(note), action, secondary: None }, about);
        }
    }
}

#[cfg(test)]
impl Notices {
    /// They are left there.
    pub fn of(news: News) -> Self {
        Self(news)
    }
}

/// Starts telling.
pub fn start(tracker: &TaskTracker, stop: &CancellationToken, spoke: Client) -> Notices {
    let (news, tell) = News::new(Recorder::new(spoke, Reporter::from(names::AGENT_MANAGER)));
    tracker.spawn(stop.clone().run_until_cancelled_owned(tell));
    Notices(news)
}
