//! An API server that holds one object and its neighbours, and the watch that the programs use. Knows the protocol; knows no kind.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::StreamExt as _;
use http::{Request, Response};
use kube::client::Body;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource as _};
use nave_watch::{Decoded, anew};

use super::Sent;
use super::kinds::Readable;

/// The name of the objects beside the one that matters.
pub const NEIGHBOUR: &str = "neighbour-of-the-object";
/// The beginning and the end of the list, its three objects, and four events behind it.
const EVENTS: usize = 9;
/// A watch that shows nothing for so long has stalled. The fuzzer has its own limit, of two seconds.
const STALLED: Duration = Duration::from_mins(1);

/// What a program saw of an object.
pub struct Seen<K> {
    /// Of its watch: a list of three with the object in the middle, an event of a neighbour, the object's change and end, and
    /// an event of a neighbour.
    pub events: Vec<Event<Decoded<K>>>,
    /// The answer to a GET of the object.
    pub answer: Decoded<K>,
}

/// Whether it is an object that the server has beside.
pub fn is_neighbour<K: Readable>(object: &Decoded<K>) -> bool {
    object.meta().name.as_deref() == Some(NEIGHBOUR)
}

/// Lists, watches and gets the object as the programs do.
pub fn watch<K: Readable>(sent: &Sent) -> Seen<K> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let look = async {
        let api: Api<Decoded<K>> = Api::all(client(sent));
        let events = anew(api.clone(), watcher::Config::default(), ExponentialBuilder::default()).take(EVENTS);
        (events.collect::<Vec<_>>().await, api.get("it").await)
    };
    let seen = runtime.block_on(async { tokio::time::timeout(STALLED, look).await });
    let (events, answer) = seen.unwrap_or_else(|_| panic!("the watch has stalled at {}", sent.text));
    let whole = |event| match event {
        Ok(event) => event,
        Err(error) => panic!("the watch ended with {error:?} at {}", sent.text),
    };
    let events: Vec<_> = events.into_iter().map(whole).collect();
    let neighbours = events.iter().filter_map(|event| match event {
        Event::InitApply(object) | Event::Apply(object) => is_neighbour(object).then_some(object),
        Event::Init | Event::InitDone | Event::Delete(_) => None,
    });
    assert_eq!(
        neighbours.filter(|object| matches!(object, Decoded::Object(_))).count(),
        4,
        "the neighbours of {}",
        sent.text
    );
    Seen { events, answer: answer.unwrap_or_else(|error| panic!("a GET failed with {error:?} at {}", sent.text)) }
}

fn client(sent: &Sent) -> Client {
    let (text, neighbour) = (&sent.text, &sent.neighbour);
    let list = format!(
        r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"7"}},"items":[{neighbour},{text},{neighbour}]}}"#
    );
    let events = [("ADDED", neighbour), ("MODIFIED", text), ("DELETED", text), ("ADDED", neighbour)];
    let lines = events.map(|(kind, object)| format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")).concat();
    let (list, lines, text): (Arc<str>, Arc<str>, Arc<str>) = (list.into(), lines.into(), text.as_str().into());
    let service = tower::service_fn(move |request: Request<Body>| {
        let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
        let body = if asked.contains("watch=true") {
            &lines
        } else if asked.split('?').next().is_some_and(|path| path.ends_with("/it")) {
            &text
        } else {
            &list
        };
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::from(body.as_bytes().to_vec()))))
    });
    Client::new(service, "default")
}
