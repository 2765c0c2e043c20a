//! The accounts under which Nave's programs run, with the rights that the charts give them and no more. Knows where a chart
//! keeps its rules; knows none of them.
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::apply::apply;
use crate::control_plane::ControlPlane;
use crate::error::{Act, Result};
use crate::manager::NAMESPACE;

const RBAC: &str = "rbac.authorization.k8s.io";

/// A program that has a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// charts/manager.
    Manager,
    /// charts/agent.
    Agent,
}

impl Chart {
    fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Agent => "agent",
        }
    }

    fn rules(self, scope: &str) -> Result<Value> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts").join(self.name()).join("files").join(scope);
        let text = std::fs::read_to_string(&file).act(|| format!("read {}", file.display()))?;
        serde_saphyr::from_str(&text).act(|| format!("understand {}", file.display()))
    }
}

/// Makes the account of a program as its chart does, in a namespace that is made as well, and writes its kubeconfig.
pub async fn account(plane: &ControlPlane, chart: Chart) -> Result<PathBuf> {
    let name = format!("nave-{}", chart.name());
    let (everywhere, here) = (json!({"name": name}), json!({"name": name, "namespace": NAMESPACE}));
    let version = format!("{RBAC}/v1");
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]);
    let refers = |kind: &str| json!({"apiGroup": RBAC, "kind": kind, "name": name});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": everywhere, "rules": chart.rules("cluster-rules.yaml")?}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": everywhere, "roleRef": refers("ClusterRole"), "subjects": subjects}),
        json!({"apiVersion": version, "kind": "Role", "metadata": here, "rules": chart.rules("namespace-rules.yaml")?}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": here, "roleRef": refers("Role"), "subjects": subjects}),
    ];
    for object in &objects {
        apply(&plane.client(), object).await?;
    }
    plane.kubeconfig_of_account(NAMESPACE, &name).await
}
