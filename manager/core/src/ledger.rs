//! Which Envoy holds what: the latest word of every stream. Knows resources by name and version; knows no load balancer.

use std::collections::BTreeMap;
use std::sync::Arc;

use nave_xds::files::Files;
use nave_xds::report::{Event, Held, Refusal, Report};
use nave_xds::resource::{Key as ResourceKey, Resource, Version};

/// What the Envoys of all fleets said.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    fleets: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Node>>,
}

/// One Envoy. It may have a new stream before the old one is known to be dead: the newest that lives speaks for it.
#[derive(Debug, Default)]
struct Node {
    streams: Vec<Stream>,
    /// What it may open, as it said last.
    files: Option<Files>,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    held: BTreeMap<ResourceKey, Version>,
    refused: BTreeMap<ResourceKey, (Version, Arc<str>)>,
}

/// What a report changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// What is known of these resources.
    Resources(Vec<ResourceKey>),
    /// Who is connected.
    Nodes,
}

/// How the Envoys of a fleet take some resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// All connected Envoys hold exactly these.
    Held,
    /// Somebody does not yet.
    Awaited,
    /// Nobody is connected.
    NoEnvoy,
    /// An Envoy refuses one of them, in its words.
    Refused { node: Arc<str>, message: Arc<str> },
}

impl Ledger {
    /// Takes a report in, at the cost of what it names.
    pub fn note(&mut self, report: Report) -> Touched {
        let Report { fleet, node, stream: number, event } = report;
        let nodes = self.fleets.entry(fleet).or_default();
        if let Event::Disconnected = event {
            if let Some(known) = nodes.get_mut(&node) {
                known.streams.retain(|stream| stream.number != number);
            }
            return Touched::Nodes;
        }
        let Node { streams, files } = nodes.entry(node).or_default();
        if let Event::Described(said) = event {
            *files = Some(said);
            return Touched::Nodes;
        }
        let known = streams.iter().position(|stream| stream.number == number);
        let i = known.unwrap_or_else(|| {
            streams.push(Stream { number, held: BTreeMap::new(), refused: BTreeMap::new() });
            streams.len() - 1
        });
        match streams[i].take(event) {
            Some(keys) if known.is_some() => Touched::Resources(keys),
            Some(_) | None => Touched::Nodes,
        }
    }

    /// How the fleet's connected Envoys take these resources.
    pub fn standing(&self, fleet: &str, resources: &[Resource]) -> Standing {
        let mut standing = Standing::NoEnvoy;
        for (name, stream) in self.connected(fleet) {
            if let Some(message) = resources.iter().find_map(|resource| stream.refusal(resource)) {
                return Standing::Refused { node: Arc::clone(name), message: Arc::clone(message) };
            }
            let holds = resources.iter().all(|resource| stream.held.get(&resource.key()) == Some(&resource.version()));
            standing = match standing {
                Standing::NoEnvoy | Standing::Held if holds => Standing::Held,
                Standing::NoEnvoy | Standing::Held | Standing::Awaited | Standing::Refused { .. } => Standing::Awaited,
            };
        }
        standing
    }

    /// The nodes that were heard in this life: whether they are connected, and how much they refuse.
    pub fn nodes(&self, fleet: &str) -> impl Iterator<Item = (&Arc<str>, bool, usize)> {
        self.fleets.get(fleet).into_iter().flatten().map(|(name, node)| {
            let latest = node.streams.last();
            (name, latest.is_some(), latest.map_or(0, |stream| stream.refused.len()))
        })
    }

    /// What the nodes that were heard in this life may open, as far as they say.
    pub fn files(&self, fleet: &str) -> impl Iterator<Item = (&Arc<str>, Option<Files>)> {
        self.fleets.get(fleet).into_iter().flatten().map(|(name, node)| (name, node.files))
    }

    fn connected(&self, fleet: &str) -> impl Iterator<Item = (&Arc<str>, &Stream)> {
        let nodes = self.fleets.get(fleet).into_iter().flatten();
        nodes.filter_map(|(name, node)| node.streams.last().map(|stream| (name, stream)))
    }
}

impl Stream {
    /// The resources that are seen differently now; nothing where the event is about the stream itself.
    fn take(&mut self, event: Event) -> Option<Vec<ResourceKey>> {
        match event {
            Event::Connected | Event::Disconnected | Event::Described(_) => None,
            Event::Accepted(all) => {
                let keys = all.into_iter().map(|Held { kind, name, version }| {
                    let key = (kind, name);
                    self.refused.remove(&key);
                    self.held.insert(key.clone(), version);
                    key
                });
                Some(keys.collect())
            }
            Event::Removed(keys) => {
                for key in &keys {
                    self.held.remove(key);
                    self.refused.remove(key);
                }
                Some(keys)
            }
            Event::Refused(Refusal { held: Held { kind, name, version }, message }) => {
                self.refused.insert((kind, Arc::clone(&name)), (version, message));
                Some(vec![(kind, name)])
            }
        }
    }

    fn refusal(&self, resource: &Resource) -> Option<&Arc<str>> {
        let (version, message) = self.refused.get(&resource.key())?;
        (*version == resource.version()).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_xds::resource::ResourceType;

    fn report(node: &str, stream: u64, event: Event) -> Report {
        Report { fleet: "default".into(), node: node.into(), stream, event }
    }

    fn resource() -> Resource {
        Resource::new(ResourceType::Listener, "tcp/192.0.2.1/80", b"one")
    }

    fn held() -> Held {
        Held { kind: ResourceType::Listener, name: "tcp/192.0.2.1/80".into(), version: resource().version() }
    }

    fn standing(reports: Vec<Report>) -> Standing {
        let mut ledger = Ledger::default();
        for report in reports {
            ledger.note(report);
        }
        ledger.standing("default", &[resource()])
    }

    #[test]
    fn a_resource_is_held_when_every_connected_envoy_holds_it() {
        let first = || vec![report("a", 1, Event::Connected), report("a", 1, Event::Accepted(vec![held()]))];
        let mut both = first();
        both.push(report("b", 2, Event::Connected));
        let mut left = both.clone();
        left.push(report("b", 2, Event::Disconnected));
        assert_eq!(standing(Vec::new()), Standing::NoEnvoy);
        assert_eq!(standing(first()), Standing::Held);
        assert_eq!(standing(both), Standing::Awaited);
        assert_eq!(standing(left), Standing::Held);
    }

    #[test]
    fn the_end_of_an_old_stream_does_not_undo_the_new_one() {
        let reports = vec![
            report("a", 1, Event::Connected),
            report("a", 2, Event::Connected),
            report("a", 2, Event::Accepted(vec![held()])),
            report("a", 1, Event::Disconnected),
        ];
        assert_eq!(standing(reports), Standing::Held);
    }

    #[test]
    fn a_refusal_counts_until_the_content_changes_or_is_accepted() {
        let refusal = |held: Held| Event::Refused(Refusal { held, message: "cannot bind".into() });
        let other = Held { version: Version::of(b"other"), ..held() };
        let connected = report("a", 1, Event::Connected);
        let refused = Standing::Refused { node: "a".into(), message: "cannot bind".into() };
        assert_eq!(standing(vec![connected.clone(), report("a", 1, refusal(held()))]), refused);
        assert_eq!(standing(vec![connected.clone(), report("a", 1, refusal(other))]), Standing::Awaited);
        let accepted = report("a", 1, Event::Accepted(vec![held()]));
        assert_eq!(standing(vec![connected, report("a", 1, refusal(held())), accepted]), Standing::Held);
    }
}
