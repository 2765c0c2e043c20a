//! What the Envoys of this manager hold at present, so that a new leader can be told everything. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use nave_xds::files::Files;
use nave_xds::report::{Event, Held, Refusal, Report};
use nave_xds::resource::{Key, Version};

/// All open streams.
#[derive(Debug, Default)]
pub(super) struct Present {
    streams: BTreeMap<u64, Stream>,
}

#[derive(Debug)]
struct Stream {
    fleet: Arc<str>,
    node: Arc<str>,
    everything: bool,
    files: Option<Files>,
    held: BTreeMap<Key, Version>,
    refused: BTreeMap<Key, Refusal>,
}

impl Present {
    /// Takes a report in.
    pub(super) fn note(&mut self, report: &Report) {
        let Report { fleet, node, stream, event } = report;
        if let Event::Disconnected = event {
            self.streams.remove(stream);
            return;
        }
        let state = self.streams.entry(*stream).or_insert_with(|| Stream {
            fleet: Arc::clone(fleet),
            node: Arc::clone(node),
            everything: false,
            files: None,
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
        });
        match event {
            Event::Connected | Event::Disconnected => {}
            Event::Wants { everything } => state.everything = *everything,
            Event::Described(files) => state.files = Some(*files),
            Event::Accepted(all) => {
                for Held { kind, name, version } in all {
                    let key = (*kind, Arc::clone(name));
                    state.refused.remove(&key);
                    state.held.insert(key, *version);
                }
            }
            Event::Removed(keys) => {
                for key in keys {
                    state.held.remove(key);
                    state.refused.remove(key);
                }
            }
            Event::Refused(refusal) => {
                let Held { kind, name, version: _ } = &refusal.held;
                state.refused.insert((*kind, Arc::clone(name)), refusal.clone());
            }
        }
    }

    /// Everything, as reports.
    pub(super) fn reports(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        for (stream, Stream { fleet, node, everything, files, held, refused }) in &self.streams {
            let report = |event| Report { fleet: Arc::clone(fleet), node: Arc::clone(node), stream: *stream, event };
            reports.push(report(Event::Connected));
            if *everything {
                reports.push(report(Event::Wants { everything: true }));
            }
            reports.extend(files.map(|files| report(Event::Described(files))));
            let held = held.iter().map(|((kind, name), version)| Held {
                kind: *kind,
                name: Arc::clone(name),
                version: *version,
            });
            let held: Vec<Held> = held.collect();
            if !held.is_empty() {
                reports.push(report(Event::Accepted(held)));
            }
            reports.extend(refused.values().map(|refusal| report(Event::Refused(refusal.clone()))));
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_xds::resource::ResourceType;

    #[test]
    fn what_is_told_anew_is_what_is_held_now() {
        let held = |name: &str, content: &[u8]| Held {
            kind: ResourceType::Cluster,
            name: name.into(),
            version: Version::of(content),
        };
        let report = |stream, event| Report { fleet: "default".into(), node: "edge-1".into(), stream, event };
        let mut present = Present::default();
        for report in [
            report(1, Event::Connected),
            report(1, Event::Wants { everything: true }),
            report(1, Event::Described(Files::of(4096, 1))),
            report(1, Event::Described(Files::of(20_000, 2))),
            report(1, Event::Accepted(vec![held("a", b"1"), held("b", b"1")])),
            report(1, Event::Accepted(vec![held("a", b"2")])),
            report(1, Event::Removed(vec![(ResourceType::Cluster, "b".into())])),
            report(2, Event::Connected),
            report(2, Event::Disconnected),
        ] {
            present.note(&report);
        }
        let described = report(1, Event::Described(Files::of(20_000, 2)));
        let wants = report(1, Event::Wants { everything: true });
        let holds = report(1, Event::Accepted(vec![held("a", b"2")]));
        assert_eq!(present.reports(), [report(1, Event::Connected), wants, described, holds]);
    }
}
