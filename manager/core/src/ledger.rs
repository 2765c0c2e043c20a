//! Which Envoy holds what: the latest word of every stream. Knows resources by name and version; knows no load balancer, and not
//! which Envoys count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nave_xds::files::Files;
use nave_xds::report::{Event, Held, Refusal, Report};
use nave_xds::resource::{Key as ResourceKey, Resource, Version};

use crate::waits::Envoy;

/// Resources that are kept of one stream. What an Envoy holds beyond is not known, and counts as not held.
const HELD: usize = 500_000;

/// What the Envoys of all fleets said.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    fleets: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Node>>,
    /// Envoys that acknowledged something new since these were taken.
    heard: BTreeSet<Envoy>,
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
    /// Whether it asks for all that its fleet serves.
    everything: bool,
    held: BTreeMap<ResourceKey, Version>,
    refused: BTreeMap<ResourceKey, (Version, Arc<str>)>,
}

/// What a report changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// What is known of these resources.
    Resources(Vec<ResourceKey>),
    /// Who is connected and asks for everything.
    Nodes,
}

/// How one connected Envoy takes some resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It holds exactly these.
    Holds,
    /// It does not yet.
    Lacks,
    /// It refuses one of them, in its words. It may have held the same content before.
    Refuses { words: Arc<str>, held_before: bool },
}

/// What is known of one Envoy that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub connected: bool,
    pub everything: bool,
    pub refused: usize,
}

impl Ledger {
    /// Takes a report in, at the cost of what it names.
    pub fn note(&mut self, report: Report) -> Touched {
        let Report { fleet, node, stream: number, event } = report;
        let acknowledges = matches!(event, Event::Accepted(_) | Event::Removed(_));
        let nodes = self.fleets.entry(Arc::clone(&fleet)).or_default();
        if let Event::Disconnected = event {
            if let Some(known) = nodes.get_mut(&node) {
                known.streams.retain(|stream| stream.number != number);
            }
            return Touched::Nodes;
        }
        let Node { streams, files } = nodes.entry(Arc::clone(&node)).or_default();
        if let Event::Described(said) = event {
            *files = Some(said);
            return Touched::Nodes;
        }
        let known = streams.iter().position(|stream| stream.number == number);
        let i = known.unwrap_or_else(|| {
            let (held, refused) = (BTreeMap::new(), BTreeMap::new());
            streams.push(Stream { number, everything: false, held, refused });
            streams.len() - 1
        });
        let keys = streams[i].take(event);
        if acknowledges && keys.as_ref().is_some_and(|keys| !keys.is_empty()) {
            self.heard.insert((fleet, node));
        }
        match keys {
            Some(keys) if known.is_some() => Touched::Resources(keys),
            Some(_) | None => Touched::Nodes,
        }
    }

    /// The Envoys that acknowledged something new since the last call.
    pub fn take_heard(&mut self) -> BTreeSet<Envoy> {
        std::mem::take(&mut self.heard)
    }

    /// How the fleet's connected Envoys that ask for everything take these resources.
    pub fn takes<'a>(&'a self, fleet: &str, resources: &'a [Resource]) -> impl Iterator<Item = (&'a Arc<str>, Taken)> {
        let nodes = self.fleets.get(fleet).into_iter().flatten();
        let speaking = nodes.filter_map(|(name, node)| Some((name, node.streams.last()?)));
        speaking.filter(|(_, stream)| stream.everything).map(|(name, stream)| (name, stream.takes(resources)))
    }

    /// The nodes that were heard.
    pub fn nodes(&self, fleet: &str) -> impl Iterator<Item = (&Arc<str>, Presence)> {
        self.fleets.get(fleet).into_iter().flatten().map(|(name, node)| {
            let latest = node.streams.last();
            let everything = latest.is_some_and(|stream| stream.everything);
            let refused = latest.map_or(0, |stream| stream.refused.len());
            (name, Presence { connected: latest.is_some(), everything, refused })
        })
    }

    /// The fleets of Envoys that were heard.
    pub fn fleets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.fleets.keys()
    }

    /// Forgets those that are not connected, but for these nodes.
    pub fn forget_absent(&mut self, fleet: &str, kept: &BTreeSet<Arc<str>>) {
        if let Some(nodes) = self.fleets.get_mut(fleet) {
            nodes.retain(|name, node| !node.streams.is_empty() || kept.contains(name));
        }
    }

    /// What the nodes that were heard in this life may open, as far as they say.
    pub fn files(&self, fleet: &str) -> impl Iterator<Item = (&Arc<str>, Option<Files>)> {
        self.fleets.get(fleet).into_iter().flatten().map(|(name, node)| (name, node.files))
    }
}

impl Stream {
    /// The resources that are seen differently now; nothing where the event is about the stream itself.
    fn take(&mut self, event: Event) -> Option<Vec<ResourceKey>> {
        match event {
            Event::Connected | Event::Disconnected | Event::Described(_) => None,
            Event::Wants { everything } => {
                self.everything = everything;
                None
            }
            Event::Accepted(all) => Some(all.into_iter().filter_map(|held| self.accept(held)).collect()),
            Event::Removed(keys) => {
                let Self { held, refused, .. } = self;
                let is_news = |key: &ResourceKey| held.remove(key).is_some() | refused.remove(key).is_some();
                Some(keys.into_iter().filter(is_news).collect())
            }
            Event::Refused(Refusal { held: Held { kind, name, version }, message }) => {
                let key = (kind, name);
                if self.refused.len() < HELD || self.refused.contains_key(&key) {
                    self.refused.insert(key.clone(), (version, message));
                }
                Some(vec![key])
            }
        }
    }

    /// The resource, where it is news that this version of it is held.
    fn accept(&mut self, held: Held) -> Option<ResourceKey> {
        let Held { kind, name, version } = held;
        let key = (kind, name);
        let was_refused = self.refused.remove(&key).is_some();
        if self.held.len() >= HELD && !self.held.contains_key(&key) {
            return None;
        }
        (self.held.insert(key.clone(), version) != Some(version) || was_refused).then_some(key)
    }

    fn takes(&self, resources: &[Resource]) -> Taken {
        let holds = |resource: &Resource| self.held.get(&resource.key()) == Some(&resource.version());
        if let Some((resource, words)) = resources.iter().find_map(|resource| Some((resource, self.refusal(resource)?)))
        {
            return Taken::Refuses { words: Arc::clone(words), held_before: holds(resource) };
        }
        if resources.iter().all(holds) { Taken::Holds } else { Taken::Lacks }
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

    /// An Envoy comes and asks for everything.
    fn comes(node: &str, stream: u64) -> [Report; 2] {
        [report(node, stream, Event::Connected), report(node, stream, Event::Wants { everything: true })]
    }

    fn resource() -> Resource {
        Resource::new(ResourceType::Listener, "tcp/192.0.2.1/80", b"one")
    }

    fn held() -> Held {
        Held { kind: ResourceType::Listener, name: "tcp/192.0.2.1/80".into(), version: resource().version() }
    }

    fn ledger(reports: impl IntoIterator<Item = Report>) -> Ledger {
        let mut ledger = Ledger::default();
        for report in reports {
            ledger.note(report);
        }
        ledger
    }

    fn taken(reports: impl IntoIterator<Item = Report>) -> Vec<(String, Taken)> {
        let ledger = ledger(reports);
        let resources = [resource()];
        ledger.takes("default", &resources).map(|(node, taken)| (node.to_string(), taken)).collect()
    }

    #[test]
    fn every_connected_envoy_that_asks_for_everything_holds_or_lacks_a_resource() {
        let accepted = report("a", 1, Event::Accepted(vec![held()]));
        let half = [report("c", 3, Event::Connected), report("c", 3, Event::Accepted(vec![held()]))];
        let reports: Vec<Report> =
            comes("a", 1).into_iter().chain([accepted]).chain(comes("b", 2)).chain(half).collect();
        assert_eq!(taken(reports.clone()), [("a".into(), Taken::Holds), ("b".into(), Taken::Lacks)]);
        let left = reports.into_iter().chain([report("b", 2, Event::Disconnected)]);
        assert_eq!(taken(left), [("a".into(), Taken::Holds)]);
    }

    #[test]
    fn the_end_of_an_old_stream_does_not_undo_the_new_one() {
        let accepted = report("a", 2, Event::Accepted(vec![held()]));
        let reports = comes("a", 1).into_iter().chain(comes("a", 2));
        let reports = reports.chain([accepted, report("a", 1, Event::Disconnected)]);
        assert_eq!(taken(reports), [("a".into(), Taken::Holds)]);
    }

    #[test]
    fn a_refusal_counts_until_the_content_changes_or_is_accepted() {
        let refusal = |held: Held| report("a", 1, Event::Refused(Refusal { held, message: "cannot bind".into() }));
        let other = Held { version: Version::of(b"other"), ..held() };
        let after = |more: Vec<Report>| taken(comes("a", 1).into_iter().chain(more)).remove(0).1;
        let refuses = |held_before| Taken::Refuses { words: "cannot bind".into(), held_before };
        assert_eq!(after(vec![refusal(held())]), refuses(false));
        assert_eq!(after(vec![report("a", 1, Event::Accepted(vec![held()])), refusal(held())]), refuses(true));
        assert_eq!(after(vec![refusal(other)]), Taken::Lacks);
        assert_eq!(after(vec![refusal(held()), report("a", 1, Event::Accepted(vec![held()]))]), Taken::Holds);
    }

    #[test]
    fn what_is_acknowledged_again_touches_nothing() {
        let accepted = || report("a", 1, Event::Accepted(vec![held()]));
        let mut ledger = ledger(comes("a", 1));
        let key = (ResourceType::Listener, "tcp/192.0.2.1/80".into());
        assert_eq!(ledger.note(accepted()), Touched::Resources(vec![key]));
        assert_eq!(ledger.take_heard().len(), 1);
        assert_eq!(ledger.note(accepted()), Touched::Resources(Vec::new()));
        assert_eq!(ledger.take_heard().len(), 0);
    }
}
