//! A spoke's API server as far as Services go: uids, resourceVersions, node ports, finalizers, defaults. Knows no agent.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use nave_agent_core::{Change, Key};
use serde_json::{Value, json};

use crate::support::objects::at;

/// Services, and what watches have yet to bring.
#[derive(Default)]
pub struct Server {
    pub services: BTreeMap<Key, Service>,
    pub news: Vec<Change<Service>>,
    revision: u64,
    node_ports: u16,
}

impl Server {
    /// What a user asks for replaces what he asked for before; the rest stays.
    pub fn apply(&mut self, key: &Key, annotations: &Value, spec: &Value) {
        let before = self.services.get(key).cloned();
        let mut whole = json!({"type": "LoadBalancer", "ports": [{"port": 80}], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.complete(&mut whole, before.as_ref());
        let metadata = json!({"namespace": key.namespace, "name": key.name, "annotations": annotations});
        let mut service: Service = serde_json::from_value(json!({"metadata": metadata, "spec": whole})).unwrap();
        if let Some(before) = before {
            service.metadata.uid.clone_from(&before.metadata.uid);
            service.metadata.finalizers.clone_from(&before.metadata.finalizers);
            service.metadata.creation_timestamp.clone_from(&before.metadata.creation_timestamp);
            service.status = before.status;
        } else {
            service.metadata.uid = Some(format!("{key}-{}", self.revision));
            service.metadata.creation_timestamp = Some(Time(at(0)));
        }
        self.store(service);
    }

    /// It goes at once, or when its last finalizer does.
    pub fn delete(&mut self, key: &Key) {
        let mut service = self.services.get(key).expect("a Service that is there").clone();
        service.metadata.deletion_timestamp = Some(Time(at(0)));
        self.store(service);
    }

    /// Somebody writes the load balancer status.
    pub fn show(&mut self, key: &Key, ingress: &Value) {
        let ingress: Vec<LoadBalancerIngress> = serde_json::from_value(ingress.clone()).unwrap();
        let mut service = self.services.get(key).expect("a Service that is there").clone();
        service.status.get_or_insert_default().load_balancer.get_or_insert_default().ingress = Some(ingress);
        self.store(service);
    }

    /// Writes one, unless it is gone or another one by now.
    pub fn change(&mut self, key: &Key, uid: &str, change: impl FnOnce(&mut Service)) {
        let found = self.services.get(key).filter(|service| service.metadata.uid.as_deref() == Some(uid));
        if let Some(mut service) = found.cloned() {
            change(&mut service);
            self.store(service);
        }
    }

    fn store(&mut self, mut service: Service) {
        self.revision += 1;
        service.metadata.resource_version = Some(self.revision.to_string());
        let key = Key::of(&service);
        if service.metadata.deletion_timestamp.is_some() && service.finalizers().is_empty() {
            self.services.remove(&key);
            self.news.push(Change::Gone(service.metadata));
        } else {
            self.services.insert(key, service.clone());
            self.news.push(Change::Seen(service));
        }
    }

    /// Protocols where none is given, and node ports: a port that stays keeps its own.
    fn complete(&mut self, spec: &mut Value, before: Option<&Service>) {
        let needs = match spec["type"].as_str() {
            Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != json!(false),
            kind => kind == Some("NodePort"),
        };
        let before = before.and_then(|service| service.spec.as_ref()).and_then(|spec| spec.ports.clone());
        let before = before.unwrap_or_default();
        for port in spec["ports"].as_array_mut().unwrap() {
            let port = port.as_object_mut().unwrap();
            let protocol = port.entry("protocol").or_insert(json!("TCP")).clone();
            let same = |old: &&k8s_openapi::api::core::v1::ServicePort| {
                json!(old.port) == port["port"] && json!(old.protocol) == protocol
            };
            let kept = before.iter().find(same).and_then(|old| old.node_port);
            if needs && !port.contains_key("nodePort") {
                let node_port = kept.unwrap_or_else(|| {
                    self.node_ports += 1;
                    30_000 + i32::from(self.node_ports)
                });
                port.insert("nodePort".into(), node_port.into());
            }
        }
        if spec["externalTrafficPolicy"] == "Local" {
            spec["healthCheckNodePort"] = json!(32_000);
        }
    }
}
