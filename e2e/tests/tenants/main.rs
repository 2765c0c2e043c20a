//! The tenants' rooms, made by a real manager in a real API server: what a credential opens, what is written and what is
//! not, and how a tenant ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod copies;
mod ending;
mod hub;
mod trust;

use hub::{Hub, can, eventually, kubeconfig};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use nave_api::{ConditionType, TCPLoadBalancer, Tenant, names};
use nave_e2e::control_plane;
use serde_json::{Value, json};

/// `allowed`, verb, group, resource, name, namespace.
const RIGHTS: [(bool, &str, &str, &str, &str, &str); 38] = [
    (true, "get", "nave.dev", "tcploadbalancers", "", "tenant-shop"),
    (true, "list", "nave.dev", "tcploadbalancers", "", "tenant-shop"),
    (true, "watch", "nave.dev", "tcploadbalancers", "", "tenant-shop"),
    (true, "create", "nave.dev", "tcploadbalancers", "", "tenant-shop"),
    (true, "patch", "nave.dev", "httploadbalancers", "", "tenant-shop"),
    (true, "update", "nave.dev", "nodesets", "", "tenant-shop"),
    (true, "delete", "nave.dev", "nodesets", "", "tenant-shop"),
    (true, "get", "nave.dev", "tcploadbalancers/status", "", "tenant-shop"),
    (true, "get", "", "namespaces", "tenant-shop", "tenant-shop"),
    (true, "patch", "coordination.k8s.io", "leases", "agent", "tenant-shop"),
    (true, "create", "coordination.k8s.io", "leases", "agent", "tenant-shop"),
    (true, "delete", "coordination.k8s.io", "leases", "agent", "tenant-shop"),
    (true, "create", "", "serviceaccounts/token", "agent", "tenant-shop"),
    (false, "patch", "nave.dev", "tcploadbalancers/status", "", "tenant-shop"),
    (false, "update", "nave.dev", "httploadbalancers/status", "", "tenant-shop"),
    (false, "deletecollection", "nave.dev", "tcploadbalancers", "", "tenant-shop"),
    (false, "get", "", "secrets", "agent", "tenant-shop"),
    (false, "list", "", "secrets", "", "tenant-shop"),
    (true, "create", "", "secrets", "", "tenant-shop"),
    (false, "patch", "", "secrets", "copy-web", "tenant-shop"),
    (false, "delete", "", "secrets", "copy-web", "tenant-shop"),
    (false, "update", "", "secrets", "web", "tenant-shop"),
    (false, "create", "", "secrets", "", "tenant-other"),
    (false, "create", "", "pods", "", "tenant-shop"),
    (false, "create", "", "services", "", "tenant-shop"),
    (false, "create", "coordination.k8s.io", "leases", "other", "tenant-shop"),
    (false, "delete", "coordination.k8s.io", "leases", "other", "tenant-shop"),
    (false, "create", "", "serviceaccounts/token", "default", "tenant-shop"),
    (false, "create", "rbac.authorization.k8s.io", "rolebindings", "", "tenant-shop"),
    (false, "patch", "rbac.authorization.k8s.io", "roles", "agent", "tenant-shop"),
    (false, "patch", "", "namespaces", "tenant-shop", "tenant-shop"),
    (false, "get", "nave.dev", "tcploadbalancers", "", "tenant-other"),
    (false, "create", "nave.dev", "tcploadbalancers", "", "tenant-other"),
    (false, "get", "", "namespaces", "tenant-other", "tenant-other"),
    (false, "list", "nave.dev", "tcploadbalancers", "", ""),
    (false, "get", "nave.dev", "tenants", "shop", ""),
    (false, "list", "nave.dev", "ipallocations", "", ""),
    (false, "list", "", "namespaces", "", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_opens_the_tenants_own_room_and_nothing_else() {
    let hub = Hub::start().await;
    hub.admitted("shop").await;
    hub.admitted("other").await;
    let agent = hub.agent("shop").await;
    eventually("the API server knows the account's rights", async || {
        let known = can(&agent, "create", "nave.dev", "tcploadbalancers", "", "tenant-shop").await;
        if known { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    for (allowed, verb, group, resource, name, namespace) in RIGHTS {
        let answer = can(&agent, verb, group, resource, name, namespace).await;
        assert_eq!(answer, allowed, "{verb} {resource}.{group} {name} in {namespace:?}");
    }
    // The same by deeds.
    let own: Api<TCPLoadBalancer> = Api::namespaced(agent.clone(), "tenant-shop");
    own.create(&PostParams::default(), &intent("web")).await.unwrap();
    let theirs: Api<TCPLoadBalancer> = Api::namespaced(agent.clone(), "tenant-other");
    assert_eq!(code(theirs.create(&PostParams::default(), &intent("web")).await), 403);
    assert_eq!(code(theirs.list(&ListParams::default()).await), 403);
    assert_eq!(code(Api::<Secret>::namespaced(agent.clone(), "tenant-shop").get("agent").await), 403);

    // A heartbeat makes the Lease and shows on the Tenant.
    beat(&agent, "0.1.0/one", 1).await;
    hub.says("shop", ConditionType::AgentConnected, "Heard").await;
    let tenants: Api<Tenant> = Api::all(hub.client());
    let heard = tenants.get("shop").await.unwrap().status.unwrap().agent.unwrap();
    assert_eq!(heard.version.as_deref(), Some("0.1.0"));
    hub.says("other", ConditionType::AgentConnected, "NeverHeard").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_in_order_is_never_written() {
    let hub = Hub::start().await;
    hub.admitted("shop").await;
    let agent = hub.agent("shop").await;
    beat(&agent, "0.1.0/one", 1).await;
    hub.says("shop", ConditionType::AgentConnected, "Heard").await;
    hub.admitted("first-barrier").await; // What was begun before is done now.
    let tenants: Api<Tenant> = Api::all(hub.client());
    eventually("the usage is counted, which is another room's", async || {
        let status = tenants.get("shop").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        status.used.map(drop).ok_or_else(|| "not counted".to_owned())
    })
    .await;
    let (versions, writes) = (hub.versions("shop").await, about(&hub, "shop"));
    for round in 2..12 {
        beat(&agent, "0.1.0/one", round).await;
        let touch = json!({"metadata": {"annotations": {"round": round.to_string()}}});
        tenants.patch("shop", &PatchParams::default(), &Patch::Merge(&touch)).await.unwrap();
    }
    hub.admitted("second-barrier").await;
    assert_eq!(hub.versions("shop").await, versions);
    assert_eq!(about(&hub, "shop"), writes);
    // A new version of the agent is news.
    beat(&agent, "0.2.0/two", 20).await;
    eventually("the new version shows", async || {
        let status = tenants.get("shop").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let version = status.agent.and_then(|agent| agent.version);
        if version.as_deref() == Some("0.2.0") { Ok(()) } else { Err(format!("{version:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_by_hand_comes_back() {
    let hub = Hub::start().await;
    hub.admitted("shop").await;
    let first = hub.secret("shop", None).await;
    let (namespace, gone) = ("tenant-shop", DeleteParams::default());

    // A role that somebody widened, and a binding to another role.
    let roles: Api<Role> = Api::namespaced(hub.client(), namespace);
    let narrow = roles.get("agent").await.unwrap().rules;
    let wide = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    roles.patch("agent", &PatchParams::default(), &Patch::Merge(&wide)).await.unwrap();
    eventually("the role is narrow again", async || {
        let rules = roles.get("agent").await.map_err(|error| error.to_string())?.rules;
        if rules == narrow { Ok(()) } else { Err(format!("{rules:?}")) }
    })
    .await;
    let bindings: Api<RoleBinding> = Api::namespaced(hub.client(), namespace);
    let uid = bindings.get("agent").await.unwrap().uid();
    bindings.delete("agent", &gone).await.unwrap();
    // For a moment after that the API server still grants what the old one gave.
    eventually("the binding is another one", async || match bindings.get("agent").await {
        Ok(present) if present.uid() != uid => Ok(()),
        other => Err(format!("{:?}", other.map(|binding| binding.metadata))),
    })
    .await;
    let agent = hub.agent("shop").await;
    eventually("the agent may work again", async || {
        if can(&agent, "create", "nave.dev", "nodesets", "", namespace).await { Ok(()) } else { Err("not yet".into()) }
    })
    .await;

    // The whole namespace.
    let namespaces: Api<Namespace> = Api::all(hub.client());
    let uid = namespaces.get(namespace).await.unwrap().uid();
    namespaces.delete(namespace, &gone).await.unwrap();
    eventually("the namespace is another one", async || match namespaces.get(namespace).await {
        Ok(present) if present.uid() != uid => Ok(()),
        other => Err(format!("{:?}", other.map(|namespace| namespace.status))),
    })
    .await;
    works(&hub.secret("shop", kubeconfig(&first).as_deref()).await).await;
    hub.says("shop", ConditionType::Ready, "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_replaced_gently_or_at_once() {
    let hub = Hub::start().await;
    hub.admitted("shop").await;
    let (namespace, gone) = ("tenant-shop", DeleteParams::default());
    let first = hub.secret("shop", None).await;

    // Gently: both are good until the old one ends by its age.
    let secrets: Api<Secret> = Api::namespaced(hub.client(), namespace);
    let forget = json!({"metadata": {"annotations": {"nave.dev/issued-at": null}}});
    secrets.patch("agent", &PatchParams::default(), &Patch::Merge(&forget)).await.unwrap();
    let second = hub.secret("shop", kubeconfig(&first).as_deref()).await;
    works(&first).await;
    works(&second).await;

    // At once: the Secret's end is the end of the tokens that are bound to it.
    secrets.delete("agent", &gone).await.unwrap();
    let third = hub.secret("shop", kubeconfig(&second).as_deref()).await;
    refused(&first).await;
    refused(&second).await;
    works(&third).await;

    // The account's end is the end of all its tokens.
    let accounts: Api<ServiceAccount> = Api::namespaced(hub.client(), namespace);
    accounts.delete("agent", &gone).await.unwrap();
    let fourth = hub.secret("shop", kubeconfig(&third).as_deref()).await;
    refused(&third).await;
    works(&fourth).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_who_gets_token_after_token_has_nothing_when_the_secret_is_deleted() {
    let hub = Hub::start().await;
    hub.admitted("shop").await;
    let stolen = hub.secret("shop", None).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (text, (got, mut gets)) = (kubeconfig(&stolen).unwrap(), tokio::sync::watch::channel(0));
    let thief = tokio::spawn(steal(text, got, stopped));
    gets.wait_for(|tokens| *tokens >= 3).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(hub.client(), "tenant-shop");
    secrets.delete("agent", &DeleteParams::default()).await.unwrap();
    hub.says("shop", ConditionType::Ready, "CredentialVoid").await;
    let next = hub.secret("shop", kubeconfig(&stolen).as_deref()).await;
    hub.says("shop", ConditionType::Ready, "Ready").await;
    works(&next).await;
    stop.send_replace(true);
    let loot = thief.await.unwrap();
    refused(&stolen).await;
    for token in loot.iter().rev().take(20) {
        let client = control_plane::connect(&with_token(&kubeconfig(&stolen).unwrap(), token)).await.unwrap();
        let intents: Api<TCPLoadBalancer> = Api::default_namespaced(client);
        assert_eq!(code(intents.list(&ListParams::default()).await), 401, "one of {} tokens", loot.len());
    }
}

/// Gets token after token, each by the one before, until told to stop; all of them.
async fn steal(
    mut text: String,
    got: tokio::sync::watch::Sender<usize>,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Vec<String> {
    let mut loot = Vec::new();
    let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": "agent"});
    let wanted = json!({"spec": {"audiences": [], "boundObjectRef": bound, "expirationSeconds": 604_800}});
    let wanted: TokenRequest = serde_json::from_value(wanted).unwrap();
    while !*stop.borrow() {
        let accounts: Api<ServiceAccount> = Api::default_namespaced(control_plane::connect(&text).await.unwrap());
        if let Ok(answer) = accounts.create_token_request("agent", &PostParams::default(), &wanted).await {
            let token = answer.status.unwrap().token;
            text = with_token(&text, &token);
            loot.push(token);
            got.send_replace(loot.len());
        }
    }
    loot
}

/// The same kubeconfig with another token.
fn with_token(kubeconfig: &str, token: &str) -> String {
    let from = kubeconfig.find("eyJ").expect("a token");
    let length = kubeconfig[from..].find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap();
    [&kubeconfig[..from], token, &kubeconfig[from + length..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_wait_for_a_manager_all_get_their_rooms() {
    let hub = Hub::start().await;
    let names = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
    hub.without_manager(async {
        for name in names {
            hub.admit(name).await;
        }
    })
    .await;
    for name in names {
        hub.says(name, ConditionType::Ready, "Ready").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_was_there_is_refused_and_left_alone() {
    let hub = Hub::start().await;
    let namespaces: Api<Namespace> = Api::all(hub.client());
    hub.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-shop"}})).await;
    let before = namespaces.get("tenant-shop").await.unwrap();
    hub.admit("shop").await;
    let said = hub.says("shop", ConditionType::Ready, "NamespaceTaken").await;
    assert_eq!(said.status, "False");
    assert!(said.message.contains("nave.dev/tenant=shop"), "it says how to mend it: {}", said.message);
    let accounts: Api<ServiceAccount> = Api::namespaced(hub.client(), "tenant-shop");
    assert!(accounts.get_opt("agent").await.unwrap().is_none());

    // Its end touches nothing in there.
    let tenants: Api<Tenant> = Api::all(hub.client());
    tenants.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("the tenant is gone", async || match tenants.get_opt("shop").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(namespaces.get("tenant-shop").await.unwrap().metadata, before.metadata);

    // Handed over by its label, it is the tenant's.
    let label = json!({"metadata": {"labels": {names::TENANT_LABEL: "shop"}}});
    namespaces.patch("tenant-shop", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    hub.admitted("shop").await;
    works(&hub.secret("shop", None).await).await;
}

fn intent(name: &str) -> TCPLoadBalancer {
    let spec = json!({
        "ports": [{"name": "tcp", "protocol": "TCP", "port": 443, "backendPort": 31_443}],
        "backends": {"endpoints": [{"addresses": ["10.20.0.5"]}]},
    });
    TCPLoadBalancer::new(name, serde_json::from_value(spec).unwrap())
}

/// The agent renews its Lease, as it does every half minute.
async fn beat(agent: &Client, holder: &str, second: u32) {
    let now = k8s_openapi::jiff::Timestamp::now();
    let renewed = format!("{}.{second:06}Z", now.strftime("%Y-%m-%dT%H:%M:%S"));
    let lease: Value = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": names::AGENT},
        "spec": {"holderIdentity": holder, "renewTime": renewed},
    });
    let leases: Api<Lease> = Api::default_namespaced(agent.clone());
    let parameters = PatchParams::apply(names::AGENT_MANAGER).force();
    leases.patch(names::AGENT, &parameters, &Patch::Apply(&lease)).await.unwrap();
}

/// What the manager wrote about a tenant so far.
fn about(hub: &Hub, tenant: &str) -> Vec<String> {
    let (namespace, name) = (format!(" {}/", names::tenant_namespace(tenant)), format!(" /{tenant}"));
    let writes = hub.writes().into_iter();
    writes.filter(|write| write.contains(&namespace) || write.ends_with(&name)).collect()
}

async fn works(secret: &Secret) {
    let client = control_plane::connect(&kubeconfig(secret).unwrap()).await.unwrap();
    let intents: Api<TCPLoadBalancer> = Api::default_namespaced(client);
    eventually("the credential opens the room", async || {
        intents.list(&ListParams::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn refused(secret: &Secret) {
    let client = control_plane::connect(&kubeconfig(secret).unwrap()).await.unwrap();
    let intents: Api<TCPLoadBalancer> = Api::default_namespaced(client);
    eventually("the old credential is void", async || match intents.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
        other => Err(format!("{:?}", other.map(drop))),
    })
    .await;
}

/// The status code of an API error.
fn code<T>(answer: kube::Result<T>) -> u16 {
    match answer {
        Err(kube::Error::Api(status)) => status.code,
        Ok(_) => 200,
        Err(error) => panic!("{error}"),
    }
}
