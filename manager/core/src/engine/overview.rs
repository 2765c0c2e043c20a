//! What pools, tenants and fleets say about themselves. Knows sums; these may wait for each other, for nobody acts on them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use nave_api::condition::{self, ConditionType, Verdict};
use nave_api::names::tenant_of;
use nave_api::{Condition, FleetStatus, IPPool, IPPoolStatus};

use super::shares::Share;
use super::{Engine, fleet, held, last, unreadable};
use crate::key::uid;
use crate::pool::Pool;
use crate::step::{Announcement, Step, Tone};
use crate::{Key, Timestamp};

/// So long these writes may be held back: a thousand changes in a burst are one write.
const PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn write_overviews(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        for name in std::mem::take(&mut self.dirt.pool_statuses) {
            self.write_pool(&name, now, steps);
        }
        for namespace in std::mem::take(&mut self.dirt.namespaces) {
            self.write_tenant(&namespace, now, steps);
        }
        self.dirt.fleets.extend(self.waits.take_relieved());
        for name in std::mem::take(&mut self.dirt.fleets) {
            self.write_fleet(&name, now, steps);
        }
    }

    fn write_pool(&mut self, name: &Arc<str>, now: Timestamp, steps: &mut Vec<Step>) {
        let Some(object) = self.world.pool_objects.find(&Key::cluster(Arc::clone(name))).cloned() else {
            self.said.pools.remove(name);
            return;
        };
        let Some(pool) = self.world.pools.find(name) else { return };
        let uid = uid(&object.metadata);
        let none = IPPoolStatus::default();
        let before = last(&mut self.said.pools, name, uid, object.status.as_ref()).unwrap_or(&none);
        let tally = self.world.records.tally(name);
        let was = condition::find(&before.conditions, ConditionType::Ready).map(|c| c.reason.as_str());
        let refusals: Vec<(&str, &str)> = self.world.supply.refusals(name).collect();
        let unreadable = self.world.pool_objects.unreadable(&Key::cluster(Arc::clone(name)));
        let verdict = unreadable::verdict(unreadable, ready(pool, was, &refusals));
        let status = IPPoolStatus {
            total: pool.service().is_none().then(|| pool.total().to_string()),
            free: pool.service().is_none().then(|| pool.free_count().to_string()),
            used: if pool.service().is_some() { self.world.supply.count(name) } else { tally.used },
            held: tally.held,
            last_owners: self.world.records.former.list(name),
            conditions: condition::settle(
                &before.conditions,
                std::slice::from_ref(&verdict),
                object.metadata.generation,
                &Time(now),
            ),
        };
        if status == *before {
            return;
        }
        announce(&object, was, &verdict, steps);
        self.said.pools.insert(Arc::clone(name), (uid.to_owned(), status.clone()));
        steps.push(Step::WritePoolStatus { name: name.to_string(), uid: uid.to_owned(), status, patience: PATIENCE });
    }

    fn write_tenant(&mut self, namespace: &Arc<str>, now: Timestamp, steps: &mut Vec<Step>) {
        let Some(name) = tenant_of(namespace).map(Arc::<str>::from) else { return };
        let Some(tenant) = self.world.tenant(namespace).cloned() else {
            self.said.tenants.remove(&name);
            return;
        };
        let uid = uid(&tenant.metadata).to_owned();
        let seen = tenant.status.as_ref().and_then(|status| Some((status.used?, disputes(&status.conditions))));
        let used = self.used(namespace);
        let before = last(&mut self.said.tenants, &name, &uid, seen.as_ref());
        let had = before.map(|(_, conditions)| conditions.as_slice()).unwrap_or_default();
        let verdict = self.world.foreign.get(&*name).and_then(|lost| lost.example.as_ref()).map(overlap);
        let conditions = match &verdict {
            Some(verdict) => {
                condition::settle(had, std::slice::from_ref(verdict), tenant.metadata.generation, &Time(now))
            }
            None => Vec::new(),
        };
        let is_told = had.is_empty();
        if before == Some(&(used, conditions.clone())) {
            return;
        }
        if let Some(Verdict { kind: _, holds: _, reason, message }) = verdict.filter(|_| is_told) {
            let about = tenant.object_ref(&());
            steps.push(Step::Announce(Announcement { about, tone: Tone::Warning, reason, message }));
        }
        self.said.tenants.insert(Arc::clone(&name), (uid.clone(), (used, conditions.clone())));
        steps.push(Step::WriteTenantStatus { name: name.to_string(), uid, used, conditions, patience: PATIENCE });
    }

    /// Nothing is said of a fleet's Envoys before one was heard in this life: they come back by themselves.
    fn write_fleet(&mut self, name: &Arc<str>, now: Timestamp, steps: &mut Vec<Step>) {
        let Some(object) = self.world.fleets.find(&Key::cluster(Arc::clone(name))).cloned() else {
            self.said.fleets.remove(name);
            return;
        };
        let heard = self.fleet_nodes(name, &object, now);
        if heard.is_empty() && object.status.is_some() {
            return;
        }
        let uid = uid(&object.metadata);
        let none = FleetStatus::default();
        let before = last(&mut self.said.fleets, name, uid, object.status.as_ref()).unwrap_or(&none);
        let was = condition::find(&before.conditions, ConditionType::Ready).map(|c| c.reason.as_str());
        let unreadable = self.world.fleets.unreadable(&Key::cluster(Arc::clone(name)));
        let verdict = unreadable::verdict(unreadable, fleet::serves(&object, &heard));
        fleet::announce(&object, was, &verdict, steps);
        let mut conditions = before.conditions.clone();
        let mut verdicts = vec![verdict];
        if self.shares.get(name).is_some_and(Share::is_short) {
            verdicts.push(Verdict::holds(ConditionType::FilesShort, "FilesShort", FILES_SHORT));
        } else {
            conditions.retain(|condition| condition.type_ != ConditionType::FilesShort.as_str());
        }
        match held::verdict(&heard) {
            Some(held) => verdicts.push(held),
            None => conditions.retain(|condition| condition.type_ != ConditionType::TenantHeld.as_str()),
        }
        let patience = held::patience(&before.nodes, &heard, PATIENCE);
        let status = FleetStatus {
            nodes: heard,
            conditions: condition::settle(&conditions, &verdicts, object.metadata.generation, &Time(now)),
        };
        if status == *before {
            return;
        }
        self.said.fleets.insert(Arc::clone(name), (uid.to_owned(), status.clone()));
        steps.push(Step::WriteFleetStatus { name: name.to_string(), uid: uid.to_owned(), status, patience });
    }
}

/// What is said of a tenant's networks among its conditions; the others are those of its room.
fn disputes(conditions: &[Condition]) -> Vec<Condition> {
    let kind = ConditionType::NetworkOverlap.as_str();
    conditions.iter().filter(|condition| condition.type_ == kind).cloned().collect()
}

fn overlap((address, other): &(IpAddr, String)) -> Verdict {
    let message = format!(
        "{address} in spec.backends.allow is Tenant {other}'s, too, which is older: backends there are left out. List other \
         networks, or have both Tenants say spec.backends.sharing: Shared"
    );
    Verdict::holds(ConditionType::NetworkOverlap, "NetworkOverlap", message)
}

const FILES_SHORT: &str = "ports get fewer UDP sessions than they ask for, or listeners wait: see load balancers with the reasons SessionsLimited and \
     ListenersWait. Raise the limit of open files of the Envoys (nave-manager envoy-bootstrap --files), or where a Tenant has reached \
     its spec.quota.connections, raise that";

const READY: &str = "Ready";
const NEARLY_FULL: &str = "NearlyFull";
const FULL: &str = "Full";

/// Whether a pool gives addresses, and whether it soon will not. What counts is the part for those who ask for no address.
fn ready(pool: &Pool, was: Option<&str>, refusals: &[(&str, &str)]) -> Verdict {
    let kind = ConditionType::Ready;
    if let Some(problem) = &pool.problem {
        return Verdict::fails(kind, problem.reason(), problem.to_string());
    }
    if pool.service().is_some() {
        let [(id, words), others @ ..] = refusals else {
            return Verdict::holds(kind, READY, "the hub's cloud gives the addresses");
        };
        let more = if others.is_empty() { String::new() } else { format!("; {} more are refused", others.len()) };
        return Verdict::holds(
            kind,
            "OrderRefused",
            format!(
                "the hub's API refuses Service {id} in the managers' namespace, and is asked again every few seconds: {words}{more}"
            ),
        );
    }
    let (total, free) = pool.dynamic_counts();
    if total > 0 && free == 0 {
        return Verdict::holds(
            kind,
            FULL,
            "every address that is given without a request is taken (spec.addresses.dynamic, or all): add addresses, or delete load balancers",
        );
    }
    let was_low = matches!(was, Some(NEARLY_FULL | FULL));
    if free <= total / if was_low { AMPLE } else { NEARLY } && total > 0 {
        let message = "few addresses are left to give without a request: add addresses before the pool is full";
        return Verdict::holds(kind, NEARLY_FULL, message);
    }
    Verdict::holds(kind, READY, "addresses are free")
}

/// A pool is nearly full when no more than one address in so many is free.
const NEARLY: u128 = 10;
/// It is so no longer when more than one in so many is: one that comes and goes is not told of each time.
const AMPLE: u128 = 5;

fn announce(pool: &IPPool, was: Option<&str>, now: &Verdict, steps: &mut Vec<Step>) {
    let is_better = now.reason == READY || (was, now.reason.as_str()) == (Some(FULL), NEARLY_FULL);
    if was == Some(&now.reason) || is_better {
        return;
    }
    steps.push(Step::Announce(Announcement {
        about: pool.object_ref(&()),
        tone: Tone::Warning,
        reason: now.reason.clone(),
        message: now.message.clone(),
    }));
}
