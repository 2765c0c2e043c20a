//! What a tenant's namespace holds besides intents: account, role, binding, quota. Knows what an agent may do, and says it
//! as data; touches nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ResourceQuotaSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use nave_api::names::{AGENT, TENANT_LABEL, tenant_namespace};
use nave_api::tenant::Quota;

/// What an agent may own, and what of it etcd shall hold at most when the Tenant sets no quota.
pub(super) const INTENTS: [(&str, u32); 3] =
    [("tcploadbalancers", 10_000), ("httploadbalancers", 10_000), ("nodesets", 10)];
/// How many Secrets a tenant's namespace may hold: the agent's own, and certificates.
const SECRETS: u32 = 1000;
/// A quota on objects leaves room above the Tenant's own: a load balancer that is refused there says so on itself.
const HEADROOM: u32 = 100;

/// The namespace of a tenant.
pub(super) fn namespace(tenant: &str) -> Namespace {
    let labels = BTreeMap::from([(TENANT_LABEL.to_owned(), tenant.to_owned())]);
    let metadata = ObjectMeta { name: Some(tenant_namespace(tenant)), labels: Some(labels), ..ObjectMeta::default() };
    Namespace { metadata, ..Namespace::default() }
}

/// Whether a namespace is this tenant's.
pub(super) fn is_ours(namespace: &ObjectMeta, tenant: &str) -> bool {
    namespace.labels.as_ref().and_then(|labels| labels.get(TENANT_LABEL)).is_some_and(|name| name == tenant)
}

/// The metadata of everything of ours in a tenant's namespace: all is called `agent`.
pub(super) fn metadata(tenant: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(AGENT.to_owned()),
        namespace: Some(tenant_namespace(tenant)),
        labels: Some(BTreeMap::from([(TENANT_LABEL.to_owned(), tenant.to_owned())])),
        ..ObjectMeta::default()
    }
}

/// Who the agent is.
pub(super) fn account(tenant: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(tenant),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// What the agent may do. The Lease is made by server-side apply: only there may the right to create name the object.
pub(super) fn role(tenant: &str) -> Role {
    let intents = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let mut rules = vec![rule("nave.dev", &INTENTS.map(|(kind, _)| kind), &intents, &[])];
    rules.extend(reading(tenant));
    rules.push(rule("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch", "delete"], &[AGENT]));
    // Written unseen, by server-side apply. Which ones, the admission policy nave-agents-secrets says.
    rules.push(rule("", &["secrets"], &["create", "patch", "delete"], &[]));
    rules.push(rule("", &["serviceaccounts/token"], &["create"], &[AGENT]));
    Role { metadata: metadata(tenant), rules: Some(rules) }
}

/// What the agent may do while its tenant ends: look. Otherwise it would make again what is being deleted.
pub(super) fn role_at_the_end(tenant: &str) -> Role {
    let mut rules = vec![rule("nave.dev", &INTENTS.map(|(kind, _)| kind), &["get", "list", "watch"], &[])];
    rules.extend(reading(tenant));
    Role { metadata: metadata(tenant), rules: Some(rules) }
}

fn reading(tenant: &str) -> [PolicyRule; 2] {
    [
        rule("nave.dev", &["tcploadbalancers/status", "httploadbalancers/status"], &["get"], &[]),
        rule("", &["namespaces"], &["get"], &[&tenant_namespace(tenant)]),
    ]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str], names: &[&str]) -> PolicyRule {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        resource_names: (!names.is_empty()).then(|| owned(names)),
        non_resource_urls: None,
    }
}

/// The agent has the role.
pub(super) fn binding(tenant: &str) -> RoleBinding {
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        name: AGENT.to_owned(),
        namespace: Some(tenant_namespace(tenant)),
        api_group: None,
    };
    RoleBinding {
        metadata: metadata(tenant),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: AGENT.to_owned(),
        },
        subjects: Some(vec![subject]),
    }
}

/// How many objects a tenant may make at all, for etcd's sake.
pub(super) fn quota(tenant: &str, limits: &Quota) -> ResourceQuota {
    let limit = limits.load_balancers;
    let hard = INTENTS.into_iter().map(|(kind, most)| {
        let most = match limit {
            Some(limit) if kind != "nodesets" => most.min(limit.saturating_mul(2).saturating_add(HEADROOM)),
            Some(_) | None => most,
        };
        (format!("count/{kind}.nave.dev"), quantity(most))
    });
    let secrets = ("count/secrets".to_owned(), quantity(SECRETS));
    let spec = ResourceQuotaSpec { hard: Some(hard.chain([secrets]).collect()), ..ResourceQuotaSpec::default() };
    ResourceQuota { metadata: metadata(tenant), spec: Some(spec), ..ResourceQuota::default() }
}

/// A count as the API spells it, so that what it shows compares with what we want.
fn quantity(count: u32) -> Quantity {
    let thousands = count / 1000;
    let whole = count > 0 && count.is_multiple_of(1000);
    Quantity(match whole {
        true if thousands.is_multiple_of(1_000_000) => format!("{}G", thousands / 1_000_000),
        true if thousands.is_multiple_of(1000) => format!("{}M", thousands / 1000),
        true => format!("{thousands}k"),
        false => count.to_string(),
    })
}

/// Whether an account is as wanted; what others add to it is theirs.
pub(super) fn same_account(present: &ServiceAccount, wanted: &ServiceAccount) -> bool {
    present.automount_service_account_token == wanted.automount_service_account_token
        && same_label(&present.metadata, &wanted.metadata)
}

/// Whether a role is as wanted, rule by rule.
pub(super) fn same_role(present: &Role, wanted: &Role) -> bool {
    present.rules == wanted.rules && same_label(&present.metadata, &wanted.metadata)
}

/// Whether a binding is as wanted. The API fills in what a subject leaves out.
pub(super) fn same_binding(present: &RoleBinding, wanted: &RoleBinding) -> bool {
    let names = |binding: &RoleBinding| -> Vec<(String, String, Option<String>)> {
        let subjects = binding.subjects.iter().flatten();
        subjects.map(|subject| (subject.kind.clone(), subject.name.clone(), subject.namespace.clone())).collect()
    };
    present.role_ref == wanted.role_ref
        && names(present) == names(wanted)
        && same_label(&present.metadata, &wanted.metadata)
}

/// Whether a quota is as wanted.
pub(super) fn same_quota(present: &ResourceQuota, wanted: &ResourceQuota) -> bool {
    let hard = |quota: &ResourceQuota| quota.spec.as_ref().and_then(|spec| spec.hard.clone());
    hard(present) == hard(wanted) && same_label(&present.metadata, &wanted.metadata)
}

/// Whether an object is, by its label, as much this tenant's as another.
pub(super) fn same_label(present: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let label = |metadata: &ObjectMeta| metadata.labels.as_ref().and_then(|labels| labels.get(TENANT_LABEL).cloned());
    label(present) == label(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hard(load_balancers: Option<u32>) -> Vec<String> {
        let limits = Quota { load_balancers, ..Quota::default() };
        let hard = super::quota("shop", &limits).spec.unwrap().hard.unwrap();
        hard.into_iter().map(|(kind, count)| format!("{kind}={}", count.0)).collect()
    }

    #[test]
    fn the_quota_on_objects_leaves_room_above_the_tenants_own() {
        let counts = |balancers: &str| {
            vec![
                format!("count/httploadbalancers.nave.dev={balancers}"),
                "count/nodesets.nave.dev=10".to_owned(),
                "count/secrets=1k".to_owned(),
                format!("count/tcploadbalancers.nave.dev={balancers}"),
            ]
        };
        assert_eq!(hard(None), counts("10k"));
        assert_eq!(hard(Some(5)), counts("110"));
        assert_eq!(hard(Some(u32::MAX)), counts("10k"));
    }

    #[test]
    fn a_count_is_spelled_as_the_api_spells_it() {
        let spelled = [0, 110, 1000, 1500, 10_000, 2_000_000, 1_000_000_000].map(|count| quantity(count).0);
        assert_eq!(spelled, ["0", "110", "1k", "1500", "10k", "2M", "1G"]);
    }

    #[test]
    fn an_agent_sees_no_secret_and_writes_no_status() {
        for rule in role("shop").rules.unwrap() {
            let resources = rule.resources.unwrap();
            assert!(resources.iter().all(|resource| resource != "*"));
            if resources.iter().any(|resource| resource == "secrets") {
                assert_eq!(rule.verbs, ["create", "patch", "delete"]);
            }
            assert!(rule.verbs.iter().all(|verb| verb != "*" && verb != "deletecollection"));
            if resources.iter().any(|resource| resource.ends_with("/status")) {
                assert_eq!(rule.verbs, ["get"]);
            }
        }
    }

    #[test]
    fn at_the_end_an_agent_only_looks() {
        let verbs: Vec<String> =
            role_at_the_end("shop").rules.unwrap().into_iter().flat_map(|rule| rule.verbs).collect();
        assert!(verbs.iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str())), "{verbs:?}");
    }

    #[test]
    fn a_namespace_without_our_label_is_not_ours() {
        assert!(is_ours(&namespace("shop").metadata, "shop"));
        assert!(!is_ours(&namespace("shop").metadata, "other"));
        assert!(!is_ours(&ObjectMeta::default(), "shop"));
    }
}
