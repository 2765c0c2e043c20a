//! A hub without managers and a spoke with an agent: the test speaks for the hub. Knows how to set both up, with the
//! narrowest rights that the agent can live with; knows no expectation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, Secret, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, CustomResourceExt as _, ResourceExt as _};
use nave_api::{NodeSet, TCPLoadBalancer, names};
use nave_e2e::agent::HUB_SECRET;
use nave_e2e::manager::NAMESPACE;
pub use nave_e2e::wait::PATIENCE;
use nave_e2e::{Agent, ControlPlane, Supervisor, control_plane, wait};
use serde_json::{Value, json};

/// The tenant's namespace in the hub.
pub const TENANT: &str = "tenant-shop";

/// Both sides, and the agent between them.
pub struct Pair {
    pub agent: Agent,
    pub hub: ControlPlane,
    pub spoke: ControlPlane,
    /// The agent's kubeconfig of the spoke.
    pub account: PathBuf,
}

impl Pair {
    /// Starts everything, the agent with more flags; it is ready.
    pub async fn start(flags: &[&str]) -> Self {
        let supervisor = Supervisor::start().unwrap();
        let outcome = Self::start_in(&supervisor, flags).await;
        supervisor.judge(outcome).unwrap()
    }

    async fn start_in(supervisor: &Arc<Supervisor>, flags: &[&str]) -> nave_e2e::Result<Self> {
        let options = |name: &str| control_plane::Options { name: name.into(), audit: true, ..Default::default() };
        let both = control_plane::Options { more_services: "fd00:96::/112".parse().ok(), ..options("spoke") };
        let (hub, spoke) = tokio::try_join!(
            ControlPlane::start_in(supervisor, options("hub")),
            ControlPlane::start_in(supervisor, both)
        )?;
        prepare_hub(&hub).await?;
        report(&spoke, BASE, "10.0.0.99", "True").await;
        let account = nave_e2e::account(&spoke, nave_e2e::Chart::Agent).await?;
        keep(&spoke, &credential(&hub).await).await;
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let agent = Agent::start(supervisor, "spoke", &account, &flags)?;
        agent.ready().await?;
        Ok(Self { agent, hub, spoke, account })
    }

    /// Services of the namespace `default`.
    pub fn services(&self) -> Api<Service> {
        Api::namespaced(self.spoke.client(), "default")
    }

    /// Load balancers of the tenant.
    pub fn intents(&self) -> Api<TCPLoadBalancer> {
        Api::namespaced(self.hub.client(), TENANT)
    }

    /// The tenant's nodes.
    pub fn node_sets(&self) -> Api<NodeSet> {
        Api::namespaced(self.hub.client(), TENANT)
    }

    /// Makes `default/<name>` of type `LoadBalancer`, with more in its spec.
    pub async fn service(&self, name: &str, more: Value) -> Service {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 443, "targetPort": 8443}]},
        });
        for (field, value) in more.as_object().unwrap() {
            service["spec"][field] = value.clone();
        }
        self.services().create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap()
    }

    /// Waits for what stands for `default/<name>` in the hub.
    pub async fn intent(&self, name: &str) -> TCPLoadBalancer {
        let name = intent_name(name);
        let look = || async { self.intents().get(&name).await.map_err(|error| error.to_string()) };
        wait::until("the intent is there", PATIENCE, look).await.unwrap()
    }

    /// Waits until our finalizer is on `default/<name>`: the agent asks the hub at the same time, and does not wait for it.
    pub async fn held(&self, name: &str) {
        self.until("our finalizer is on the Service", async || {
            let finalizers = self.services().get(name).await.map_err(|error| error.to_string())?.finalizers().to_vec();
            if finalizers == [names::AGENT_FINALIZER] { Ok(()) } else { Err(format!("{finalizers:?}")) }
        })
        .await;
    }

    /// Speaks for the manager. What is no IPv4 address is a name.
    pub async fn answer(&self, name: &str, addresses: &[&str], programmed: &str, reason: &str) {
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|address| {
                let family = address.parse::<Ipv4Addr>().ok().map(|_| "IPv4");
                json!({"value": address, "family": family, "pool": "public", "ports": [{"protocol": "TCP", "port": 443}]})
            })
            .collect();
        let condition = json!({"type": "Programmed", "status": programmed, "reason": reason, "message": "the test says so",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1});
        let status = json!({"status": {"addresses": addresses, "conditions": [condition]}});
        let patch = Patch::Merge(&status);
        self.intents().patch_status(&intent_name(name), &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until `default/<name>` shows these addresses or names.
    pub async fn shows(&self, name: &str, addresses: &[&str]) {
        self.until("the Service shows its addresses", async || {
            let service = self.services().get(name).await.map_err(|error| error.to_string())?;
            let balancer = service.status.and_then(|status| status.load_balancer);
            let ingress = balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
            let shown: Vec<String> = ingress.into_iter().filter_map(|entry| entry.ip.or(entry.hostname)).collect();
            if shown == addresses { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await;
    }

    /// Waits until the Events of `default/<name>` have exactly these reasons, sorted.
    pub async fn is_told(&self, name: &str, reasons: &[&str]) {
        let events: Api<Event> = Api::namespaced(self.spoke.client(), "default");
        self.until("its Events are told", async || {
            let listed = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let of =
                |event: &&Event| event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name);
            let told: BTreeSet<&str> = listed.iter().filter(of).filter_map(|event| event.reason.as_deref()).collect();
            if told.into_iter().eq(reasons.iter().copied()) { Ok(()) } else { Err(format!("{listed:?}")) }
        })
        .await;
    }

    /// Waits until a condition of `default/<name>` has this status and reason, or until it is not there; its message.
    pub async fn says(&self, name: &str, condition: &str, wanted: Option<(&str, &str)>) -> String {
        let look = || async {
            let service = self.services().get(name).await.map_err(|error| error.to_string())?;
            let conditions = service.status.and_then(|status| status.conditions).unwrap_or_default();
            let said = conditions.iter().find(|said| said.type_ == condition);
            let same = said.map(|said| (said.status.as_str(), said.reason.as_str())) == wanted;
            let message = said.map(|said| said.message.clone()).unwrap_or_default();
            if same { Ok(message) } else { Err(format!("{conditions:?}")) }
        };
        let said = wait::until(&format!("{condition} of {name} is {wanted:?}"), PATIENCE, look).await;
        said.unwrap_or_else(|error| panic!("{error:?}\n{}", self.agent.process().tail(40)))
    }

    /// Waits until so many Events of `default/<name>` have this reason; what they say, sorted.
    pub async fn notes(&self, name: &str, reason: &str, count: usize) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.spoke.client(), "default");
        let look = || async {
            let listed = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let of = |event: &&Event| {
                event.reason.as_deref() == Some(reason)
                    && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
            };
            let mut notes: Vec<String> = listed.iter().filter(of).filter_map(|event| event.note.clone()).collect();
            notes.sort();
            if notes.len() == count { Ok(notes) } else { Err(format!("{notes:?}")) }
        };
        let said = wait::until(&format!("{count} Events of {name} say {reason}"), PATIENCE, look).await;
        said.unwrap_or_else(|error| panic!("{error:?}\n{}", self.agent.process().tail(40)))
    }

    /// Waits until neither side has anything of `default/<name>`.
    pub async fn gone(&self, name: &str) {
        self.until("the Service and its intent are gone", async || {
            let service = self.services().get_opt(name).await.map_err(|error| error.to_string())?;
            let intent = self.intents().get_opt(&intent_name(name)).await.map_err(|error| error.to_string())?;
            if service.is_none() && intent.is_none() { Ok(()) } else { Err(format!("{service:?} {intent:?}")) }
        })
        .await;
    }

    /// Looks until it is so; the panic says what was seen last, and how the agent's log ends.
    pub async fn until(&self, what: &str, look: impl AsyncFn() -> Result<(), String>) {
        if let Err(error) = wait::until(what, PATIENCE, || look()).await {
            panic!("{error:?}\n{}", self.agent.process().tail(40));
        }
    }

    /// Writing requests that an API server has had from a user so far.
    pub fn writes(plane: &ControlPlane, user: &str) -> Vec<String> {
        let log = plane.audit().unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["user"]["username"] == user && line["stage"] == "ResponseComplete")
            .filter(|line| !["get", "list", "watch"].contains(&line["verb"].as_str().unwrap_or_default()))
            .map(|line| format!("{} {}", line["verb"], line["requestURI"]))
            .collect()
    }
}

/// A node that is ready from the start: without any, every Service would say so.
pub const BASE: &str = "base";

/// Makes a node with this address, or says of it whether it is ready.
pub async fn report(spoke: &ControlPlane, name: &str, address: &str, ready: &str) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    nave_e2e::apply(&spoke.client(), &node).await.unwrap();
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": ready}],
        "addresses": [{"type": "InternalIP", "address": address}]}});
    let nodes: Api<Node> = Api::all(spoke.client());
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

/// The name in the hub of `default/<name>`.
pub fn intent_name(name: &str) -> String {
    names::intent_name("Service", "default", name)
}

/// The agent's account in the hub, as audit logs have it.
pub const HUB_USER: &str = "system:serviceaccount:tenant-shop:agent";

async fn prepare_hub(hub: &ControlPlane) -> nave_e2e::Result<()> {
    // The agent's own kinds: it knows no others.
    for kind in [TCPLoadBalancer::crd(), NodeSet::crd()] {
        nave_e2e::apply(&hub.client(), &serde_json::to_value(kind).unwrap()).await?;
    }
    let served = async || {
        let all: Api<TCPLoadBalancer> = Api::all(hub.client());
        let sets: Api<NodeSet> = Api::all(hub.client());
        all.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
        sets.list(&kube::api::ListParams::default()).await.map(drop).map_err(|error| error.to_string())
    };
    wait::until("the hub serves our kinds", PATIENCE, served).await?;
    admit(hub).await
}

/// What the manager does for a tenant: a namespace, an account and its rights.
pub async fn admit(hub: &ControlPlane) -> nave_e2e::Result<()> {
    let rules = json!([
        {"apiGroups": ["nave.dev"], "resources": ["tcploadbalancers", "nodesets"],
            "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["agent"], "verbs": ["get", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["agent"], "verbs": ["create"]},
    ]);
    let named = json!({"name": "agent", "namespace": TENANT});
    let subject = json!({"kind": "ServiceAccount", "name": "agent", "namespace": TENANT});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent"});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TENANT}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": named, "rules": rules}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": named, "roleRef": role, "subjects": [subject]}),
    ];
    for object in &objects {
        nave_e2e::apply(&hub.client(), object).await?;
    }
    Ok(())
}

/// A kubeconfig of the agent's account in the hub, as the manager makes it.
pub async fn credential(hub: &ControlPlane) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(hub.client(), TENANT);
    let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let issued = accounts.create_token_request("agent", &PostParams::default(), &request).await.unwrap();
    let authority = STANDARD.encode(hub.authority().certificate());
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "hub",
        "clusters": [{"name": "hub", "cluster": {"server": hub.url(), "certificate-authority-data": authority}}],
        "users": [{"name": "agent", "user": {"token": issued.status.unwrap().token}}],
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": "agent", "namespace": TENANT}}],
    });
    serde_saphyr::to_string(&kubeconfig).unwrap()
}

/// Puts the credential where the agent finds it.
pub async fn keep(spoke: &ControlPlane, kubeconfig: &str) {
    let metadata = json!({"name": HUB_SECRET, "namespace": NAMESPACE});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": kubeconfig}});
    nave_e2e::apply(&spoke.client(), &secret).await.unwrap();
}

/// The credential as it is kept now.
pub async fn kept(spoke: &ControlPlane) -> String {
    let secrets: Api<Secret> = Api::namespaced(spoke.client(), NAMESPACE);
    let mut data: BTreeMap<String, ByteString> = secrets.get(HUB_SECRET).await.unwrap().data.unwrap();
    String::from_utf8(data.remove("kubeconfig").unwrap().0).unwrap()
}
