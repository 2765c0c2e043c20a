//! Plays a transcript against the state machine of a dialect. Knows the transcripts' grammar; time is what they say.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use nave_xds::catalog::{Catalog, Change, Keep};
use nave_xds::protocol::{Patience, Quarantine, delta, sotw};
use nave_xds::report::Event;
use nave_xds::resource::{Resource, ResourceType, Version};

/// One line of the client, taken apart.
#[derive(Default)]
pub struct Said {
    pub subscribe: Vec<String>,
    pub unsubscribe: Vec<String>,
    pub names: Vec<String>,
    pub holds: Vec<(String, String)>,
    pub version: String,
    pub nonce: String,
    pub error: Option<String>,
}

/// One response: its resources, the names it removes, its nonce and the version of the whole.
pub struct Told {
    pub kind: ResourceType,
    pub resources: Vec<Resource>,
    pub removed: Vec<Arc<str>>,
    pub nonce: String,
    pub version: Option<String>,
}

pub trait Dialect {
    fn begin(catalog: &Catalog) -> Self;
    fn hear(&mut self, kind: ResourceType, said: Said, catalog: &Catalog, refused: &mut Quarantine) -> Vec<Event>;
    fn change(&mut self, catalog: &Catalog, refused: &mut Quarantine);
    fn tell(&mut self, catalog: &Catalog, refused: &Quarantine, now: Duration) -> (Vec<Told>, Vec<Event>);
}

pub struct Delta(delta::Delta);

impl Dialect for Delta {
    fn begin(catalog: &Catalog) -> Self {
        Self(delta::Delta::new(Patience::default(), catalog))
    }

    fn hear(&mut self, kind: ResourceType, said: Said, catalog: &Catalog, refused: &mut Quarantine) -> Vec<Event> {
        let Said { subscribe, unsubscribe, names: _, holds, version: _, nonce, error } = said;
        let initial = holds.into_iter().map(|(name, content)| (name, Version::of(content.as_bytes()))).collect();
        let request = delta::Request { kind, subscribe, unsubscribe, initial, nonce, error, files: None };
        self.0.on_request(request, catalog, refused)
    }

    fn change(&mut self, catalog: &Catalog, refused: &mut Quarantine) {
        self.0.on_change(catalog, refused);
    }

    fn tell(&mut self, catalog: &Catalog, refused: &Quarantine, now: Duration) -> (Vec<Told>, Vec<Event>) {
        let (responses, events) = self.0.responses(catalog, refused, now);
        let told = responses.into_iter().map(|delta::Response { kind, resources, removed, nonce }| Told {
            kind,
            resources,
            removed,
            nonce,
            version: None,
        });
        (told.collect(), events)
    }
}

pub struct Sotw(sotw::Sotw);

impl Dialect for Sotw {
    fn begin(catalog: &Catalog) -> Self {
        Self(sotw::Sotw::new(Patience::default(), catalog))
    }

    fn hear(&mut self, kind: ResourceType, said: Said, catalog: &Catalog, refused: &mut Quarantine) -> Vec<Event> {
        let Said { subscribe: _, unsubscribe: _, names, holds: _, version, nonce, error } = said;
        self.0.on_request(sotw::Request { kind, names, version, nonce, error, files: None }, catalog, refused)
    }

    fn change(&mut self, catalog: &Catalog, refused: &mut Quarantine) {
        self.0.on_change(catalog, refused);
    }

    fn tell(&mut self, catalog: &Catalog, refused: &Quarantine, now: Duration) -> (Vec<Told>, Vec<Event>) {
        let (responses, events) = self.0.responses(catalog, refused, now);
        let told = responses.into_iter().map(|sotw::Response { kind, resources, version, nonce }| Told {
            kind,
            resources,
            removed: Vec::new(),
            nonce,
            version: Some(version),
        });
        (told.collect(), events)
    }
}

/// Plays the lines of a transcript that are not answers, and returns it with the answers that came.
pub fn converse<D: Dialect>(transcript: &str) -> String {
    let mut stage = Stage::<D>::new();
    let mut played = String::new();
    for line in transcript.lines().filter(|line| !line.starts_with("    ")) {
        writeln!(played, "{line}").expect("writes");
        if !line.is_empty() && !line.starts_with('#') {
            played.push_str(&stage.play(line));
        }
    }
    played
}

struct Stage<D> {
    catalog: Catalog,
    refused: Quarantine,
    stream: D,
    now: Duration,
    contents: BTreeMap<Version, String>,
}

impl<D: Dialect> Stage<D> {
    fn new() -> Self {
        let catalog = Catalog::default();
        let stream = D::begin(&catalog);
        let (refused, contents) = (Quarantine::default(), BTreeMap::new());
        Self { catalog, refused, stream, now: Duration::ZERO, contents }
    }

    fn play(&mut self, line: &str) -> String {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut events = Vec::new();
        match command {
            "change" => self.change(rest),
            "keep" => self.keep(rest),
            "client" => {
                let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                events = self.stream.hear(kind_named(kind), said(rest), &self.catalog, &mut self.refused);
            }
            "wait" => {
                self.now += Duration::from_millis(match rest.strip_suffix("ms") {
                    Some(millis) => millis.parse().expect("a number"),
                    None => 1000 * rest.trim_end_matches('s').parse::<u64>().expect("a number"),
                });
            }
            "reconnect" => {
                self.stream = D::begin(&self.catalog);
                self.now = Duration::ZERO;
            }
            other => panic!("no such command: {other}"),
        }
        let (told, more) = self.stream.tell(&self.catalog, &self.refused, self.now);
        let heard = events.iter().map(|event| self.report(event));
        let told = told.iter().map(|told| self.show(told));
        heard.chain(told).chain(more.iter().map(|event| self.report(event))).collect()
    }

    fn change(&mut self, line: &str) {
        let mut change = Change::default();
        for part in line.split(';') {
            match part.split_whitespace().collect::<Vec<_>>()[..] {
                ["drop", kind, name] => change.remove.push((kind_named(kind), name.into())),
                ["put", kind, name, content, ref rest @ ..] => {
                    let clusters = rest.iter().skip(1).map(|cluster| Arc::from(*cluster));
                    let resource = Resource::new(kind_named(kind), name, content.as_bytes()).leading_to(clusters);
                    self.contents.insert(resource.version(), content.to_owned());
                    change.upsert.push(resource);
                }
                _ => panic!("no such change: {part}"),
            }
        }
        self.catalog.apply(change);
        self.stream.change(&self.catalog, &mut self.refused);
    }

    /// What clients keep from now on, and nothing else: types and names, by turns. A name with a final `*` is a prefix.
    fn keep(&mut self, line: &str) {
        let mut keep = Keep::default();
        let words: Vec<&str> = line.split_whitespace().collect();
        for word in words.chunks(2) {
            let [kind, name] = word else { panic!("a type without a name: {line}") };
            let (name, names) = match name.strip_suffix('*') {
                Some(prefix) => (prefix, &mut keep.prefixes),
                None => (*name, &mut keep.names),
            };
            names.insert((kind_named(kind), name.into()));
        }
        self.catalog.keep(keep);
        self.stream.change(&self.catalog, &mut self.refused);
    }

    fn show(&self, told: &Told) -> String {
        let Told { kind, resources, removed, nonce, version } = told;
        let mut line = format!("    server {kind}");
        for resource in resources {
            let content = self.content(resource.version());
            write!(line, " {}={content}", resource.name()).expect("writes");
        }
        for name in removed {
            write!(line, " -{name}").expect("writes");
        }
        if let Some(version) = version {
            write!(line, " version {version}").expect("writes");
        }
        line + &format!(" nonce {nonce}\n")
    }

    fn report(&self, event: &Event) -> String {
        let lines: Vec<_> = match event {
            Event::Accepted(held) => held
                .iter()
                .map(|held| format!("    accepted {} {}={}\n", held.kind, held.name, self.content(held.version)))
                .collect(),
            Event::Removed(keys) => keys.iter().map(|(kind, name)| format!("    removed {kind} {name}\n")).collect(),
            Event::Refused(refusal) => {
                let held = &refusal.held;
                let content = self.content(held.version);
                vec![format!("    refused {} {}={content}: {}\n", held.kind, held.name, refusal.message)]
            }
            Event::Connected | Event::Disconnected | Event::Wants { .. } | Event::Described(_) => {
                unreachable!("the server says that, not the dialect")
            }
        };
        lines.concat()
    }

    fn content(&self, version: Version) -> &str {
        self.contents.get(&version).map_or("?", String::as_str)
    }
}

fn kind_named(name: &str) -> ResourceType {
    ResourceType::ALL
        .into_iter()
        .find(|kind| kind.to_string() == name)
        .unwrap_or_else(|| panic!("no such type: {name}"))
}

fn said(line: &str) -> Said {
    let mut said = Said::default();
    let mut verb = "";
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        match (word, verb) {
            ("subscribe" | "unsubscribe" | "holds" | "names" | "ack" | "at", _) => verb = word,
            ("nack", _) => {
                said.nonce = words.next().expect("a nonce").to_owned();
                said.error = Some(words.by_ref().collect::<Vec<_>>().join(" "));
            }
            (name, "subscribe") => said.subscribe.push(name.to_owned()),
            (name, "unsubscribe") => said.unsubscribe.push(name.to_owned()),
            (name, "names") => said.names.push(name.to_owned()),
            (nonce, "ack") => nonce.clone_into(&mut said.nonce),
            (version, "at") => version.clone_into(&mut said.version),
            (held, "holds") => {
                let (name, content) = held.split_once('=').expect("name=content");
                said.holds.push((name.to_owned(), content.to_owned()));
            }
            (other, _) => panic!("no such word: {other}"),
        }
    }
    said
}
