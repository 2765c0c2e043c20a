//! Certificates of Envoys that Fleets revoke, handed to the xDS server as soon as they are seen. Knows Fleets; the server knows
//! connections.
//!
//! What a Fleet revokes is read on its own where the Fleet cannot be read: a manager that starts beside such a Fleet knows it as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::runtime::watcher::Event;
use nave_api::Fleet;
use nave_api::fleet::Revocation;
use nave_manager_core::Key;
use nave_watch::{Decoded, Raw, Unreadable};
use nave_xds::server::Server;

/// What one Fleet revokes: by node, the second from which on certificates are good.
type Revoked = BTreeMap<Arc<str>, i64>;

/// What is revoked.
#[derive(Clone)]
pub(crate) struct Revocations {
    server: Server,
    fleets: BTreeMap<Arc<str>, Revoked>,
    /// The Fleets that a list which is under way has shown so far.
    listing: BTreeSet<Arc<str>>,
}

impl Revocations {
    /// Nothing is revoked on this server yet.
    pub(crate) fn new(server: Server) -> Self {
        Self { server, fleets: BTreeMap::new(), listing: BTreeSet::new() }
    }

    /// Takes in what a watch of Fleets shows.
    pub(crate) fn know(&mut self, event: &Event<Decoded<Fleet>>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(fleet) => {
                self.listing.insert(Key::of(fleet).name);
                self.take(fleet);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let gone: Vec<Arc<str>> = self.fleets.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in &gone {
                    self.forget(name);
                }
            }
            Event::Apply(fleet) => self.take(fleet),
            Event::Delete(fleet) => self.forget(&Key::of(fleet).name),
        }
    }

    fn take(&mut self, fleet: &Decoded<Fleet>) {
        let name = Key::of(fleet).name;
        let before = self.fleets.remove(&name).unwrap_or_default();
        let revoked = match fleet {
            Decoded::Object(fleet) => revoked(&fleet.spec.revoked),
            Decoded::Unreadable(fleet) => revoked_in(fleet, before),
        };
        self.server.revoke(&name, revoked.clone());
        self.fleets.insert(name, revoked);
    }

    fn forget(&mut self, fleet: &str) {
        self.fleets.remove(fleet);
        self.server.revoke(fleet, Revoked::new());
    }
}

/// A moment that cannot be read, which no API server lets in, is after all certificates.
fn revoked(entries: &[Revocation]) -> Revoked {
    latest(entries.iter().map(|entry| (entry.node.as_str().into(), entry.seconds().unwrap_or(i64::MAX))))
}

/// Of two entries for a node, the later moment counts.
fn latest(entries: impl IntoIterator<Item = (Arc<str>, i64)>) -> Revoked {
    let mut latest = Revoked::new();
    for (node, second) in entries {
        let known = latest.entry(node).or_insert(second);
        *known = second.max(*known);
    }
    latest
}

/// What a Fleet revokes that cannot be read. Where its list, or the node of an entry, cannot be read either, what it revoked before
/// stays revoked. Nothing is known of it where a manager has just started: certificates of that Fleet are then good, since the other way
/// round one field would take every Envoy of the Fleet from its managers.
fn revoked_in(fleet: &Unreadable, before: Revoked) -> Revoked {
    let Some(spec) = &fleet.spec else { return before };
    let Some(list) = spec.field("revoked") else {
        return if spec.fields().is_some() { Revoked::new() } else { before };
    };
    let Some(entries) = list.list() else {
        tracing::error!(
            fleet = fleet.metadata.name,
            "spec.revoked cannot be read: what it revoked before stays revoked"
        );
        return before;
    };
    let read: Vec<Option<(Arc<str>, i64)>> = entries.iter().map(entry).collect();
    let before = if read.iter().all(Option::is_some) { Revoked::new() } else { before };
    latest(read.into_iter().flatten().chain(before))
}

/// An entry; nothing where it does not say which node it means.
fn entry(entry: &Raw) -> Option<(Arc<str>, i64)> {
    let node: String = entry.field("node")?.read()?;
    let before = entry.field("before").and_then(|before| before.read()).unwrap_or_default();
    let revocation = Revocation { node, before };
    Some((revocation.node.as_str().into(), revocation.seconds().unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use nave_xds::server::Settings;
    use serde_json::{Value, json};

    use super::*;

    const TEN: i64 = 1_796_032_800; // 2026-11-30T10:00:00Z

    fn fleet(spec: &Value, is_readable: bool) -> Decoded<Fleet> {
        let conditions = if is_readable { json!([]) } else { json!([{"lastTransitionTime": "9999-12-31T23:59:59Z"}]) };
        let object = json!({"metadata": {"name": "default"}, "spec": spec, "status": {"conditions": conditions}});
        let fleet: Decoded<Fleet> = serde_json::from_str(&object.to_string()).unwrap();
        assert_eq!(matches!(fleet, Decoded::Object(_)), is_readable, "{fleet:?}");
        fleet
    }

    fn known(revocations: &Revocations) -> Vec<(&str, i64)> {
        revocations.fleets.get("default").into_iter().flatten().map(|(node, second)| (&**node, *second)).collect()
    }

    fn new() -> Revocations {
        Revocations::new(Server::new((), Settings::default()))
    }

    #[test]
    fn a_moment_is_seconds_and_what_is_none_revokes_everything() {
        let entry = |node: &str, before: &str| Revocation { node: node.into(), before: before.into() };
        let moments = [entry("a", "2026-11-30T10:00:00Z"), entry("b", "2026-02-30T10:00:00Z"), entry("c", "soon")];
        assert_eq!(
            revoked(&moments),
            [("a", TEN), ("b", i64::MAX), ("c", i64::MAX)].map(|(n, at)| (n.into(), at)).into()
        );
    }

    #[test]
    fn of_two_entries_for_one_node_the_later_counts() {
        let entry = |before: &str| Revocation { node: "a".into(), before: before.into() };
        let (early, late) = (entry("2026-11-29T10:00:00Z"), entry("2026-11-30T10:00:00Z"));
        for entries in [[early.clone(), late.clone()], [late, early]] {
            assert_eq!(revoked(&entries), [("a".into(), TEN)].into());
        }
    }

    #[test]
    fn a_manager_that_starts_beside_a_fleet_that_it_cannot_read_knows_what_the_fleet_revokes() {
        let entries =
            json!([{"node": "lost", "before": "2026-11-30T10:00:00Z"}, {"node": "b", "before": 7}, 7, {"node": 7}]);
        let mut revocations = new();
        for event in [Event::Init, Event::InitApply(fleet(&json!({"revoked": entries}), false)), Event::InitDone] {
            revocations.know(&event);
        }
        assert_eq!(known(&revocations), [("b", i64::MAX), ("lost", TEN)]);
        // The same where the spec itself is what cannot be read.
        let mut revocations = new();
        let spec =
            json!({"onApiLoss": 7, "nodes": [1e300], "revoked": [{"node": "lost", "before": "2026-11-30T10:00:00Z"}]});
        revocations.know(&Event::Apply(fleet(&spec, false)));
        assert_eq!(known(&revocations), [("lost", TEN)]);
    }

    #[test]
    fn a_fleet_that_cannot_be_read_keeps_what_it_revoked_as_far_as_it_does_not_say_otherwise() {
        let mut revocations = new();
        let lost = json!([{"node": "lost", "before": "2026-11-30T10:00:00Z"}]);
        revocations.know(&Event::Apply(fleet(&json!({"revoked": lost}), true)));
        for unread in
            [json!({"revoked": 7}), json!({"revoked": [7]}), json!({"revoked": [{"before": "soon"}]}), json!(7)]
        {
            revocations.know(&Event::Apply(fleet(&unread, false)));
            assert_eq!(known(&revocations), [("lost", TEN)], "{unread}");
        }
        revocations.know(&Event::Apply(fleet(&json!({"revoked": []}), false)));
        assert_eq!(known(&revocations), [], "its list can be read, and is empty");
        revocations.know(&Event::Apply(fleet(&json!({"revoked": lost}), false)));
        revocations.know(&Event::Apply(fleet(&json!({}), false)));
        assert_eq!(known(&revocations), [], "it has no list");
    }

    #[test]
    fn a_fleet_that_is_gone_revokes_nothing() {
        let lost = json!({"revoked": [{"node": "lost", "before": "2026-11-30T10:00:00Z"}]});
        for is_readable in [true, false] {
            let mut revocations = new();
            revocations.know(&Event::Apply(fleet(&lost, is_readable)));
            revocations.know(&Event::Delete(fleet(&lost, is_readable)));
            assert_eq!(revocations.fleets.len(), 0);
            revocations.know(&Event::Apply(fleet(&lost, is_readable)));
            revocations.know(&Event::Init);
            revocations.know(&Event::InitDone);
            assert_eq!(revocations.fleets.len(), 0);
        }
    }
}
