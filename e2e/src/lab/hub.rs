//! The load balancing cluster of a lab: what is set up in it before a spoke may join. Knows Nave's resources by their
//! published names; knows no manager from inside.
use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Spoke;
use crate::apply::apply;
use crate::control_plane::ControlPlane;
use crate::edge::Edge;
use crate::error::{Act, Result};
use crate::manager::{Manager, NAMESPACE};
use crate::network::{HUB, Plan};
use crate::wait;
use crate::wait::PATIENCE;

/// The load balancing cluster.
pub struct Hub {
    /// The edge nodes: `edge-1`, `edge-2`, …
    pub edges: Vec<Edge>,
    /// The manager's replicas.
    pub managers: Vec<Manager>,
    /// Its API server and controllers.
    pub plane: ControlPlane,
}

impl Hub {
    /// A client of the hub with every right.
    pub fn client(&self) -> kube::Client {
        self.plane.client()
    }

    /// Applies any object, as `kubectl apply` would.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        apply(&self.client(), object).await.map(drop)
    }

    /// The name of an edge node.
    pub(super) fn edge_name(index: u8) -> String {
        format!("edge-{}", index + 1)
    }

    /// The kinds, the namespace, the fleet with its nodes, one pool.
    pub(super) async fn prepare(&self, plan: &Plan, edges: u8) -> Result<()> {
        self.install_kinds().await?;
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})).await?;
        for index in 0..edges {
            let labels = json!({"nave.dev/fleet": "default"});
            let name = Self::edge_name(index);
            self.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}))
                .await?;
        }
        self.fleet(&json!({})).await?;
        self.pool("public", &plan.pool().to_string()).await
    }

    /// Applies the fleet `default`. Unless its spec says otherwise it chooses the lab's own edge nodes, by their label; what runs
    /// elsewhere is named in `spec.nodes.names`.
    pub async fn fleet(&self, spec: &Value) -> Result<()> {
        let metadata = json!({"name": "default"});
        self.apply(&json!({"apiVersion": "nave.dev/v1alpha1", "kind": "Fleet", "metadata": metadata, "spec": spec}))
            .await
    }

    /// Lets any text be a moment in Nave's kinds, as in releases whose schemas did not bound moments: what was stored then is still
    /// there.
    pub async fn unbound_moments(&self) -> Result<()> {
        let kinds: Api<CustomResourceDefinition> = Api::all(self.client());
        let listed = kinds.list(&ListParams::default()).await.act(|| "list the kinds")?;
        for kind in listed.items.iter().filter(|kind| kind.spec.group == "nave.dev") {
            let name = kind.name_any();
            let mut versions = json!(kind.spec.versions);
            unbound(&mut versions);
            let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
            kinds.patch(&name, &PatchParams::default(), &patch).await.act(|| format!("change the kind {name}"))?;
        }
        Ok(())
    }

    /// Applies a static pool of a network or range that every tenant may use without asking for it.
    pub async fn pool(&self, name: &str, addresses: &str) -> Result<()> {
        let spec = json!({"source": {"static": {}}, "addresses": {"include": [addresses]}, "use": {"default": true}, "announce": {"external": {}}});
        self.apply(
            &json!({"apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec}),
        )
        .await
    }

    /// Makes the tenant of a spoke, whose backends lie in these networks.
    pub(super) async fn admit(&self, spoke: &Spoke, backends: &[IpNet]) -> Result<()> {
        let spec = json!({"backends": {"allow": backends}});
        let metadata = json!({"name": spoke.name()});
        self.apply(&json!({"apiVersion": "nave.dev/v1alpha1", "kind": "Tenant", "metadata": metadata, "spec": spec}))
            .await
    }

    /// The kubeconfig that the managers made for a tenant's agent.
    pub async fn credential(&self, tenant: &str) -> Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client(), &format!("tenant-{tenant}"));
        wait::until(&format!("the tenant {tenant} has a credential"), PATIENCE, || async {
            let secret = secrets.get("agent").await.map_err(|error| error.to_string())?;
            let data: BTreeMap<String, ByteString> = secret.data.unwrap_or_default();
            let ByteString(text) = data.get("kubeconfig").ok_or("a Secret without the key kubeconfig")?;
            String::from_utf8(text.clone()).map_err(|error| error.to_string())
        })
        .await
    }

    /// The hub's number among the lab's clusters.
    pub fn number(&self) -> u8 {
        HUB
    }

    async fn install_kinds(&self) -> Result<()> {
        let kinds: Api<CustomResourceDefinition> = Api::all(self.client());
        for kind in nave_api::crds() {
            let kind = serde_json::to_value(kind).act(|| "render a CRD")?;
            self.apply(&kind).await?;
        }
        wait::until("the API server serves our kinds", PATIENCE, || async {
            let listed = kinds.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
            let waiting: Vec<String> = listed
                .items
                .iter()
                .filter(|kind| !is_established(kind))
                .filter_map(|kind| kind.metadata.name.clone())
                .collect();
            if waiting.is_empty() { Ok(()) } else { Err(format!("not established: {}", waiting.join(", "))) }
        })
        .await
    }
}

fn is_established(kind: &CustomResourceDefinition) -> bool {
    let conditions = kind.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .is_some_and(|all| all.iter().any(|condition| condition.type_ == "Established" && condition.status == "True"))
}

/// Takes the bounds of moments out of a schema.
fn unbound(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("format").is_some_and(|format| format == "date-time") {
                fields.remove("maxLength");
                fields.remove("pattern");
            }
            fields.values_mut().for_each(unbound);
        }
        Value::Array(all) => all.iter_mut().for_each(unbound),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
