//! A watch that begins anew after every failure, and waits longer each time. Knows when to ask again; knows no object.

use std::fmt::Debug;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::Decoded;

/// A watch that failed sooner than this after its list has not ended the failure: the waits go on growing.
const HELD: Duration = Duration::from_secs(10);

/// A watch that begins with a whole list after every failure. Who went on from where he was could have been left behind: a
/// cluster that was restored from a snapshot is at revisions that he believes to have seen, and its API server tells him
/// nothing. An object that cannot be read is an object of the list or an event of the watch like others.
///
/// kube's own backoff would not do: it takes the [`Event::Init`] that comes before anybody was asked for success, and a list
/// for a watch that works.
pub fn anew<K>(
    api: Api<Decoded<K>>,
    config: watcher::Config,
    waits: ExponentialBuilder,
) -> impl Stream<Item = watcher::Result<Event<Decoded<K>>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let begin = move || watcher::watcher(api.clone(), config.clone()).boxed();
    let watch = Anew { begin, going: None, first: None, listed_at: None, waits: Waits::new(waits), wait: None };
    futures::stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) })
}

struct Anew<K, B> {
    begin: B,
    going: Option<BoxStream<'static, watcher::Result<Event<K>>>>,
    /// What came behind [`Event::Init`].
    first: Option<Event<K>>,
    listed_at: Option<Instant>,
    waits: Waits,
    wait: Option<Duration>,
}

impl<K, B: Fn() -> BoxStream<'static, watcher::Result<Event<K>>>> Anew<K, B> {
    async fn next(&mut self) -> Option<watcher::Result<Event<K>>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if let Some(wait) = self.wait.take() {
            sleep(wait).await;
        }
        let going = self.going.get_or_insert_with(&self.begin);
        let mut event = going.next().await?;
        if let Ok(Event::Init) = event {
            match going.next().await? {
                Ok(first) => self.first = Some(first),
                Err(error) => event = Err(error),
            }
        }
        if event.is_ok() {
            self.listed_at.get_or_insert_with(Instant::now);
        } else {
            self.going = None;
            self.wait = self.waits.after(self.listed_at.take().map(|listed| listed.elapsed()));
        }
        Some(event)
    }
}

/// The waits between one failure and the next try.
struct Waits {
    all: ExponentialBuilder,
    left: ExponentialBackoff,
}

impl Waits {
    fn new(all: ExponentialBuilder) -> Self {
        Self { all, left: all.build() }
    }

    /// The wait after a watch that failed so long after its list; `None`: there was no list.
    fn after(&mut self, held: Option<Duration>) -> Option<Duration> {
        if held.is_some_and(|held| held >= HELD) {
            self.left = self.all.build();
        }
        self.left.next()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};

    use nave_watch::stub::{self, refusal};

    use super::*;

    fn waits() -> ExponentialBuilder {
        let (first, longest) = (Duration::from_millis(5), Duration::from_millis(20));
        ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest).without_max_times()
    }

    /// Watches an API server that answers so to whoever lists, and fails whoever watches.
    fn watch(listed: (u16, Value)) -> BoxStream<'static, watcher::Result<Event<Decoded<Node>>>> {
        let client =
            stub::client(move |asked| if asked.contains("watch=true") { refusal(500) } else { listed.clone() });
        anew(Api::all(client), watcher::Config::default(), waits()).boxed()
    }

    #[tokio::test]
    async fn a_list_that_always_fails_is_asked_for_less_and_less_often() {
        let begun = Instant::now();
        let events: Vec<_> = watch(refusal(500)).take(6).collect().await;
        assert!(events.iter().all(Result::is_err), "nothing was seen: {events:?}");
        assert!(begun.elapsed() >= Duration::from_millis(5 + 10 + 20 + 20 + 20), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_list_without_a_watch_behind_it_does_not_begin_the_waits_anew() {
        let begun = Instant::now();
        let events: Vec<_> = watch(stub::list("Node", &json!([]))).take(3 * 6).collect().await;
        for round in events.chunks(3) {
            assert!(matches!(round, [Ok(Event::Init), Ok(Event::InitDone), Err(_)]), "{round:?}");
        }
        assert!(begun.elapsed() >= Duration::from_millis(5 + 10 + 20 + 20 + 20), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_watch_that_held_begins_the_waits_anew() {
        let mut waits = Waits::new(waits());
        let waited = [None, None, Some(Duration::ZERO), None, Some(HELD), None]
            .map(|held| waits.after(held).map(|wait| wait.as_millis()));
        assert_eq!(waited, [5, 10, 20, 20, 5, 10].map(Some));
    }
}
