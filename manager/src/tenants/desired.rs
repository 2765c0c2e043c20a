//! The objects that make a tenant's room, and the rights of its agent. Knows what each is for; writes nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use nave_api::{GROUP, names};
use serde_json::{Value, json};

/// The kinds that are compared and applied alike, in the order in which they are made.
pub(super) const KINDS: [Kind; 5] = [
    Kind { group: "", version: "v1", name: "ServiceAccount", plural: "serviceaccounts" },
    Kind { group: "rbac.authorization.k8s.io", version: "v1", name: "Role", plural: "roles" },
    Kind { group: "rbac.authorization.k8s.io", version: "v1", name: "RoleBinding", plural: "rolebindings" },
    Kind { group: "", version: "v1", name: "ResourceQuota", plural: "resourcequotas" },
    Kind { group: "coordination.k8s.io", version: "v1", name: "Lease", plural: "leases" },
];

/// What the agent writes.
pub(super) const INTENTS: [&str; 3] = ["tcploadbalancers", "httploadbalancers", "nodesets"];

/// A kind of the API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    group: &'static str,
    version: &'static str,
    pub(super) name: &'static str,
    plural: &'static str,
}

impl Kind {
    /// As the client names it.
    pub(super) fn resource(self) -> kube::core::ApiResource {
        let Self { group, version, name, plural } = self;
        let kind = kube::core::GroupVersionKind::gvk(group, version, name);
        kube::core::ApiResource::from_gvk_with_plural(&kind, plural)
    }
}

/// How far the agent's rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// It may write intents.
    Full,
    /// The tenant is being deleted: an agent that still runs must not make its intents anew.
    Reading,
}

/// The tenant's namespace.
pub(super) fn namespace(tenant: &str) -> Namespace {
    let labels = BTreeMap::from([(names::TENANT_LABEL.to_owned(), tenant.to_owned())]);
    let metadata =
        ObjectMeta { name: Some(names::tenant_namespace(tenant)), labels: Some(labels), ..ObjectMeta::default() };
    Namespace { metadata, ..Namespace::default() }
}

/// The object of this kind in the tenant's namespace.
pub(super) fn object(kind: Kind, tenant: &str, rights: Rights) -> Value {
    let Kind { group, version, name, plural: _ } = kind;
    let mut object = match name {
        // The hub runs none of the tenant's pods.
        "ServiceAccount" => json!({"automountServiceAccountToken": false}),
        "Role" => json!({"rules": rules(tenant, rights)}),
        "RoleBinding" => json!({
            "roleRef": {"apiGroup": group, "kind": "Role", "name": names::AGENT},
            "subjects": [{"kind": "ServiceAccount", "name": names::AGENT, "namespace": names::tenant_namespace(tenant)}],
        }),
        "ResourceQuota" => json!({"spec": {"hard": limits()}}),
        // The Lease is made for the agent, so that it needs no right to make Leases; what it says is the agent's.
        _ => json!({}),
    };
    object["apiVersion"] = if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
    object["kind"] = name.into();
    object["metadata"] = metadata(tenant);
    object
}

/// How each of our objects is called and labelled.
pub(super) fn metadata(tenant: &str) -> Value {
    json!({"name": names::AGENT, "namespace": names::tenant_namespace(tenant), "labels": {names::TENANT_LABEL: tenant}})
}

/// What the agent may do, and nothing besides. No Secrets: it gets its credential from whoever installs it, and renews its
/// token itself. Names restrict a `create` to server-side apply, where the name is in the path.
fn rules(tenant: &str, rights: Rights) -> Value {
    let verbs: &[&str] = match rights {
        Rights::Full => &["get", "list", "watch", "create", "update", "patch", "delete"],
        Rights::Reading => &["get", "list", "watch"],
    };
    json!([
        {"apiGroups": [GROUP], "resources": INTENTS, "verbs": verbs},
        {"apiGroups": [GROUP], "resources": INTENTS.map(|kind| format!("{kind}/status")), "verbs": ["get"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [names::AGENT],
            "verbs": ["get", "create", "update", "patch"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [names::AGENT], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [names::tenant_namespace(tenant)], "verbs": ["get"]},
    ])
}

/// Bounds for the sake of the hub's etcd, far above any quota of a Tenant, which is answered by conditions. In the API's
/// own spelling of numbers, so that they compare.
fn limits() -> Value {
    json!({
        "count/tcploadbalancers.nave.dev": "20k",
        "count/httploadbalancers.nave.dev": "20k",
        "count/nodesets.nave.dev": "1k",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_whose_tenant_is_being_deleted_only_reads() {
        let role = object(KINDS[1], "shop", Rights::Reading);
        assert_eq!(role["rules"][0]["verbs"], json!(["get", "list", "watch"]));
        assert_eq!(role["metadata"]["namespace"], "tenant-shop");
    }

    #[test]
    fn no_rule_names_secrets_or_everything() {
        let rules = rules("shop", Rights::Full).to_string();
        assert!(!rules.contains("secrets") && !rules.contains('*'));
    }
}
