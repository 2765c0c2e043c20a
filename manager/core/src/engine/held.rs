//! Tenants that are held to fewer TCP connections at single Envoys. The leader decides and records it in the Fleet; every manager serves
//! what is recorded. Knows fleets, nodes and fragments; how much each port gets is decided in `budget`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nave_api::Fleet;
use nave_api::condition::{ConditionType, Verdict};
use nave_api::fleet::{FleetNode, HeldPort, HeldTenant};
use nave_api::names::{tenant_namespace, tenant_of};
use nave_api::tcp_load_balancer::Protocol;
use nave_xds::bootstrap::limits_name;
use nave_xds::resource::{Key as ResourceKey, Resource, ResourceType};
use nave_xds::translate;

use super::Engine;
use super::serve::{Draft, Entry};
use crate::Key;
use crate::budget::{Hold, Open, hold};
use crate::compile::{cluster_name, of_stat_prefix};

/// Nodes that a message names.
const NAMED: usize = 3;

impl Engine {
    /// An Envoy measured what is open. Of a node that the Fleet does not choose nothing is recorded.
    pub(super) fn connections_measured(&mut self, open: Open) {
        let (fleet, node) = (Arc::clone(&open.fleet), Arc::clone(&open.node));
        let Some(object) = self.world.fleets.find(&Key::cluster(Arc::clone(&fleet))).cloned() else { return };
        if !self.world.chosen.get(&fleet).is_some_and(|chosen| chosen.contains(&node)) {
            return;
        }
        self.world.open.entry(Arc::clone(&fleet)).or_default().insert(Arc::clone(&node), open);
        let recorded = self.recorded_node(&object, &node).map(|node| node.held.clone());
        if self.held_at(&fleet, &node, &object) != recorded.unwrap_or_default() {
            self.dirt.fleets.insert(fleet);
        }
    }

    /// The tenants that are held at the Envoy of a node from now on. One that measures nothing changes nothing.
    pub(super) fn held_at(&self, fleet: &Arc<str>, node: &Arc<str>, object: &Fleet) -> Vec<HeldTenant> {
        let recorded = self.recorded_node(object, node);
        let before: BTreeMap<Arc<str>, Hold> = recorded.into_iter().flat_map(|node| &node.held).map(read).collect();
        let most = |namespace: &Arc<str>| {
            let tenant = self.world.tenant(namespace).filter(|tenant| tenant.spec.fleet() == &**fleet)?;
            // A tenant that has the fleet for itself harms no other one.
            let is_other = |(key, entry): (&Key, &Entry)| key.namespace != *namespace && accepts(entry, fleet);
            self.entries.iter().any(is_other).then_some(())?;
            Some(tenant.spec.quota.as_ref().and_then(|quota| quota.connections).unwrap_or(u32::MAX))
        };
        let said = self.world.ledger.files(fleet).find(|(name, _)| *name == node).and_then(|(_, files)| files);
        let recorded = recorded.and_then(|node| node.envoy?.files).map(|files| files.connections);
        let budget = said.map(|files| files.connections).or(recorded);
        let open = self.world.open.get(fleet).and_then(|nodes| nodes.get(node));
        let now = match (budget, open) {
            (Some(budget), Some(open)) => hold(&before, budget, open, most),
            (None, _) | (_, None) => before.into_iter().filter(|(namespace, _)| most(namespace).is_some()).collect(),
        };
        now.iter().filter_map(write).collect()
    }

    /// What was said of a node last.
    fn recorded_node<'a>(&'a self, object: &'a Fleet, node: &str) -> Option<&'a FleetNode> {
        let said = object.metadata.name.as_deref().and_then(|name| self.said.fleets.get(name));
        let said = said.filter(|(uid, _)| Some(uid) == object.metadata.uid.as_ref()).map(|(_, status)| status);
        said.or(object.status.as_ref())?.nodes.iter().find(|known| known.name == node)
    }

    /// Forgets what nodes measured that their fleet chooses no longer.
    pub(super) fn forget_measured(&mut self, fleet: &Arc<str>, chosen: &BTreeSet<Arc<str>>) {
        if let Some(nodes) = self.world.open.get_mut(fleet) {
            nodes.retain(|node, _| chosen.contains(node));
        }
    }

    /// Brings the limits that Envoys look up to what the Fleets record, where a Fleet or a load balancer of a held tenant was touched.
    pub(super) fn serve_limits(&mut self, touched: &BTreeSet<Arc<str>>, draft: &mut Draft) {
        let is_held = |held: &BTreeSet<Arc<str>>| held.iter().any(|namespace| touched.contains(namespace));
        let fleets = self.limits.iter().filter(|(_, limits)| is_held(&limits.held)).map(|(fleet, _)| Arc::clone(fleet));
        let fleets: BTreeSet<Arc<str>> = fleets.chain(self.dirt.fleets.iter().map(Arc::clone)).collect();
        for fleet in fleets {
            let now = self.limits_of(&fleet);
            let before = if now.held.is_empty() {
                self.limits.remove(&fleet)
            } else {
                self.limits.insert(Arc::clone(&fleet), now.clone())
            };
            let before = before.unwrap_or_default();
            for key in before.resources.keys().filter(|key| !now.resources.contains_key(*key)) {
                draft.entry(Arc::clone(&fleet)).or_default().insert(key.clone(), None);
            }
            for (key, resource) in now.resources.into_iter().filter(|(key, new)| before.resources.get(key) != Some(new))
            {
                draft.entry(Arc::clone(&fleet)).or_default().insert(key, Some(resource));
            }
        }
    }

    fn limits_of(&self, fleet: &Arc<str>) -> Limits {
        let mut all = Limits::default();
        let object = self.world.fleets.find(&Key::cluster(Arc::clone(fleet)));
        let nodes = object.and_then(|object| object.status.as_ref()).into_iter().flat_map(|status| &status.nodes);
        for node in nodes.filter(|node| !node.held.is_empty()) {
            let mut limits = BTreeMap::new();
            for (namespace, hold) in node.held.iter().map(read) {
                limits.extend(hold.limits(self.tcp_listeners(fleet, &namespace)));
                all.held.insert(namespace);
            }
            let resource = translate::limits(&limits_name(&node.name), &limits);
            all.resources.insert(resource.key(), resource);
        }
        all
    }

    /// The TCP listeners of a tenant in a fleet, each with its cluster.
    fn tcp_listeners<'a>(
        &'a self,
        fleet: &'a str,
        namespace: &'a Arc<str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)> {
        let keys = self.world.by_namespace.get(namespace).into_iter().flatten();
        let entries = keys.filter_map(|key| self.entries.get(key)).filter(move |entry| *entry.fleet == *fleet);
        let listeners = entries.flat_map(|entry| &entry.fragment).filter(|resource| is_tcp_listener(resource));
        listeners.filter_map(|listener| Some((listener.clusters().first()?, listener.name())))
    }
}

/// The limits of connections that a fleet's Envoys look up.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    /// One for each node that holds a tenant.
    pub resources: BTreeMap<ResourceKey, Resource>,
    /// The namespaces of the tenants that are held.
    held: BTreeSet<Arc<str>>,
}

/// Whether a load balancer accepts TCP connections in the fleet.
fn accepts(entry: &Entry, fleet: &str) -> bool {
    *entry.fleet == *fleet && entry.fragment.iter().any(is_tcp_listener)
}

fn is_tcp_listener(resource: &Resource) -> bool {
    resource.kind() == ResourceType::Listener && resource.name().starts_with("tcp/")
}

/// A hold as the Fleet records it.
fn read(held: &HeldTenant) -> (Arc<str>, Hold) {
    let HeldTenant { tenant, connections, ports } = held;
    let namespace = tenant_namespace(tenant);
    let port = |HeldPort { load_balancer, port, connections }: &HeldPort| {
        let name = cluster_name(&Key::new(namespace.as_str(), load_balancer.as_str()), Protocol::Tcp, *port);
        (name.into(), *connections)
    };
    let ports = ports.iter().map(port).collect();
    (namespace.as_str().into(), Hold { connections: *connections, ports })
}

fn write((namespace, hold): (&Arc<str>, &Hold)) -> Option<HeldTenant> {
    let Hold { connections, ports } = hold;
    let port = |(cluster, connections): (&Arc<str>, &u32)| {
        let port = cluster.rsplit_once('/')?.1.parse().ok()?;
        let load_balancer = of_stat_prefix(cluster)?.name.to_string();
        Some(HeldPort { load_balancer, port, connections: *connections })
    };
    let ports = ports.iter().filter_map(port).collect();
    Some(HeldTenant { tenant: tenant_of(namespace)?.to_owned(), connections: *connections, ports })
}

/// How long the write of these nodes may wait. An Envoy that is nearly full cannot wait.
pub(super) fn patience(before: &[FleetNode], now: &[FleetNode], usual: Duration) -> Duration {
    let held = |nodes: &[FleetNode]| nodes.iter().flat_map(|node| node.held.clone()).collect::<Vec<_>>();
    if held(now) == held(before) { usual } else { Duration::ZERO }
}

/// That tenants are held, where any is.
pub(super) fn verdict(nodes: &[FleetNode]) -> Option<Verdict> {
    let held: Vec<String> = nodes
        .iter()
        .flat_map(|node| node.held.iter().map(move |held| (node, held)))
        .map(|(node, held)| format!("{} on node {} ({} connections)", held.tenant, node.name, held.connections))
        .collect();
    let first = held.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match held.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "new TCP connections are refused beyond a number, since more than 70 % of what the Envoy accepts is open: of tenant {first}{more}. \
         Raise the limit of open files of the Envoys (nave-manager envoy-bootstrap --files), or lower spec.quota.connections of the Tenant"
    );
    (!held.is_empty()).then(|| Verdict::holds(ConditionType::TenantHeld, "TenantHeld", message))
}
