//! Events, told beside the work and never in its way: what is wrong first, and all of it in a small part of the time. Knows
//! how to write them; what they say is the cores' matter.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// So many Events of either kind wait; more are lost.
const WAITING: usize = 4096;
/// How long the API may take for one.
const PATIENCE: Duration = Duration::from_secs(5);
/// For each moment in which an Event is written, so many without: a thousand Services at once are served first, and told of
/// then.
const REST: u32 = 4;
/// No rest is longer.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// What the API takes of a note, in bytes, and a little less.
const NOTE: usize = 1000;
/// What is well and waited longer than this is told no more.
const OLD: Duration = Duration::from_mins(5);

/// Where to leave Events. One that cannot be written is lost: a condition says the same.
#[derive(Clone, Debug)]
pub struct News {
    wrong: mpsc::Sender<Told>,
    well: mpsc::Sender<Told>,
}

/// What is told of which object, and when it was left here.
type Told = (Event, ObjectReference, Instant);

impl News {
    /// Where to leave them, and the task that writes them.
    pub fn new(recorder: Recorder) -> (Self, impl Future<Output = ()> + Send) {
        let ((wrong, wrongs), (well, wells)) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
        (Self { wrong, well }, tell(recorder, wrongs, wells))
    }

    /// Leaves one; never waits.
    pub fn leave(&self, mut event: Event, about: ObjectReference) {
        if let Some(note) = &mut event.note {
            note.truncate(note.floor_char_boundary(NOTE));
        }
        event.action = distinct(&event.action, event.note.as_deref().unwrap_or_default());
        let queue = match event.type_ {
            EventType::Warning => &self.wrong,
            EventType::Normal => &self.well,
        };
        if queue.try_send((event, about, Instant::now())).is_err() {
            tracing::debug!("an Event is lost: too many wait");
        }
    }
}

/// An action that is another one for another note. The recorder counts Events as one when they differ in their notes alone, and
/// writes the first note only.
fn distinct(action: &str, note: &str) -> String {
    let mut hasher = DefaultHasher::new();
    note.hash(&mut hasher);
    format!("{action}-{:016x}", hasher.finish())
}

async fn tell(recorder: Recorder, mut wrong: mpsc::Receiver<Told>, mut well: mpsc::Receiver<Told>) {
    // When something wrong was left of an object, by uid: what was well before that is told no more.
    let mut turned: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        if well.is_empty() {
            turned.clear();
        }
        let (event, about, left) = tokio::select! {
            biased;
            Some(told) = wrong.recv() => told,
            Some(told) = well.recv() => told,
            else => return,
        };
        match event.type_ {
            EventType::Warning => turned.extend(about.uid.clone().map(|uid| (uid, left))),
            EventType::Normal => {
                let turned = about.uid.as_ref().and_then(|uid| turned.get(uid));
                if left.elapsed() > OLD || turned.is_some_and(|turned| left < *turned) {
                    continue;
                }
            }
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
    use std::sync::{Arc, Mutex};

    use kube::runtime::events::Reporter;
    use nave_watch::stub::{self, refusal};

    use super::*;

    #[tokio::test]
    async fn what_is_wrong_is_told_first_and_what_was_well_before_no_more() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let client = stub::client(move |path| {
            log.lock().unwrap().push(path.split('/').nth(5).unwrap_or(path).to_owned());
            refusal(500)
        });
        let (news, tell) = News::new(Recorder::new(client, Reporter::from("test")));
        let event = |type_| Event { type_, reason: "Told".into(), note: None, action: "Tell".into(), secondary: None };
        let about = |namespace: &str, uid: &str| ObjectReference {
            namespace: Some(namespace.into()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        };
        for (namespace, uid) in [("first", "1"), ("was-well", "3"), ("second", "2")] {
            news.leave(event(EventType::Normal), about(namespace, uid));
        }
        news.leave(event(EventType::Warning), about("wrong", "3"));
        news.leave(event(EventType::Normal), about("well-again", "3"));
        drop(news);
        tell.await;
        assert_eq!(*asked.lock().unwrap(), ["wrong", "first", "second", "well-again"]);
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
        let (news, tell) = News::new(Recorder::new(client, Reporter::from("test")));
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
        tell.await;
        assert_eq!(*asked.lock().unwrap(), [false, false, true]);
    }
}
