//! What a step does to the hub, as its API would do it. Knows uids and resourceVersions; decides nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use nave_api::IPAllocation;
use nave_manager_core::{Key, Seen, Sight, Step};

use super::{Hub, Objects};

impl Hub {
    /// Does what a step asks for, as the API would.
    pub fn perform(&mut self, step: &Step) {
        match step {
            Step::CreateAllocation(object) => self.create_allocation(object.clone(), step),
            Step::ReplaceAllocation(object) => self.replace_allocation(object.clone(), step),
            Step::ReleaseAllocation { name, uid, resource_version } => {
                let key = Key::cluster(name.as_str());
                let now = self.allocations.get(&key).map(|now| &now.metadata);
                let is_it = |m: &&ObjectMeta| {
                    m.uid.as_ref() == Some(uid) && m.resource_version.as_ref() == Some(resource_version)
                };
                if now.as_ref().is_some_and(is_it) {
                    self.allocations.remove(&key);
                    self.engine.observe(Seen::Allocations(Sight::Gone(key)));
                } else {
                    self.show_allocation(&key);
                    self.engine.failed(step);
                }
            }
            Step::WriteLoadBalancerStatus { key, uid, status, .. } => {
                self.status_writes += 1;
                let Some(mut object) = same(&self.balancers, key, uid) else { return };
                object.status = Some(status.clone());
                let object = self.store(object, |hub| &mut hub.balancers);
                self.engine.observe(Seen::LoadBalancers(self.seen(object)));
            }
            Step::WritePoolStatus { name, uid, status, .. } => {
                let Some(mut object) = same(&self.pools, &Key::cluster(name.as_str()), uid) else { return };
                object.status = Some(status.clone());
                let object = self.store(object, |hub| &mut hub.pools);
                self.engine.observe(Seen::Pools(self.seen(object)));
            }
            Step::WriteTenantStatus { name, uid, used, conditions, .. } => {
                let Some(mut object) = same(&self.tenants, &Key::cluster(name.as_str()), uid) else { return };
                let status = object.status.get_or_insert_default();
                (status.used, status.conditions) = (Some(*used), conditions.clone());
                let object = self.store(object, |hub| &mut hub.tenants);
                self.engine.observe(Seen::Tenants(self.seen(object)));
            }
            Step::WriteFleetStatus { name, uid, status, .. } => {
                let Some(mut object) = same(&self.fleets, &Key::cluster(name.as_str()), uid) else { return };
                object.status = Some(status.clone());
                let object = self.store(object, |hub| &mut hub.fleets);
                self.engine.observe(Seen::Fleets(self.seen(object)));
            }
            Step::Order(order) => self.order(order),
            Step::Withdraw { id } => self.withdraw(id),
            Step::ReportUnreadable(report) => {
                self.reports.insert((report.kind, report.key.clone()), report.condition.clone());
            }
            Step::Announce(announcement) => self.announced.push(announcement.clone()),
        }
    }

    fn replace_allocation(&mut self, object: IPAllocation, step: &Step) {
        let key = Key::of(&object);
        let now = self.allocations.get(&key);
        if now.is_some_and(|now| now.metadata.resource_version == object.metadata.resource_version) {
            let object = self.store(object, |hub| &mut hub.allocations);
            self.engine.observe(Seen::Allocations(self.seen(object)));
        } else {
            self.show_allocation(&key);
            self.engine.failed(step);
        }
    }

    fn create_allocation(&mut self, mut object: IPAllocation, step: &Step) {
        let key = Key::of(&object);
        if self.allocations.contains_key(&key) {
            self.show_allocation(&key);
            self.engine.failed(step);
            return;
        }
        object.metadata.uid = Some(format!("uid-{}", self.revision + 1));
        let object = self.store(object, |hub| &mut hub.allocations);
        self.engine.observe(Seen::Allocations(self.seen(object)));
    }

    fn show_allocation(&mut self, key: &Key) {
        let sight = match self.allocations.get(key).cloned() {
            Some(object) => self.seen(object),
            None => Sight::Gone(key.clone()),
        };
        self.engine.observe(Seen::Allocations(sight));
    }

    pub(super) fn store<K: Resource<DynamicType = ()> + Clone>(
        &mut self,
        mut object: K,
        shelf: impl Fn(&mut Self) -> &mut Objects<K>,
    ) -> K {
        self.revision += 1;
        object.meta_mut().resource_version = Some(self.revision.to_string());
        shelf(self).insert(Key::of(&object), object.clone());
        object
    }
}

/// The object of this name, if it is the one that is meant.
fn same<K: Resource + Clone>(objects: &Objects<K>, key: &Key, uid: &str) -> Option<K> {
    objects.get(key).filter(|object| object.meta().uid.as_deref() == Some(uid)).cloned()
}
