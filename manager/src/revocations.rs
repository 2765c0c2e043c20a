//! Certificates of Envoys that Fleets revoke, handed to the xDS server as soon as they are seen. Knows Fleets; the server knows
//! connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nave_api::Fleet;
use nave_manager_core::{Key, Sight};
use nave_xds::server::Server;

/// What is revoked.
#[derive(Clone)]
pub(crate) struct Revocations {
    server: Server,
    fleets: BTreeSet<Arc<str>>,
}

impl Revocations {
    /// Nothing is revoked on this server yet.
    pub(crate) fn new(server: Server) -> Self {
        Self { server, fleets: BTreeSet::new() }
    }

    /// Takes a look at Fleets in.
    pub(crate) fn know(&mut self, sight: &Sight<Fleet>) {
        match sight {
            Sight::All { objects, unreadable } => {
                let before = std::mem::take(&mut self.fleets);
                for fleet in objects {
                    self.take(fleet);
                }
                // What is revoked stays so while its Fleet cannot be read.
                self.fleets.extend(unreadable.iter().map(|one| Arc::clone(&one.key.name)));
                for gone in before.difference(&self.fleets) {
                    self.server.revoke(gone, BTreeMap::new());
                }
            }
            Sight::Unreadable(fleet) => drop(self.fleets.insert(Arc::clone(&fleet.key.name))),
            Sight::One(fleet) => self.take(fleet),
            Sight::Gone(key) => {
                self.fleets.remove(&key.name);
                self.server.revoke(&key.name, BTreeMap::new());
            }
        }
    }

    fn take(&mut self, fleet: &Fleet) {
        let name = Key::of(fleet).name;
        self.server.revoke(&name, revoked(fleet));
        self.fleets.insert(name);
    }
}

/// By node, the second from which on certificates are good. Where that cannot be read, which no API server lets in, none is.
fn revoked(fleet: &Fleet) -> BTreeMap<Arc<str>, i64> {
    let entries = fleet.spec.revoked.iter();
    entries.map(|entry| (entry.node.as_str().into(), entry.seconds().unwrap_or(i64::MAX))).collect()
}

#[cfg(test)]
mod tests {
    use nave_api::FleetSpec;
    use nave_api::fleet::Revocation;
    use nave_manager_core::Unreadable;
    use nave_xds::server::Settings;

    use super::*;

    #[test]
    fn a_moment_is_seconds_and_what_is_none_revokes_everything() {
        let entry = |node: &str, before: &str| Revocation { node: node.into(), before: before.into() };
        let spec = FleetSpec {
            revoked: vec![entry("a", "2026-11-30T10:00:00Z"), entry("b", "2026-02-30T10:00:00Z"), entry("c", "soon")],
            ..FleetSpec::default()
        };
        let expected = [("a", 1_796_032_800), ("b", i64::MAX), ("c", i64::MAX)];
        assert_eq!(revoked(&Fleet::new("default", spec)), expected.map(|(node, at)| (node.into(), at)).into());
    }

    #[test]
    fn a_fleet_that_cannot_be_read_keeps_what_it_revoked_until_it_is_gone() {
        let mut revocations = Revocations::new(Server::new((), Settings::default()));
        revocations.know(&Sight::all(vec![Fleet::new("default", FleetSpec::default())]));
        let key = Key::cluster("default");
        let why = "spec.revoked is a number".to_owned();
        let unreadable = Unreadable { key: key.clone(), uid: String::new(), revision: 2, generation: None, why };
        revocations.know(&Sight::Unreadable(unreadable.clone()));
        assert_eq!(revocations.fleets.len(), 1);
        revocations.know(&Sight::All { objects: Vec::new(), unreadable: vec![unreadable] });
        assert_eq!(revocations.fleets.len(), 1);
        revocations.know(&Sight::Gone(key));
        assert_eq!(revocations.fleets.len(), 0);
    }
}
