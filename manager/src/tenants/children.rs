//! What a tenant's namespace holds besides intents: account, role, binding, quota. Knows what an agent may do, and says it
//! as data; touches nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ResourceQuotaSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use nave_api::Tenant;
use nave_api::names::{AGENT, MANAGER, MANAGER_TENANTS, TENANT_LABEL, TENANT_UID_LABEL, tenant_namespace};
use nave_api::tenant::Quota;

/// What an agent may own, and what of it etcd shall hold at most when the Tenant sets no quota.
pub(super) const INTENTS: [(&str, u32); 3] =
    [("tcploadbalancers", 10_000), ("httploadbalancers", 10_000), ("nodesets", 10)];
/// How many Secrets a tenant's namespace may hold at most: the agent's own, and certificates.
const SECRETS: u32 = 1000;
/// A quota on objects leaves room above the Tenant's own: a load balancer that is refused there says so on itself.
const HEADROOM: u32 = 100;

/// A Tenant as its objects name it. One that was deleted and created again under the same name has another uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Its name.
    pub(super) name: String,
    /// Its uid.
    pub(super) uid: String,
    /// When it was created.
    pub(super) since: Option<Time>,
}

impl Owner {
    /// The Tenant as the API shows it.
    pub(super) fn of(tenant: &Tenant) -> Self {
        let uid = tenant.uid().unwrap_or_default();
        Self { name: tenant.name_any(), uid, since: tenant.metadata.creation_timestamp.clone() }
    }

    /// Its namespace.
    pub(super) fn namespace(&self) -> String {
        tenant_namespace(&self.name)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        [(TENANT_LABEL, &self.name), (TENANT_UID_LABEL, &self.uid)]
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .into()
    }

    /// Whether an object belongs to this Tenant by its labels. Objects of earlier releases bear no uid.
    pub(super) fn has(&self, object: &ObjectMeta) -> bool {
        self.has_name(object) && label(object, TENANT_UID_LABEL).is_none_or(|uid| *uid == self.uid)
    }

    /// Whether an object belongs to a Tenant of this name by its labels: this one, or an earlier one.
    pub(super) fn has_name(&self, object: &ObjectMeta) -> bool {
        label(object, TENANT_LABEL).is_some_and(|name| *name == self.name)
    }

    /// Whether an account was made for this very Tenant, so that its tokens open its namespace. One without a uid was if it is not older.
    pub(super) fn trusts(&self, account: &ObjectMeta) -> bool {
        match label(account, TENANT_UID_LABEL) {
            Some(uid) => *uid == self.uid,
            None => account.creation_timestamp >= self.since,
        }
    }
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a String> {
    metadata.labels.as_ref().and_then(|labels| labels.get(key))
}

/// The namespace of a tenant.
pub(super) fn namespace(owner: &Owner) -> Namespace {
    let (name, labels) = (Some(owner.namespace()), Some(owner.labels()));
    Namespace { metadata: ObjectMeta { name, labels, ..ObjectMeta::default() }, ..Namespace::default() }
}

/// The metadata of everything of ours in a tenant's namespace: all but one object is called `agent`.
pub(super) fn metadata(owner: &Owner) -> ObjectMeta {
    ObjectMeta {
        name: Some(AGENT.to_owned()),
        namespace: Some(owner.namespace()),
        labels: Some(owner.labels()),
        ..ObjectMeta::default()
    }
}

/// Who the agent is.
pub(super) fn account(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(owner),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// What the agent may do. The Lease is made by server-side apply: only there may the right to create name the object.
pub(super) fn role(owner: &Owner) -> Role {
    let intents = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let mut rules = vec![rule("nave.dev", &INTENTS.map(|(kind, _)| kind), &intents, &[])];
    rules.extend(reading(owner));
    rules.push(rule("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch", "delete"], &[AGENT]));
    // Invariant: no other verb. The answer to a patch or a deletion, or to one that is refused, may carry what is stored. Which Secrets may be
    // created, the admission policy nave-agents-secrets says.
    rules.push(rule("", &["secrets"], &["create"], &[]));
    rules.push(rule("", &["serviceaccounts/token"], &["create"], &[AGENT]));
    Role { metadata: metadata(owner), rules: Some(rules) }
}

/// What the agent may do while its tenant ends: look. Otherwise it would make again what is being deleted.
pub(super) fn role_at_the_end(owner: &Owner) -> Role {
    let mut rules = vec![rule("nave.dev", &INTENTS.map(|(kind, _)| kind), &["get", "list", "watch"], &[])];
    rules.extend(reading(owner));
    Role { metadata: metadata(owner), rules: Some(rules) }
}

fn reading(owner: &Owner) -> [PolicyRule; 2] {
    [
        rule("nave.dev", &["tcploadbalancers/status", "httploadbalancers/status"], &["get"], &[]),
        rule("", &["namespaces"], &["get"], &[&owner.namespace()]),
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
pub(super) fn binding(owner: &Owner) -> RoleBinding {
    bound(metadata(owner), "Role", AGENT, AGENT, owner.namespace())
}

/// The manager, whose account is in `home`, has its rights in the tenant's namespace.
pub(super) fn managers_binding(owner: &Owner, home: &str) -> RoleBinding {
    let metadata = ObjectMeta { name: Some(MANAGER.to_owned()), ..metadata(owner) };
    bound(metadata, "ClusterRole", MANAGER_TENANTS, MANAGER, home.to_owned())
}

fn bound(metadata: ObjectMeta, kind: &str, role: &str, account: &str, home: String) -> RoleBinding {
    let subject =
        Subject { kind: "ServiceAccount".to_owned(), name: account.to_owned(), namespace: Some(home), api_group: None };
    let role_ref =
        RoleRef { api_group: "rbac.authorization.k8s.io".to_owned(), kind: kind.to_owned(), name: role.to_owned() };
    RoleBinding { metadata, role_ref, subjects: Some(vec![subject]) }
}

/// How many objects a tenant may make at all, for etcd's sake.
pub(super) fn quota(owner: &Owner, limits: &Quota) -> ResourceQuota {
    let limit = limits.load_balancers;
    let hard = INTENTS.into_iter().map(|(kind, most)| {
        let most = match limit {
            Some(limit) if kind != "nodesets" => most.min(limit.saturating_mul(2).saturating_add(HEADROOM)),
            Some(_) | None => most,
        };
        (format!("count/{kind}.nave.dev"), quantity(most))
    });
    let secrets = limit.map_or(SECRETS, |limit| SECRETS.min(limit.saturating_add(HEADROOM)));
    let secrets = ("count/secrets".to_owned(), quantity(secrets));
    let spec = ResourceQuotaSpec { hard: Some(hard.chain([secrets]).collect()), ..ResourceQuotaSpec::default() };
    ResourceQuota { metadata: metadata(owner), spec: Some(spec), ..ResourceQuota::default() }
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

/// Whether two objects belong, by their labels, to the same Tenant.
fn same_label(present: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    [TENANT_LABEL, TENANT_UID_LABEL].iter().all(|key| label(present, key) == label(wanted, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn second(number: i64) -> Time {
        Time(Timestamp::from_second(number).unwrap())
    }

    fn shop() -> Owner {
        Owner { name: "shop".into(), uid: "u2".into(), since: Some(second(100)) }
    }

    fn hard(load_balancers: Option<u32>) -> Vec<String> {
        let limits = Quota { load_balancers, ..Quota::default() };
        let hard = super::quota(&shop(), &limits).spec.unwrap().hard.unwrap();
        hard.into_iter().map(|(kind, count)| format!("{kind}={}", count.0)).collect()
    }

    #[test]
    fn the_quota_on_objects_leaves_room_above_the_tenants_own() {
        let counts = |balancers: &str, secrets: &str| {
            vec![
                format!("count/httploadbalancers.nave.dev={balancers}"),
                "count/nodesets.nave.dev=10".to_owned(),
                format!("count/secrets={secrets}"),
                format!("count/tcploadbalancers.nave.dev={balancers}"),
            ]
        };
        assert_eq!(hard(None), counts("10k", "1k"));
        assert_eq!(hard(Some(5)), counts("110", "105"));
        assert_eq!(hard(Some(u32::MAX)), counts("10k", "1k"));
    }

    #[test]
    fn a_count_is_spelled_as_the_api_spells_it() {
        let spelled = [0, 110, 1000, 1500, 10_000, 2_000_000, 1_000_000_000].map(|count| quantity(count).0);
        assert_eq!(spelled, ["0", "110", "1k", "1500", "10k", "2M", "1G"]);
    }

    #[test]
    fn an_agent_only_creates_secrets_and_writes_no_status() {
        for rule in role(&shop()).rules.unwrap() {
            let resources = rule.resources.unwrap();
            assert!(resources.iter().all(|resource| resource != "*"));
            if resources.iter().any(|resource| resource == "secrets") {
                assert_eq!(rule.verbs, ["create"]);
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
            role_at_the_end(&shop()).rules.unwrap().into_iter().flat_map(|rule| rule.verbs).collect();
        assert!(verbs.iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str())), "{verbs:?}");
    }

    #[test]
    fn a_namespace_belongs_to_the_tenant_that_its_labels_name() {
        let labelled = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let namespace = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
            (shop().has(&namespace), shop().has_name(&namespace))
        };
        let (name, uid) = (TENANT_LABEL, TENANT_UID_LABEL);
        assert!(shop().has(&namespace(&shop()).metadata));
        assert_eq!(labelled(&[(name, "shop")]), (true, true), "by an administrator or an earlier release");
        assert_eq!(labelled(&[(name, "shop"), (uid, "u1")]), (false, true), "of an earlier Tenant");
        assert_eq!(labelled(&[(name, "other"), (uid, "u2")]), (false, false));
        assert_eq!(labelled(&[]), (false, false));
    }

    #[test]
    fn a_tenant_trusts_no_account_that_is_older_or_another_tenants() {
        let account = |uid: Option<&str>, created: i64| ObjectMeta {
            labels: uid.map(|uid| BTreeMap::from([(TENANT_UID_LABEL.to_owned(), uid.to_owned())])),
            creation_timestamp: Some(second(created)),
            ..ObjectMeta::default()
        };
        let trusted = [(Some("u2"), 99), (Some("u1"), 101), (None, 101), (None, 100), (None, 99)]
            .map(|(uid, created)| shop().trusts(&account(uid, created)));
        assert_eq!(trusted, [true, false, true, true, false]);
    }
}
