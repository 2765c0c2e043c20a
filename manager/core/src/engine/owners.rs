//! Whose a recorded address is, looking at who still lives. Nothing but the end of its last owner's wish ends a record.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nave_api::ip_allocation::{OwnedPort, Owner};
use nave_api::{IPAllocation, TCPLoadBalancer};

use super::Engine;
use crate::Key;
use crate::key::uid;
use crate::records::{Flight, KIND, owner_key};
use crate::step::Step;

/// The owner that a load balancer is, with all its ports.
pub(super) fn owner_of(key: &Key, balancer: &TCPLoadBalancer) -> Owner {
    let mut ports: Vec<OwnedPort> =
        balancer.spec.ports.iter().map(|port| OwnedPort { protocol: port.protocol, port: port.port }).collect();
    ports.sort();
    ports.dedup();
    Owner {
        namespace: key.namespace.to_string(),
        kind: KIND.to_owned(),
        name: key.name.to_string(),
        uid: uid(&balancer.metadata).to_owned(),
        ports,
    }
}

impl Engine {
    /// Writes the owners that the address should have, or ends its record where none is left.
    pub(super) fn settle_owners(&mut self, address: IpAddr, surplus: &BTreeSet<(IpAddr, Key)>, steps: &mut Vec<Step>) {
        let Some(object) = self.world.records.find(address).cloned() else { return };
        if self.world.records.flight(address).is_some() {
            return;
        }
        let owners: Vec<Owner> =
            object.spec.owners.iter().filter_map(|owner| self.lives_on(owner, address, &object, surplus)).collect();
        if owners.is_empty() {
            let uid = uid(&object.metadata).to_owned();
            self.world.records.depart(address, Flight::Release { uid: uid.clone() });
            self.dirt.balancers.extend(object.spec.owners.iter().filter_map(owner_key));
            steps.push(Step::ReleaseAllocation {
                name: object.metadata.name.clone().unwrap_or_default(),
                uid,
                resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
            });
        } else if owners != object.spec.owners {
            let mut object = IPAllocation::clone(&object);
            object.spec.owners = owners;
            self.world.records.depart(address, Flight::Replace);
            steps.push(Step::ReplaceAllocation(object));
        }
    }

    /// The owner as it should be recorded; nothing when it is gone or wants the address no more.
    fn lives_on(
        &self,
        owner: &Owner,
        address: IpAddr,
        object: &IPAllocation,
        surplus: &BTreeSet<(IpAddr, Key)>,
    ) -> Option<Owner> {
        // Of kinds that are not known here nothing is known: they keep what they have.
        let Some(key) = owner_key(owner) else { return Some(owner.clone()) };
        let balancer = self.world.balancers.find(&key).filter(|balancer| uid(&balancer.metadata) == owner.uid)?;
        if surplus.contains(&(address, key.clone())) {
            return None;
        }
        if self.is_shared(object) { Some(owner.clone()) } else { Some(owner_of(&key, balancer)) }
    }
}
