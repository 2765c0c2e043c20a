//! What a load balancer's status says, and which Events follow. Knows conditions; whatever was said is not said again.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Resource;
use nave_api::condition::{self, ConditionType, Verdict};
use nave_api::tcp_load_balancer::{Address, AddressPort, BackendCount, IpFamily, PortSessions};
use nave_api::{TCPLoadBalancer, TCPLoadBalancerStatus};

use super::Engine;
use super::moves::{Fate, Stay};
use super::programmed::{is_programmed, programmed, says_programmed, unallocated};
use super::request::needs_both;
use super::serve::{Entry, Programmed, has_shown_addresses};
use super::standing::Standing;
use crate::key::uid;
use crate::pool::is_everywhere;
use crate::ports::Door;
use crate::problem::{Problem, Shortage};
use crate::step::{Announcement, Step, Tone};
use crate::{Key, Timestamp};

/// How long a status that says "not yet" may wait for the one that says "done".
pub(super) const PATIENCE: Duration = Duration::from_millis(200);

impl Engine {
    /// Writes the statuses that differ from what was seen or said.
    pub(super) fn write_statuses(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        self.touch_companions();
        for key in std::mem::take(&mut self.dirt.statuses) {
            let Some(balancer) = self.world.balancers.find(&key).cloned() else { continue };
            let Some(mut entry) = self.entries.get_mut(&key).map(std::mem::take) else { continue };
            let said = entry.said.take().filter(|said| Some(said) != balancer.status.as_ref());
            let before = said.as_ref().or(balancer.status.as_ref());
            let none = TCPLoadBalancerStatus::default();
            let standing = self.stand(&key, &balancer, &entry, now);
            let (status, patience) = self.status(&key, &balancer, &mut entry, before.unwrap_or(&none), standing, now);
            if before == Some(&status) {
                entry.said = said;
            } else {
                announce(&balancer, &before.unwrap_or(&none).conditions, &status.conditions, steps);
                entry.said = Some(status.clone());
                steps.push(Step::WriteLoadBalancerStatus {
                    key: key.clone(),
                    uid: uid(&balancer.metadata).to_owned(),
                    generation: balancer.metadata.generation,
                    status,
                    patience,
                });
            }
            self.entries.insert(key, entry);
        }
    }

    /// A follower believes what the leader wrote.
    pub(super) fn adopt_statuses(&mut self) {
        for key in &self.dirt.statuses {
            let (Some(balancer), Some(entry)) = (self.world.balancers.find(key), self.entries.get_mut(key)) else {
                continue;
            };
            if says_programmed(balancer, true) {
                entry.programmed = Programmed::Yes;
            }
        }
    }

    /// How Envoys take what is served of it.
    fn stand(&mut self, key: &Key, balancer: &TCPLoadBalancer, entry: &Entry, now: Timestamp) -> Standing {
        if entry.fragment.is_empty() || entry.frozen.is_some() {
            self.waits.forget(key);
            return Standing::NoEnvoy;
        }
        self.standing(key, &entry.fleet, &entry.fragment, is_programmed(balancer, entry), now)
    }

    fn status(
        &self,
        key: &Key,
        balancer: &TCPLoadBalancer,
        entry: &mut Entry,
        before: &TCPLoadBalancerStatus,
        standing: Standing,
        now: Timestamp,
    ) -> (TCPLoadBalancerStatus, Duration) {
        if let Some(frozen) = &entry.frozen {
            return (frozen_status(balancer, before, frozen, now), Duration::ZERO);
        }
        let addresses = self.addresses(key, balancer);
        let problems = entry.all_problems();
        let accepted = accepted(&problems);
        let awaits_cloud = || {
            let mut own = self.world.records.of(key, uid(&balancer.metadata)).filter(|_| addresses.is_empty());
            let (_, object) = own.find(|(address, _)| is_everywhere(*address))?;
            Some(Shortage::AwaitsCloud { pool: object.spec.pool.clone() })
        };
        let shortage = entry.shortage.clone().or_else(awaits_cloud);
        let allocated = self.allocated(shortage.as_ref(), &addresses);
        let is_settled_so_far = entry.shortage != Some(Shortage::Pending);
        let stopped = problems.into_iter().find(|problem| problem.stops_service()).cloned();
        let (programmed, patience) = match stopped {
            None if addresses.is_empty() => (Some(unallocated()), Duration::ZERO),
            stopped => programmed(balancer, entry, stopped.as_ref(), standing),
        };
        let verdicts: Vec<Verdict> = [accepted, allocated].into_iter().chain(programmed).collect();
        let status = TCPLoadBalancerStatus {
            addresses,
            backends: Some(BackendCount { total: entry.total, ready: entry.ready }),
            sessions: entry.sessions.iter().map(|(port, limit)| PortSessions { port: *port, limit: *limit }).collect(),
            conditions: condition::settle(&before.conditions, &verdicts, balancer.metadata.generation, &Time(now)),
        };
        (status, if is_settled_so_far { patience } else { PATIENCE })
    }

    /// The addresses that are recorded as its own.
    fn addresses(&self, key: &Key, balancer: &TCPLoadBalancer) -> Vec<Address> {
        if self.is_half(key, balancer) {
            return Vec::new();
        }
        let uid = uid(&balancer.metadata);
        let own = self.world.records.of(key, uid);
        let shown = own.map(|(address, object)| {
            let open = self.world.open_ports(object, key, balancer);
            if is_everywhere(address) {
                return self.delivered_addresses(&object.spec.pool, key, balancer, &open);
            }
            let ports = open.into_iter().map(|((protocol, _), port)| AddressPort { protocol, port });
            vec![shown(address.to_string(), Some(IpFamily::of(address)), &object.spec.pool, ports.collect())]
        });
        let shown: Vec<Vec<Address>> = shown.collect();
        // Both or none, also where the hub's cloud has yet to give one of them.
        let is_half = needs_both(balancer) && !has_shown_addresses(balancer) && shown.iter().any(Vec::is_empty);
        if is_half { Vec::new() } else { shown.into_iter().flatten().collect() }
    }

    /// The addresses that a cloud gave, with the ports that clients find on them. None where its load balancer has none of
    /// the ports, which are ordered and may be refused; what was shown once stays.
    fn delivered_addresses(
        &self,
        pool: &str,
        key: &Key,
        balancer: &TCPLoadBalancer,
        open: &[(Door, u16)],
    ) -> Vec<Address> {
        let Some(delivery) = self.delivered(pool, key) else { return Vec::new() };
        let is_its_own = delivery.owner.is_some();
        let port = |((protocol, own), recorded): &(Door, u16)| AddressPort {
            protocol: *protocol,
            port: if is_its_own { *own } else { *recorded },
        };
        let is_there = |port: &AddressPort| delivery.ports.contains(&(port.protocol, port.port));
        let ports: Vec<AddressPort> = open.iter().map(port).filter(is_there).collect();
        let mut before = balancer.status.iter().flat_map(|status| &status.addresses);
        if ports.is_empty() && !before.any(|address| address.pool == pool) {
            return Vec::new();
        }
        let addresses = delivery.addresses.iter().map(|address| (address.to_string(), Some(IpFamily::of(*address))));
        let names = delivery.hostnames.iter().map(|name| (name.clone(), None));
        addresses.chain(names).map(|(value, family)| shown(value, family, pool, ports.clone())).collect()
    }

    fn allocated(&self, shortage: Option<&Shortage>, addresses: &[Address]) -> Verdict {
        let kind = ConditionType::Allocated;
        if let Some(shortage) = shortage {
            return Verdict::fails(kind, shortage.reason(), shortage.to_string());
        }
        let listed = |addresses: Vec<&Address>| {
            let words: Vec<String> = addresses.iter().map(|a| format!("{} from pool {}", a.value, a.pool)).collect();
            words.join(", ")
        };
        let orphans: Vec<&Address> = addresses.iter().filter(|address| !self.is_offered(address)).collect();
        if orphans.is_empty() {
            return Verdict::holds(kind, "Allocated", listed(addresses.iter().collect()));
        }
        let stays: Vec<String> = orphans.iter().filter_map(|address| self.stays(address)).collect();
        let why = if stays.is_empty() { String::new() } else { format!("; {}", stays.join("; ")) };
        let keeps = "this pool no longer gives it; it stays served until its load balancers are deleted or ask for another address";
        Verdict::holds(kind, "Orphaned", format!("{}: {keeps}{why}", listed(orphans)))
    }

    /// Why the allocation of an address that its pool gives no longer does not move to another pool that includes it.
    fn stays(&self, address: &Address) -> Option<String> {
        let value = address.value.parse().ok()?;
        match self.world.fate(value, self.world.records.find(value)?)? {
            Fate::Moves(_) | Fate::Stays(Stay::NoPool) => None,
            Fate::Stays(stay) => Some(stay.to_string()),
        }
    }

    fn is_offered(&self, address: &Address) -> bool {
        let Some(pool) = self.world.pools.find(&address.pool) else { return self.world.is_unknown_pool(&address.pool) };
        pool.service().is_some() || address.value.parse().is_ok_and(|value| pool.offers(value))
    }
}

/// Everything as it was but for the word that nothing can be decided.
fn frozen_status(
    balancer: &TCPLoadBalancer,
    before: &TCPLoadBalancerStatus,
    frozen: &Problem,
    now: Timestamp,
) -> TCPLoadBalancerStatus {
    let verdict = Verdict {
        kind: ConditionType::Accepted,
        holds: None,
        reason: frozen.reason().to_owned(),
        message: frozen.to_string(),
    };
    let generation = balancer.metadata.generation;
    let conditions = condition::settle(&before.conditions, &[verdict], generation, &Time(now));
    TCPLoadBalancerStatus { conditions, ..before.clone() }
}

fn shown(value: String, family: Option<IpFamily>, pool: &str, mut ports: Vec<AddressPort>) -> Address {
    ports.sort();
    Address { value, family, pool: pool.to_owned(), ports }
}

fn accepted(problems: &[&Problem]) -> Verdict {
    let kind = ConditionType::Accepted;
    let Some(first) = problems.first() else { return Verdict::holds(kind, "Accepted", "understood and allowed") };
    let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if first.is_fatal() {
        Verdict::fails(kind, first.reason(), message)
    } else {
        Verdict::holds(kind, first.reason(), message)
    }
}

/// An Event for each condition that turned in a way that somebody should know.
fn announce(balancer: &TCPLoadBalancer, before: &[Condition], after: &[Condition], steps: &mut Vec<Step>) {
    for now in after {
        let was = before.iter().find(|c| c.type_ == now.type_);
        if was.is_some_and(|was| (&was.status, &was.reason) == (&now.status, &now.reason)) {
            continue;
        }
        let usual = matches!(now.reason.as_str(), "Accepted" | "Allocated" | "Programmed");
        let tone = match (now.status.as_str(), now.type_.as_str()) {
            ("True", "Allocated" | "Programmed") if usual => Tone::Normal,
            ("True", "Accepted") if usual => continue,
            _ if is_passing(&now.reason) => continue,
            _ => Tone::Warning,
        };
        steps.push(Step::Announce(Announcement {
            about: reference(balancer),
            tone,
            reason: now.reason.clone(),
            message: now.message.clone(),
        }));
    }
}

/// Reasons that end by themselves or repeat what another condition says.
fn is_passing(reason: &str) -> bool {
    matches!(
        reason,
        "Pending" | "ListenersWait" | "AwaitsCloud" | "NotAllocated" | "NotAccepted" | "NoEnvoy" | "NodeSetMissing"
    )
}

fn reference(balancer: &TCPLoadBalancer) -> ObjectReference {
    balancer.object_ref(&())
}
