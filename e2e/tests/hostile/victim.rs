//! The victim: what of it may not move, and a client that never stops asking. Knows nothing of any attack.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use nave_api::{IPAllocation, NodeSet, TCPLoadBalancer};
use nave_e2e::{Lab, client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::attempt::VICTIM;

/// What the victim has: its objects as the hub stores them, its allocations, its listeners and clusters in Envoy.
#[derive(Debug, PartialEq)]
pub struct Belongings {
    objects: Value,
    allocations: Value,
    envoy: Value,
}

/// Looks at it, leaving out what is not about `names`.
pub async fn belongings(lab: &Lab, names: &[String]) -> Belongings {
    let admin = lab.hub.client();
    let intents: Api<TCPLoadBalancer> = Api::namespaced(admin.clone(), VICTIM);
    let sets: Api<NodeSet> = Api::namespaced(admin.clone(), VICTIM);
    let allocations: Api<IPAllocation> = Api::all(admin);
    let every = ListParams::default();
    let intents = intents.list(&every).await.expect("the victim's load balancers").items;
    let intents = intents.into_iter().filter(|intent| names.contains(&intent.name_any()));
    let intents: Vec<Value> = intents.map(|i| json!([i.metadata.uid, i.metadata.labels, i.spec, i.status])).collect();
    let sets = sets.list(&every).await.expect("the victim's nodes").items;
    let sets: Vec<Value> = sets.into_iter().map(|set| json!([set.metadata.uid, set.spec])).collect();
    let theirs = allocations.list(&every).await.expect("the allocations").items.into_iter().filter(|allocation| {
        allocation.spec.owners.iter().any(|owner| owner.namespace == VICTIM && names.contains(&owner.name))
    });
    let allocations: Vec<Value> = theirs.map(|a| json!([a.metadata.uid, a.spec])).collect();
    Belongings { objects: json!([intents, sets]), allocations: json!(allocations), envoy: served(lab, names).await }
}

/// The listeners and clusters of Envoy whose names speak of `names`, without the time at which they came.
async fn served(lab: &Lab, names: &[String]) -> Value {
    let dump = lab.hub.edges[0].admin("/config_dump").await.expect("Envoy's configuration");
    let dump: Value = serde_json::from_str(&dump).expect("JSON");
    let mut found = Vec::new();
    for config in dump["configs"].as_array().into_iter().flatten() {
        for list in ["dynamic_listeners", "dynamic_active_clusters"] {
            for entry in config[list].as_array().into_iter().flatten() {
                let resource = entry.pointer("/active_state/listener").or_else(|| entry.get("cluster"));
                let Some(resource) = resource else { continue };
                let name = resource["name"].as_str().unwrap_or_default();
                if name.contains("spoke-1") && names.iter().any(|own| name.contains(own)) {
                    found.push(resource.clone());
                }
            }
        }
    }
    assert!(!found.is_empty(), "Envoy serves the victim");
    json!(found)
}

/// A client that connects again and again until it is asked what it saw.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    task: JoinHandle<Result<(), String>>,
}

impl Traffic {
    /// Begins to ask.
    pub fn start(address: IpAddr, port: u16) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(ask(address, port, stop.clone(), answers.clone()));
        Self { stop, answers, task }
    }

    /// Ends it: how many answers there were, every one the victim's own.
    pub async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the client").unwrap_or_else(|error| panic!("the victim's traffic: {error}"));
        self.answers.load(Ordering::Relaxed)
    }
}

async fn ask(address: IpAddr, port: u16, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        match client::ask((address, port).into()).await {
            Ok(banner) if banner.starts_with("spoke-1/") => answers.fetch_add(1, Ordering::Relaxed),
            Ok(banner) => return Err(format!("somebody else answers: {banner}")),
            Err(error) => return Err(format!("{error:?}")),
        };
        tokio::time::sleep(std::time::Duration::from_millis(10)).await; // the pace of a client, waits for nothing
    }
    Ok(())
}
