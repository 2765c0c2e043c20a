//! Objects of the hub as a file describes them. Knows YAML turned JSON; knows no step.

use kube::Resource;
use nave_api::names::tenant_namespace;
use nave_manager_core::{Key, Seen, Sight};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Hub, Objects};
use crate::support::objects::at;

impl Hub {
    /// Puts an object in place as a file describes it, without showing it to the engine.
    pub fn load(&mut self, object: Value) {
        match kind_of(&object) {
            "Tenant" => drop(self.keep(object, |hub: &mut Self| &mut hub.tenants)),
            "NodeSet" => drop(self.keep(object, |hub: &mut Self| &mut hub.node_sets)),
            "TCPLoadBalancer" => drop(self.keep(object, |hub: &mut Self| &mut hub.balancers)),
            "IPPool" => drop(self.keep(object, |hub: &mut Self| &mut hub.pools)),
            "IPAllocation" => drop(self.keep(object, |hub: &mut Self| &mut hub.allocations)),
            "Fleet" => drop(self.keep(object, |hub: &mut Self| &mut hub.fleets)),
            other => panic!("a hub has no {other}"),
        }
    }

    /// Puts an object in place as a file describes it, and shows it to the engine.
    pub fn observe_value(&mut self, object: Value) {
        let seen = match kind_of(&object) {
            "Tenant" => Seen::Tenants(self.kept_and_seen(object, |hub: &mut Self| &mut hub.tenants)),
            "NodeSet" => Seen::NodeSets(self.kept_and_seen(object, |hub: &mut Self| &mut hub.node_sets)),
            "TCPLoadBalancer" => Seen::LoadBalancers(self.kept_and_seen(object, |hub: &mut Self| &mut hub.balancers)),
            "IPPool" => Seen::Pools(self.kept_and_seen(object, |hub: &mut Self| &mut hub.pools)),
            "IPAllocation" => Seen::Allocations(self.kept_and_seen(object, |hub: &mut Self| &mut hub.allocations)),
            "Fleet" => Seen::Fleets(self.kept_and_seen(object, |hub: &mut Self| &mut hub.fleets)),
            other => panic!("a hub has no {other}"),
        };
        self.engine.observe(seen);
    }

    /// Takes an object away, and shows the engine that it is gone.
    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) {
        let key = Key::new(namespace, name);
        match kind {
            "TCPLoadBalancer" => self.delete_balancer(namespace, name),
            "IPPool" => self.delete_pool(name),
            "Tenant" => self.delete_tenant(name),
            "NodeSet" => {
                self.node_sets.remove(&key);
                self.engine.observe(Seen::NodeSets(Sight::Gone(key)));
            }
            other => panic!("nobody deletes a {other} here"),
        }
    }

    fn kept_and_seen<K>(&mut self, object: Value, shelf: impl Fn(&mut Self) -> &mut Objects<K>) -> Sight<K>
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned,
    {
        let object = self.keep(object, shelf);
        self.seen(object)
    }

    /// Uids follow from names, births are at the beginning unless they are given, a status stays.
    fn keep<K>(&mut self, object: Value, shelf: impl Fn(&mut Self) -> &mut Objects<K>) -> K
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned,
    {
        let mut value = object;
        let metadata = value["metadata"].as_object_mut().expect("metadata");
        let uid = format!("uid-of-{}", metadata["name"].as_str().expect("a name"));
        metadata.entry("uid").or_insert_with(|| uid.into());
        metadata.entry("creationTimestamp").or_insert_with(|| at(0).to_string().into());
        let object: K = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value}: {e}"));
        let before = shelf(self).get(&Key::of(&object)).cloned();
        let generation = before.as_ref().and_then(|b| b.meta().generation).unwrap_or(0) + 1;
        if value["kind"] == "Tenant" && value["status"].is_null() {
            // As the tenants' rooms do; a case that gives a status means it.
            value["status"] =
                json!({"namespace": tenant_namespace(value["metadata"]["name"].as_str().unwrap_or_default())});
        }
        if let Some(before) = before {
            let status = serde_json::to_value(&before).expect("serializes")["status"].clone();
            value["status"] = status;
        }
        let mut object: K = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value}: {e}"));
        object.meta_mut().generation = Some(generation);
        self.store(object, shelf)
    }
}

fn kind_of(object: &Value) -> &str {
    object["kind"].as_str().expect("an object has a kind")
}
