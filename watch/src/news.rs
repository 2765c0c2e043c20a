//! Events, sent beside the work and never in its way: what is wrong first, the namespaces in turns, and all of it in a small part of the
//! time. Knows how to write them; what they say is the cores' matter.

mod queue;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use queue::{Queue, Waiting};

/// How long the API may take for one.
const PATIENCE: Duration = Duration::from_secs(5);
/// For each moment in which an Event is written, so many without: a thousand Services at once are served first, and reported
/// then.
const REST: u32 = 4;
/// No rest is longer.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// What the API takes of a note, in bytes, and a little less.
const NOTE: usize = 1000;
/// What is well and waited longer than this is not sent any more.
const OLD: Duration = Duration::from_mins(5);

/// Where to leave Events. One that cannot be written is lost: a condition says the same.
#[derive(Clone, Debug)]
pub struct News {
    shared: Arc<Shared>,
    /// Dropped with the last of its clones: then the task ends, when nothing waits.
    _open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
}

/// While it lives, more Events may come.
#[derive(Debug)]
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.with(Queue::close);
        self.0.more.notify_one();
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next Event; `None` when no more come.
    async fn next(&self) -> Option<Waiting> {
        loop {
            match self.with(|queue| (queue.next(), queue.is_closed())) {
                (Some(waiting), _) => return Some(waiting),
                (None, true) => return None,
                (None, false) => self.more.notified().await,
            }
        }
    }
}

impl News {
    /// Where to leave them, and the task that writes them.
    pub fn new(recorder: Recorder) -> (Self, impl Future<Output = ()> + Send) {
        let shared = Arc::new(Shared::default());
        let open = Arc::new(Open(Arc::clone(&shared)));
        (Self { shared: Arc::clone(&shared), _open: open }, send(recorder, shared))
    }

    /// Leaves one; never waits.
    pub fn leave(&self, mut event: Event, about: ObjectReference) {
        if let Some(note) = &mut event.note {
            note.truncate(note.floor_char_boundary(NOTE));
        }
        event.action = distinct(&event.action, event.note.as_deref().unwrap_or_default());
        let is_kept = self.shared.with(|queue| queue.add(Waiting { event, about, left: Instant::now() }));
        if !is_kept {
            tracing::debug!("an Event is lost: too many wait");
        }
        self.shared.more.notify_one();
    }
}

/// An action that is another one for another note. The recorder counts Events as one when they differ in their notes alone, and
/// writes the first note only.
fn distinct(action: &str, note: &str) -> String {
    let mut hasher = DefaultHasher::new();
    note.hash(&mut hasher);
    format!("{action}-{:016x}", hasher.finish())
}

async fn send(recorder: Recorder, shared: Arc<Shared>) {
    while let Some(Waiting { event, about, left }) = shared.next().await {
        if event.type_ == EventType::Normal && left.elapsed() > OLD {
            continue;
        }
        let begun = Instant::now();
        match timeout(PATIENCE, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "an Event is lost"),
            Err(_) => tracing::debug!("an Event is lost: the API did not answer"),
        }
        sleep(begun.elapsed().saturating_mul(REST).min(LONGEST_REST)).await;
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::events::Reporter;
    use nave_watch::stub::{self, refusal};

    use super::*;

    /// A client whose server refuses everything, and the namespaces that it was asked for.
    fn refusing() -> (Arc<Mutex<Vec<String>>>, kube::Client) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let client = stub::client(move |path| {
            log.lock().unwrap().push(path.split('/').nth(5).unwrap_or(path).to_owned());
            refusal(500)
        });
        (asked, client)
    }

    #[tokio::test]
    async fn what_is_wrong_is_sent_first_and_what_was_well_before_not_any_more() {
        let (asked, client) = refusing();
        let (news, send) = News::new(Recorder::new(client, Reporter::from("test")));
        let event = |type_| Event { type_, reason: "Sent".into(), note: None, action: "Send".into(), secondary: None };
        let about = |namespace: &str, uid: &str| ObjectReference {
            namespace: Some(namespace.into()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        };
        for (namespace, uid) in [("first", "1"), ("third", "3"), ("second", "2")] {
            news.leave(event(EventType::Normal), about(namespace, uid));
        }
        news.leave(event(EventType::Warning), about("third", "3"));
        news.leave(event(EventType::Normal), about("third", "3"));
        drop(news);
        send.await;
        assert_eq!(*asked.lock().unwrap(), ["third", "first", "second", "third"]);
    }

    #[tokio::test]
    async fn kind_m_events_of_one_reason_with_different_notes_are_different_events() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let client = stub::client(move |path| {
            // An Event that is known is changed under its name; a new one is made under none.
            log.lock().unwrap().push(path.split('/').count() > 7);
            (201, serde_json::json!({"metadata": {"name": "an-event"}}))
        });
        let (news, send) = News::new(Recorder::new(client, Reporter::from("test")));
        for note in [
            "nave.dev/pool is not understood",
            "nave.dev/balancing is not understood",
            "nave.dev/pool is not understood",
        ] {
            let (reason, action) = ("InvalidAnnotation".to_owned(), "LoadBalance".to_owned());
            let event = Event { type_: EventType::Warning, reason, note: Some(note.into()), action, secondary: None };
            let about =
                ObjectReference { namespace: Some("shop".into()), name: Some("web".into()), ..Default::default() };
            news.leave(event, about);
        }
        drop(news);
        send.await;
        assert_eq!(*asked.lock().unwrap(), [false, false, true]);
    }

    #[tokio::test]
    async fn p_a_flood_of_one_namespace_delays_and_drops_no_event_of_another() {
        let (asked, client) = refusing();
        let (news, send) = News::new(Recorder::new(client, Reporter::from("test")));
        let leave = |namespace: &str, name: &str, type_| {
            let about =
                ObjectReference { namespace: Some(namespace.into()), name: Some(name.into()), ..Default::default() };
            let event = Event { type_, reason: "Sent".into(), note: None, action: "Send".into(), secondary: None };
            news.leave(event, about);
        };
        for number in 0..10_000 {
            leave("flood", &number.to_string(), EventType::Warning);
        }
        leave("other", "wrong", EventType::Warning);
        leave("other", "well", EventType::Normal);
        let sent = async {
            while asked.lock().unwrap().iter().filter(|namespace| **namespace == "other").count() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = send => {}
            () = sent => {}
        }
        let asked = asked.lock().unwrap();
        let other: Vec<usize> = (0..asked.len()).filter(|at| asked[*at] == "other").collect();
        assert!(other.len() == 2 && other[0] <= 1 && other[1] <= 6, "{other:?} of {}", asked.len());
    }
}
