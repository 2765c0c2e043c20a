//! The accounts under which Nave's programs run, with the rights that the charts give them and no more. Knows where a chart
//! keeps its rules; knows none of them.
use std::path::{Path, PathBuf};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::apply::apply;
use crate::control_plane::{ControlPlane, connect};
use crate::error::{Act, Result};
use crate::manager::NAMESPACE;
use crate::wait;
use crate::wait::PATIENCE;

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
    let (cluster, own) = (chart.rules("cluster-rules.yaml")?, chart.rules("namespace-rules.yaml")?);
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": everywhere, "rules": cluster}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": everywhere, "roleRef": refers("ClusterRole"), "subjects": subjects}),
        json!({"apiVersion": version, "kind": "Role", "metadata": here, "rules": own}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": here, "roleRef": refers("Role"), "subjects": subjects}),
    ];
    for object in &objects {
        apply(&plane.client(), object).await?;
    }
    if chart == Chart::Manager {
        let rules = chart.rules("tenants-rules.yaml")?;
        let metadata = json!({"name": "nave-manager-tenants"});
        let role = json!({"apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": rules});
        apply(&plane.client(), &role).await?;
        guard(plane).await?;
    }
    let kubeconfig = plane.kubeconfig_of_account(NAMESPACE, &name).await?;
    granted(&kubeconfig, &[(cluster[0].clone(), None), (own[0].clone(), Some(NAMESPACE))]).await?;
    Ok(kubeconfig)
}

/// What the manager's chart forbids agents, and the manager itself, besides.
async fn guard(plane: &ControlPlane) -> Result<()> {
    let version = "admissionregistration.k8s.io/v1";
    for what in ["agents-objects", "agents-secrets", "agents-tokens", "managers-bindings", "managers-secrets"] {
        let name = format!("nave-{what}");
        let policy = Chart::Manager.rules(&format!("{what}-policy.yaml"))?;
        let binding = json!({"policyName": name, "validationActions": ["Deny"]});
        for (kind, spec) in [("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)] {
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
            apply(&plane.client(), &object).await?;
        }
    }
    Ok(())
}

/// Waits until the API server has heard of the rights: a program that starts sooner is refused what it needs.
async fn granted(kubeconfig: &Path, rules: &[(Value, Option<&str>)]) -> Result<()> {
    let text = std::fs::read_to_string(kubeconfig).act(|| "read a kubeconfig")?;
    let reviews: Api<SelfSubjectAccessReview> = Api::all(connect(&text).await?);
    for (rule, namespace) in rules {
        let review = review(rule, *namespace);
        wait::until("an account has its rights", PATIENCE, || async {
            let asked = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
            let allowed = asked.status.is_some_and(|status| status.allowed);
            if allowed { Ok(()) } else { Err(format!("{rule} is not granted")) }
        })
        .await?;
    }
    Ok(())
}

/// May the account do the first of what a rule gives?
fn review(rule: &Value, namespace: Option<&str>) -> SelfSubjectAccessReview {
    let first = |key: &str| rule[key][0].as_str().map(str::to_owned);
    let resource = first("resources").unwrap_or_default();
    let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
    let attributes = ResourceAttributes {
        group: first("apiGroups"),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        verb: first("verbs"),
        name: first("resourceNames"),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    SelfSubjectAccessReview { spec, ..Default::default() }
}
