//! A node that is an object and a loopback address. Knows the Node's status; knows no kubelet.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::apply::apply;
use crate::backend::{Backend, Protocol};
use crate::error::{Act, Result};
use crate::wait;
use crate::wait::PATIENCE;

#[derive(Debug)]
pub(super) struct LightNode {
    api: Api<NodeObject>,
    backends: Mutex<BTreeMap<(Protocol, u16), (String, Backend)>>,
}

impl LightNode {
    pub(super) async fn start(client: &kube::Client, name: &str, address: IpAddr) -> Result<Self> {
        let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"});
        apply(client, &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}))
            .await?;
        let node = Self { api: Api::all(client.clone()), backends: Mutex::default() };
        node.report(name, address, true).await?;
        Ok(node)
    }

    pub(super) async fn report(&self, name: &str, address: IpAddr, ready: bool) -> Result<()> {
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": [{
                "type": "Ready", "status": if ready { "True" } else { "False" }, "reason": "WrittenByTheLab",
                "message": "a light node", "lastHeartbeatTime": jiff::Timestamp::now(), "lastTransitionTime": jiff::Timestamp::now(),
            }],
        }});
        let written = self.api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await;
        written.map(drop).act(|| format!("write the status of {name}"))
    }

    /// What served the port before is gone: Kubernetes gives the node ports of deleted Services to others.
    pub(super) async fn serve(&self, protocol: Protocol, address: SocketAddr, banner: &str) -> Result<()> {
        let key = (protocol, address.port());
        if !self.make_room(key, banner) {
            return Ok(());
        }
        let what = format!("{address} is free");
        let backend = wait::until(&what, PATIENCE, || async {
            Backend::start(protocol, address, banner).await.map_err(|error| format!("{error:?}"))
        });
        let backend = (banner.to_owned(), backend.await?);
        self.backends.lock().unwrap_or_else(PoisonError::into_inner).insert(key, backend);
        Ok(())
    }

    /// Whether nobody serves the port with this banner; who serves it with another one no longer does.
    fn make_room(&self, key: (Protocol, u16), banner: &str) -> bool {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let other = backends.get(&key).is_none_or(|(present, _)| present != banner);
        if other {
            backends.remove(&key);
        }
        other
    }

    pub(super) fn stop_serving(&self) {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
