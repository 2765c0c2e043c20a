//! A hub with one manager that has the rights of its chart, and nothing else, for the tenants' tests. Knows how to make
//! tenants and to ask what became of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use nave_api::{Condition, ConditionType, Tenant, condition, names};
use nave_e2e::control_plane::{self, ControlPlane};
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Chart, Manager, Supervisor, account, apply, manager, wait};
use serde_json::{Value, json};

/// Who the manager is in the audit log.
const WHO: &str = "system:serviceaccount:nave-system:nave-manager";

/// The hub; the manager ends first.
pub(crate) struct Hub {
    manager: Manager,
    plane: ControlPlane,
}

impl Hub {
    /// Starts a control plane with our kinds, and a manager.
    pub(crate) async fn start() -> Self {
        Self::with_flags(&[]).await
    }

    /// The same with more flags for the manager.
    pub(crate) async fn with_flags(flags: &[&str]) -> Self {
        let supervisor = Supervisor::start().unwrap();
        let options = control_plane::Options { audit: true, ..control_plane::Options::default() };
        let plane = supervisor.judge(ControlPlane::start_in(&supervisor, options).await).unwrap();
        for kind in nave_api::crds() {
            apply(&plane.client(), &serde_json::to_value(kind).unwrap()).await.unwrap();
        }
        established(&plane.client()).await;
        let options = manager::Options {
            kubeconfig: account(&plane, Chart::Manager).await.unwrap(),
            hub_api: plane.url(),
            address: Ipv4Addr::LOCALHOST.into(),
            hub_networks: vec![plane.services()],
            loopback_backends: false,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        let manager = Manager::start(&supervisor, 0, &options).unwrap();
        supervisor.judge(manager.ready().await).unwrap();
        Self { manager, plane }
    }

    /// The administrator.
    pub(crate) fn client(&self) -> Client {
        self.plane.client()
    }

    /// The manager is gone while `meanwhile` happens.
    pub(crate) async fn without_manager(&self, meanwhile: impl Future<Output = ()>) {
        self.manager.process().kill();
        meanwhile.await;
        self.manager.restart().await.unwrap();
    }

    /// Applies any object as the administrator.
    pub(crate) async fn apply(&self, object: Value) {
        apply(&self.client(), &object).await.unwrap();
    }

    /// Makes a tenant.
    pub(crate) async fn admit(&self, name: &str) {
        let spec = json!({"backends": {"allow": ["10.20.0.0/16"]}});
        let metadata = json!({"name": name});
        self.apply(json!({"apiVersion": "nave.dev/v1alpha1", "kind": "Tenant", "metadata": metadata, "spec": spec}))
            .await;
    }

    /// Makes a tenant and waits until its room is ready.
    pub(crate) async fn admitted(&self, name: &str) {
        self.admit(name).await;
        self.says(name, ConditionType::Ready, "Ready").await;
    }

    /// Waits until a Tenant has a condition with this reason.
    pub(crate) async fn says(&self, name: &str, kind: ConditionType, reason: &str) -> Condition {
        let tenants: Api<Tenant> = Api::all(self.client());
        eventually(&format!("{name} says {reason}"), async || {
            let status = tenants.get(name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            let found = condition::find(&status.conditions, kind).filter(|found| found.reason == reason).cloned();
            found.ok_or_else(|| format!("{status:?}"))
        })
        .await
    }

    /// The Secret with the credential, once it is another one than `before`.
    pub(crate) async fn secret(&self, tenant: &str, before: Option<&str>) -> Secret {
        let secrets: Api<Secret> = Api::namespaced(self.client(), &names::tenant_namespace(tenant));
        eventually(&format!("{tenant} has a credential"), async || {
            let secret = secrets.get(names::AGENT).await.map_err(|error| error.to_string())?;
            match kubeconfig(&secret) {
                Some(text) if Some(text.as_str()) != before => Ok(secret),
                Some(_) => Err("the one before".to_owned()),
                None => Err("an empty one".to_owned()),
            }
        })
        .await
    }

    /// The agent's client, as its kubeconfig makes it.
    pub(crate) async fn agent(&self, tenant: &str) -> Client {
        let text = kubeconfig(&self.secret(tenant, None).await).unwrap();
        control_plane::connect(&text).await.unwrap()
    }

    /// The versions of everything of a tenant, by kind and name: what is written changes its version.
    pub(crate) async fn versions(&self, tenant: &str) -> BTreeMap<String, String> {
        let kinds = [
            ("", "ServiceAccount", "serviceaccounts"),
            ("", "Secret", "secrets"),
            ("", "ResourceQuota", "resourcequotas"),
            ("rbac.authorization.k8s.io", "Role", "roles"),
            ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
        ];
        let mut versions = BTreeMap::new();
        for (group, kind, plural) in kinds {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
            let namespace = names::tenant_namespace(tenant);
            let objects: Api<DynamicObject> = Api::namespaced_with(self.client(), &namespace, &resource);
            for object in objects.list(&ListParams::default()).await.unwrap() {
                versions.insert(format!("{kind} {}", object.name_any()), object.resource_version().unwrap_or_default());
            }
        }
        versions
    }

    /// What the manager wrote so far, in the order in which it asked: verb, kind and name, from the API server's own log.
    pub(crate) fn writes(&self) -> Vec<String> {
        let log = self.plane.audit().unwrap();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut writes: Vec<(String, String)> = entries
            .filter(|entry| entry["user"]["username"] == WHO)
            .filter_map(|entry| Some((entry["requestReceivedTimestamp"].as_str()?.to_owned(), write(&entry)?)))
            .collect();
        writes.sort_by(|(one, _), (other, _)| one.cmp(other));
        writes.into_iter().map(|(_, write)| write).collect()
    }
}

fn write(entry: &Value) -> Option<String> {
    let verb = entry["verb"].as_str().filter(|verb| !["get", "list", "watch"].contains(verb))?;
    let object = &entry["objectRef"];
    let part = |key: &str| object[key].as_str().unwrap_or_default();
    let place = if part("subresource").is_empty() { String::new() } else { format!("/{}", part("subresource")) };
    Some(format!("{verb} {}{place} {}/{}", part("resource"), part("namespace"), part("name")))
}

/// The kubeconfig in a Secret.
pub(crate) fn kubeconfig(secret: &Secret) -> Option<String> {
    let data = secret.data.as_ref()?.get(names::KUBECONFIG_KEY)?;
    String::from_utf8(data.0.clone()).ok()
}

/// Whether the API says that the client may: `verb resource[/subresource] [name] [in NAMESPACE]`.
pub(crate) async fn can(client: &Client, verb: &str, group: &str, resource: &str, name: &str, namespace: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let attributes = ResourceAttributes {
        verb: text(verb),
        group: text(group),
        resource: text(resource),
        subresource: text(subresource),
        name: text(name),
        namespace: text(namespace),
        ..ResourceAttributes::default()
    };
    let spec =
        SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    reviews.create(&PostParams::default(), &review).await.unwrap().status.is_some_and(|status| status.allowed)
}

/// Looks again until it is so.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
    wait::until(what, PATIENCE, || look()).await.unwrap()
}

async fn established(client: &Client) {
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    eventually("our kinds are served", async || {
        let listed = kinds.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let waits = listed.items.iter().find(|kind| {
            let conditions = kind.status.as_ref().and_then(|status| status.conditions.as_ref());
            !conditions.into_iter().flatten().any(|one| one.type_ == "Established" && one.status == "True")
        });
        waits.map_or(Ok(()), |kind| Err(kind.name_any()))
    })
    .await;
}
