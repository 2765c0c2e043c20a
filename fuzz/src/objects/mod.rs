//! Objects as API servers send them: whole JSON of every kind that the programs watch or read. Knows what a watch must make of
//! them; knows no program and no cluster.
//!
//! The first byte of an input chooses the kind: `a` is the first of [`kinds`]. What follows is the object itself, where it begins
//! with a brace. Anything else is dice, with which an object is made from the kind's own schema.

mod agent;
mod dice;
mod kinds;
mod make;
mod manager;
mod server;

use kube::Resource as _;
use kube::runtime::watcher::Event;
use nave_watch::{Decoded, Unreadables};
use serde_json::Value;

use dice::Dice;
use kinds::{KINDS, Kind, Readable};

/// The longest explanation of an object that cannot be read, in characters.
const LONGEST: usize = 256;
/// What is shown of a Secret that cannot be read.
const OF_A_SECRET: &str = "its fields are not those of a Secret";

/// An object as it is sent, and what a watch must know of it whatever else it holds.
pub struct Sent {
    /// One line of JSON.
    text: String,
    /// Its name, where it has one, and so on.
    name: Option<String>,
    namespace: Option<String>,
    version: Option<String>,
    /// Whether it has a deletion timestamp, whatever its value.
    is_ending: bool,
    /// A plain object of the same kind, named as [`server::is_neighbour`] knows it.
    neighbour: String,
}

/// Any object ends no watch and no list, loses neither its key nor its version, and is decided on without a panic.
pub fn hold(input: &[u8]) {
    is_readable(input);
}

/// The same, and whether the object could be read; nothing where the input is no object.
pub fn is_readable(input: &[u8]) -> Option<bool> {
    let [first, rest @ ..] = input else { return None };
    let kind = &KINDS[usize::from(first.wrapping_sub(b'a')) % KINDS.len()];
    let sent =
        if rest.first() == Some(&b'{') { verbatim(kind, rest) } else { Some(make::object(kind, Dice::new(rest))) };
    sent.map(|sent| (kind.hold)(&sent))
}

/// The names of the kinds, in the order of their letters.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}

/// What the input says, where that is JSON as an API server can write it: one line, numbers that it can hold, and an object that was stored.
fn verbatim(kind: &Kind, input: &[u8]) -> Option<Sent> {
    let text = super::text(input)?.replace(['\n', '\r'], " ");
    let object: Value = serde_json::from_str(&text).ok()?;
    let metadata = &object["metadata"];
    let field = |name: &str| metadata[name].as_str().map(str::to_owned);
    let (name, namespace, version) = (field("name"), field("namespace"), field("resourceVersion"));
    // Every API server gives an object both.
    if name.is_none() || version.as_ref().is_none_or(String::is_empty) {
        return None;
    }
    let (is_ending, neighbour) = (!metadata["deletionTimestamp"].is_null(), make::neighbour(kind));
    Some(Sent { text, name, namespace, version, is_ending, neighbour })
}

/// What holds of every kind.
fn hold_of<K: Readable>(sent: &Sent) -> Decoded<K> {
    let seen = server::watch::<K>(sent);
    let unreadables = Unreadables::default();
    for event in &seen.events {
        unreadables.note(event);
    }
    let mut shown = 0;
    for event in &seen.events {
        match event {
            Event::Init | Event::InitDone => {}
            Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) => {
                if !server::is_neighbour(object) {
                    same(object, sent);
                    shown += 1;
                }
            }
        }
    }
    assert_eq!(shown, 3, "the object is listed, changed and deleted: {}", sent.text);
    assert!(matches!(&seen.events[6], Event::Apply(object) if !server::is_neighbour(object)), "{}", sent.text);
    assert!(matches!(&seen.events[7], Event::Delete(object) if !server::is_neighbour(object)), "{}", sent.text);
    assert!(
        unreadables.counts().values().all(|count| *count == 0),
        "a deleted object counts as unreadable: {}",
        sent.text
    );
    same(&seen.answer, sent);
    if let Decoded::Object(object) = &seen.answer {
        let written = serde_json::to_string(object).expect("an object that was read is written");
        let again: Decoded<K> = serde_json::from_str(&written).expect("what is written is JSON");
        assert!(again.readable().is_some(), "{} is written as {written}", sent.text);
    }
    seen.answer
}

/// The object is the one that was sent: by its key and version, and in that it ends.
fn same<K: Readable>(object: &Decoded<K>, sent: &Sent) {
    let Sent { text, name, namespace, version, is_ending, neighbour: _ } = sent;
    let metadata = object.meta();
    assert_eq!((&metadata.name, &metadata.namespace), (name, namespace), "the key of {text}");
    assert_eq!(&metadata.resource_version, version, "the version of {text}");
    assert_eq!(metadata.deletion_timestamp.is_some(), *is_ending, "the end of {text}");
    if let Decoded::Unreadable(unreadable) = object {
        let why = &unreadable.why;
        assert!(!why.is_empty() && why.chars().count() <= LONGEST && !why.contains(char::is_control), "{why:?}");
        assert!(K::kind(&()) != "Secret" || why == OF_A_SECRET, "a Secret is shown: {why}");
    }
}
