//! What a Fleet says of its nodes: which Envoys are connected, which count, and which hold load balancers back. Knows no resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Resource;
use nave_api::Fleet;
use nave_api::condition::{ConditionType, Verdict};
use nave_api::fleet::{EnvoyFiles, EnvoyStanding, EnvoyStatus, FleetNode};
use nave_xds::files::Files;

use super::Engine;
use crate::Timestamp;
use crate::ledger::Presence;
use crate::step::{Announcement, Step, Tone};

/// Nodes that a Fleet's status lists.
const NODES: usize = 500;
/// Nodes that a message names.
const NAMED: usize = 3;

impl Engine {
    /// The nodes that were heard, as the Fleet's status lists them. One that is not chosen is forgotten when it leaves.
    pub(super) fn fleet_nodes(&mut self, fleet: &Arc<str>, object: &Fleet, now: Timestamp) -> Vec<FleetNode> {
        let chosen = self.world.chosen.get(fleet).cloned().unwrap_or_default();
        self.world.ledger.forget_absent(fleet, &chosen);
        self.forget_measured(fleet, &chosen);
        // Those that are chosen come first, where not all can be listed.
        let (own, others): (Vec<_>, Vec<_>) =
            self.world.ledger.nodes(fleet).partition(|(name, _)| chosen.contains(*name));
        let nodes: BTreeMap<&Arc<str>, Presence> = own.into_iter().chain(others).take(NODES).collect();
        let files = self.files_of(fleet, object);
        let status = |(name, presence): (&Arc<str>, Presence)| {
            let envoy = (Arc::clone(fleet), Arc::clone(name));
            let Presence { connected, everything, refused } = presence;
            let standing = match (chosen.contains(name), everything || !connected) {
                (false, _) => EnvoyStanding::NotChosen,
                (true, false) => EnvoyStanding::NotServing,
                (true, true) if self.waits.is_stopped(fleet, name) => EnvoyStanding::Stopped,
                (true, true) => EnvoyStanding::Counts,
            };
            let holds_back = if connected && chosen.contains(name) { self.waits.held_back(&envoy, now) } else { 0 };
            let envoy = EnvoyStatus {
                connected,
                refused: small(refused),
                standing,
                holds_back: small(holds_back),
                files: files.get(name.as_ref()).copied(),
            };
            let held = if chosen.contains(name) { self.held_at(fleet, name, object) } else { Vec::new() };
            FleetNode { name: name.to_string(), envoy: Some(envoy), held }
        };
        nodes.into_iter().map(status).collect()
    }

    /// What each node's Envoy may open. What one has not said yet in this life stays as it was recorded.
    fn files_of(&self, fleet: &str, object: &Fleet) -> BTreeMap<String, EnvoyFiles> {
        let recorded = object.status.iter().flat_map(|status| &status.nodes);
        let recorded = recorded.filter_map(|node| Some((node.name.clone(), node.envoy?.files?)));
        let said = self.world.ledger.files(fleet).filter_map(|(node, files)| Some((node.to_string(), files?)));
        let said = said
            .map(|(node, Files { limit, workers, connections })| (node, EnvoyFiles { limit, workers, connections }));
        recorded.chain(said).collect()
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}

/// Whether the fleet serves, and what an administrator should know of its Envoys: the gravest thing first.
pub(super) fn serves(fleet: &Fleet, heard: &[FleetNode]) -> Verdict {
    let kind = ConditionType::Ready;
    let name = fleet.metadata.name.as_deref().unwrap_or("");
    let connected = |standing: EnvoyStanding| {
        let is = move |envoy: &EnvoyStatus| envoy.connected && envoy.standing == standing;
        heard.iter().filter(move |node| node.envoy.as_ref().is_some_and(is)).collect::<Vec<_>>()
    };
    let [counting, stopped] = [EnvoyStanding::Counts, EnvoyStanding::Stopped].map(connected);
    let [strangers, starting] = [EnvoyStanding::NotChosen, EnvoyStanding::NotServing].map(connected);
    let not_chosen = || {
        format!(
            "spec.nodes does not choose {}: load balancers do not wait for their Envoys. Label the Nodes, list them in spec.nodes.names, or revoke their certificates (spec.revoked)",
            names(&strangers)
        )
    };
    if counting.is_empty() && stopped.is_empty() {
        let message = if !starting.is_empty() {
            format!("the Envoys of {} have not asked for all listeners and clusters yet", names(&starting))
        } else if !strangers.is_empty() {
            format!("no Envoy of a node that fleet {name} chooses is connected; {}", not_chosen())
        } else {
            format!(
                "no Envoy of fleet {name} is connected: start one on an edge node, or see in its log why it does not reach the managers"
            )
        };
        return Verdict::fails(kind, "NoEnvoy", message);
    }
    if !stopped.is_empty() {
        let message = format!(
            "load balancers do not wait for the Envoys of {}, which do not acknowledge what they are sent: restart them, or see \
             their logs",
            names(&stopped)
        );
        return Verdict::holds(kind, STOPPED, message);
    }
    let waited_for = |node: &&FleetNode| node.envoy.is_some_and(|envoy| envoy.holds_back > 0);
    let holding_back: Vec<&FleetNode> = counting.into_iter().filter(waited_for).collect();
    if !holding_back.is_empty() {
        let message = format!("load balancers wait for the Envoys of {} to acknowledge them", names(&holding_back));
        return Verdict::holds(kind, "HeldBack", message);
    }
    if !strangers.is_empty() {
        return Verdict::holds(kind, "NotChosen", format!("Envoys are connected; {}", not_chosen()));
    }
    Verdict::holds(kind, "Connected", "Envoys are connected")
}

const STOPPED: &str = "EnvoyStopped";

/// The first names, and how many there are besides.
fn names(nodes: &[&FleetNode]) -> String {
    let first: Vec<&str> = nodes.iter().take(NAMED).map(|node| node.name.as_str()).collect();
    match nodes.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// An Event when an Envoy stops being waited for.
pub(super) fn announce(fleet: &Fleet, was: Option<&str>, now: &Verdict, steps: &mut Vec<Step>) {
    if now.reason == STOPPED && was != Some(STOPPED) {
        let (about, reason, message) = (fleet.object_ref(&()), now.reason.clone(), now.message.clone());
        steps.push(Step::Announce(Announcement { about, tone: Tone::Warning, reason, message }));
    }
}
