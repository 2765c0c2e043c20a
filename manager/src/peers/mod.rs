//! What managers tell each other: a follower's Envoys are made known to the leader, who alone writes status. Knows the
//! messages; the two ends are next door.

mod follower;
mod leader;
mod open;
mod present;

use std::sync::Arc;

use nave_proto::fleet::envoy_report::Event as Wire;
use nave_proto::fleet::{self, EnvoyReport};
use nave_xds::files::Files;
use nave_xds::identity;
use nave_xds::report::{Event, Held, Refusal, Report};
use nave_xds::resource::{Key, ResourceType, Version};

pub(crate) use follower::{Relay, relay};
pub(crate) use leader::Leader;

/// Resources named in one message: far below what a message may weigh, however many an Envoy holds.
const AT_ONCE: usize = 1000;
/// The longest name of a resource, in bytes.
const NAME: usize = 512;

/// A report as it goes to the leader, in messages of a bounded size.
fn write(report: Report) -> Vec<EnvoyReport> {
    let Report { fleet, node, stream, event } = report;
    let message = |event| EnvoyReport { fleet: fleet.to_string(), node: node.to_string(), stream, event: Some(event) };
    match event {
        Event::Connected => vec![message(Wire::Connected(fleet::Connected {}))],
        Event::Wants { everything } => vec![message(Wire::Wants(fleet::Wants { everything }))],
        Event::Disconnected => vec![message(Wire::Disconnected(fleet::Disconnected {}))],
        Event::Described(Files { limit, workers, connections }) => {
            vec![message(Wire::Described(fleet::Described { limit, workers, connections }))]
        }
        Event::Accepted(held) => {
            let some = |held: &[Held]| fleet::Accepted { resources: held.iter().cloned().map(write_held).collect() };
            held.chunks(AT_ONCE).map(|held| message(Wire::Accepted(some(held)))).collect()
        }
        Event::Removed(keys) => {
            let some = |keys: &[Key]| fleet::Removed { resources: keys.iter().cloned().map(write_key).collect() };
            keys.chunks(AT_ONCE).map(|keys| message(Wire::Removed(some(keys)))).collect()
        }
        Event::Refused(Refusal { held, message: words }) => {
            let message_of = fleet::Refused { resource: Some(write_held(held)), message: words.to_string() };
            vec![message(Wire::Refused(message_of))]
        }
    }
}

fn write_held(held: Held) -> fleet::Held {
    let Held { kind, name, version } = held;
    fleet::Held { name: Some(write_key((kind, name))), version: version.to_string() }
}

fn write_key((kind, name): Key) -> fleet::Name {
    fleet::Name { type_url: kind.url().to_owned(), name: name.to_string() }
}

/// A report as the engine takes it; nothing when it is of a later version and says what we do not know, or names what cannot be.
fn read(report: EnvoyReport) -> Option<Report> {
    let EnvoyReport { fleet, node, stream, event } = report;
    let event = match event? {
        Wire::Connected(fleet::Connected {}) => Event::Connected,
        Wire::Wants(fleet::Wants { everything }) => Event::Wants { everything },
        Wire::Disconnected(fleet::Disconnected {}) => Event::Disconnected,
        // Read by `open::read`: it is no news of a stream.
        Wire::Open(fleet::Open { .. }) => return None,
        Wire::Described(fleet::Described { limit, workers, connections }) => {
            let files = Files::of(limit.into(), workers.into());
            Event::Described(files.with_connections(connections.into()))
        }
        Wire::Accepted(fleet::Accepted { resources }) => {
            Event::Accepted(resources.into_iter().filter_map(read_held).collect())
        }
        Wire::Removed(fleet::Removed { resources }) => {
            Event::Removed(resources.into_iter().filter_map(read_key).collect())
        }
        Wire::Refused(fleet::Refused { resource, message }) => {
            Event::Refused(Refusal { held: read_held(resource?)?, message: Refusal::words(&message) })
        }
    };
    let is_named = identity::is_name(&fleet) && identity::is_name(&node);
    is_named.then(|| Report { fleet: fleet.into(), node: node.into(), stream, event })
}

fn read_held(held: fleet::Held) -> Option<Held> {
    let fleet::Held { name, version } = held;
    let (kind, name) = read_key(name?)?;
    Some(Held { kind, name, version: Version::read(&version) })
}

fn read_key(name: fleet::Name) -> Option<Key> {
    let fleet::Name { type_url, name } = name;
    let name = (name.len() <= NAME).then_some(name)?;
    Some((ResourceType::from_url(&type_url)?, Arc::from(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_as_it_was_written() {
        let held = held("tcp/203.0.113.7/443");
        let events = [
            Event::Connected,
            Event::Wants { everything: true },
            Event::Disconnected,
            Event::Described(Files::of(20_000, 2).with_connections(17)),
            Event::Accepted(vec![held.clone()]),
            Event::Removed(vec![(ResourceType::Cluster, "a".into())]),
            Event::Refused(Refusal { held, message: "cannot bind".into() }),
        ];
        for event in events {
            let report = report(event);
            assert_eq!(write(report.clone()).into_iter().map(read).collect::<Vec<_>>(), [Some(report)]);
        }
    }

    fn report(event: Event) -> Report {
        Report { fleet: "default".into(), node: "edge-1".into(), stream: 7, event }
    }

    fn held(name: &str) -> Held {
        Held { kind: ResourceType::Listener, name: name.into(), version: Version::of(b"x") }
    }

    #[test]
    fn c3_no_message_to_the_leader_is_too_large_for_it() {
        let longest = "x".repeat(NAME);
        let accepted = Event::Accepted((0..50_000).map(|n| held(&format!("{n:0>512}"))).collect());
        let removed = Event::Removed((0..50_000).map(|_| (ResourceType::Cluster, longest.as_str().into())).collect());
        let refused = Event::Refused(Refusal { held: held(&longest), message: Refusal::words(&"y".repeat(5 << 20)) });
        for event in [accepted, removed, refused] {
            for message in write(report(event)) {
                let bytes = prost::Message::encoded_len(&message);
                assert!(bytes < 1 << 20, "{bytes} bytes");
            }
        }
    }

    #[test]
    fn c3_what_another_manager_reports_is_checked_and_cut() {
        let mut message = write(report(Event::Accepted(vec![held("good"), held(&"x".repeat(NAME + 1))]))).remove(0);
        assert_eq!(read(message.clone()).map(|report| report.event), Some(Event::Accepted(vec![held("good")])));
        message.node = "edge-1\nspoofed".to_owned();
        assert_eq!(read(message), None);
        let refused = Event::Refused(Refusal { held: held("a"), message: "\u{1b}[2J".repeat(100_000).into() });
        let Some(Event::Refused(refusal)) = read(write(report(refused)).remove(0)).map(|report| report.event) else {
            panic!("a refusal")
        };
        assert!(refusal.message.len() <= 1024 && !refusal.message.contains('\u{1b}'), "{}", refusal.message);
    }
}
