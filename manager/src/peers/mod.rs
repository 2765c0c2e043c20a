//! What managers tell each other: a follower's Envoys are made known to the leader, who alone writes status. Knows the
//! messages; the two ends are next door.

mod follower;
mod leader;
mod present;

use std::sync::Arc;

use nave_proto::fleet::envoy_report::Event as Wire;
use nave_proto::fleet::{self, EnvoyReport};
use nave_xds::files::Files;
use nave_xds::report::{Event, Held, Refusal, Report};
use nave_xds::resource::{Key, ResourceType, Version};

pub(crate) use follower::{Relay, relay};
pub(crate) use leader::Leader;

/// A report as it goes to the leader.
fn write(report: Report) -> EnvoyReport {
    let Report { fleet, node, stream, event } = report;
    let event = match event {
        Event::Connected => Wire::Connected(fleet::Connected {}),
        Event::Disconnected => Wire::Disconnected(fleet::Disconnected {}),
        Event::Described(Files { limit, workers, connections }) => {
            Wire::Described(fleet::Described { limit, workers, connections })
        }
        Event::Accepted(held) => {
            Wire::Accepted(fleet::Accepted { resources: held.into_iter().map(write_held).collect() })
        }
        Event::Removed(keys) => Wire::Removed(fleet::Removed { resources: keys.into_iter().map(write_key).collect() }),
        Event::Refused(Refusal { held, message }) => {
            Wire::Refused(fleet::Refused { resource: Some(write_held(held)), message: message.to_string() })
        }
    };
    EnvoyReport { fleet: fleet.to_string(), node: node.to_string(), stream, event: Some(event) }
}

fn write_held(held: Held) -> fleet::Held {
    let Held { kind, name, version } = held;
    fleet::Held { name: Some(write_key((kind, name))), version: version.to_string() }
}

fn write_key((kind, name): Key) -> fleet::Name {
    fleet::Name { type_url: kind.url().to_owned(), name: name.to_string() }
}

/// A report as the engine takes it; nothing when it is of a later version and says what we do not know.
fn read(report: EnvoyReport) -> Option<Report> {
    let EnvoyReport { fleet, node, stream, event } = report;
    let event = match event? {
        Wire::Connected(fleet::Connected {}) => Event::Connected,
        Wire::Disconnected(fleet::Disconnected {}) => Event::Disconnected,
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
            Event::Refused(Refusal { held: read_held(resource?)?, message: message.into() })
        }
    };
    Some(Report { fleet: fleet.into(), node: node.into(), stream, event })
}

fn read_held(held: fleet::Held) -> Option<Held> {
    let fleet::Held { name, version } = held;
    let (kind, name) = read_key(name?)?;
    Some(Held { kind, name, version: Version::read(&version) })
}

fn read_key(name: fleet::Name) -> Option<Key> {
    let fleet::Name { type_url, name } = name;
    Some((ResourceType::from_url(&type_url)?, Arc::from(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_as_it_was_written() {
        let held =
            Held { kind: ResourceType::Listener, name: "tcp/203.0.113.7/443".into(), version: Version::of(b"x") };
        let events = [
            Event::Connected,
            Event::Disconnected,
            Event::Described(Files::of(20_000, 2).with_connections(17)),
            Event::Accepted(vec![held.clone()]),
            Event::Removed(vec![(ResourceType::Cluster, "a".into())]),
            Event::Refused(Refusal { held, message: "cannot bind".into() }),
        ];
        for event in events {
            let report = Report { fleet: "default".into(), node: "edge-1".into(), stream: 7, event };
            assert_eq!(read(write(report.clone())), Some(report));
        }
    }
}
