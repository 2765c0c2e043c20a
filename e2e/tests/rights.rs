//! The rights that the charts grant are enough, and not more than that: in the life of a tenant and of a Service nobody of ours
//! is refused anything, and a manager gets no right to what is not its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use nave_api::Tenant;
use nave_e2e::account::{Chart, account};
use nave_e2e::control_plane::{Options, connect};
use nave_e2e::wait::PATIENCE;
use nave_e2e::{ControlPlane, Lab, Protocol, apply, wait};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_anything_that_he_asks_for() {
    let lab = Lab::light().audit().start().await.unwrap();
    let sample = lab.spokes[0].sample("web", &[(Protocol::Tcp, 8080)]).await.unwrap();
    let address = sample.address().await.unwrap();
    sample.answers(address).await.unwrap();
    sample.delete().await.unwrap();
    let tenants: Api<Tenant> = Api::all(lab.hub.client());
    let name = lab.spokes[0].name();
    tenants.delete(name, &DeleteParams::default()).await.unwrap();
    wait::until("the tenant has ended", PATIENCE, || async {
        let left = tenants.get_opt(name).await.map_err(|error| error.to_string())?;
        left.map_or(Ok(()), |tenant| Err(format!("{:?}", tenant.status)))
    })
    .await
    .unwrap();
    assert_eq!(refused(&lab.hub.plane, "system:serviceaccount:nave-system:nave-manager"), Vec::<String>::new());
    assert_eq!(refused(&lab.spokes[0].plane, "system:serviceaccount:nave-system:nave-agent"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_has_rights_to_secrets_in_its_namespace_and_where_it_may_bind_them() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let kubeconfig = std::fs::read_to_string(account(&plane, Chart::Manager).await.unwrap()).unwrap();
    let manager = connect(&kubeconfig).await.unwrap();
    let rooms: Api<Namespace> = Api::all(plane.client());
    for (name, label) in [("tenant-shop", "shop"), ("tenant-bare", ""), ("tenant-lies", "shop")] {
        let labels = if label.is_empty() { json!({}) } else { json!({"nave.dev/tenant": label}) };
        let room = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
        rooms.create(&PostParams::default(), &room).await.unwrap();
    }
    let own = "nave-manager-tenants";
    // The API server heeds a policy a moment after it is there: what is bound before that is bound where nothing is looked at.
    wait::until("bindings are guarded", PATIENCE, || async {
        match bind(&manager, "default", own, "nave-manager").await {
            Err(refusal) if refusal.contains("only in the namespaces of tenants") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    for (namespace, role, subject, why) in [
        ("kube-system", own, "nave-manager", "only in the namespaces of tenants"),
        ("tenant-bare", own, "nave-manager", "only in the namespaces of tenants"),
        ("tenant-lies", own, "nave-manager", "only in the namespaces of tenants"),
        ("tenant-shop", own, "default", "and itself to the ClusterRole"),
        ("tenant-shop", "nave-manager", "nave-manager", "and itself to the ClusterRole"),
    ] {
        let refusal = bind(&manager, namespace, role, subject).await.unwrap_err();
        assert!(refusal.contains(why), "{namespace} {role} {subject}: {refusal}");
    }
    for namespace in ["kube-system", "tenant-shop"] {
        let refusals = [write(&manager, namespace, "agent").await, token(&plane, &manager, namespace).await];
        assert!(refusals.iter().all(|one| one.as_ref().is_err_and(|text| text.contains("cannot"))), "{refusals:?}");
    }
    bind(&manager, "tenant-shop", own, "nave-manager").await.unwrap();
    wait::until("the binding counts", PATIENCE, || write(&manager, "tenant-shop", "agent")).await.unwrap();
    token(&plane, &manager, "tenant-shop").await.unwrap();
    changes_no_other_secret(&plane, &manager).await;
}

/// In the namespace of a tenant, with all its rights there.
async fn changes_no_other_secret(plane: &ControlPlane, manager: &Client) {
    let secrets: Api<Secret> = Api::namespaced(plane.client(), "tenant-shop");
    for name in ["others", "copy-a"] {
        let secret = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "eA=="}})).unwrap();
        secrets.create(&PostParams::default(), &secret).await.unwrap();
    }
    let own: Api<Secret> = Api::namespaced(manager.clone(), "tenant-shop");
    // Each policy is heeded a moment after it is there, not all at once.
    let tried = Cell::new(0);
    wait::until("Secrets are guarded", PATIENCE, || async {
        tried.set(tried.get() + 1);
        match write(manager, "tenant-shop", &format!("another-{}", tried.get())).await {
            Err(refusal) if refusal.contains("the Secret agent") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    let change = Patch::Merge(json!({"data": {"a": "eQ=="}}));
    let refusals = [
        write(manager, "tenant-shop", "another").await.unwrap_err(),
        own.delete("others", &DeleteParams::default()).await.unwrap_err().to_string(),
        own.patch("others", &PatchParams::default(), &change).await.unwrap_err().to_string(),
        own.patch("copy-a", &PatchParams::default(), &change).await.unwrap_err().to_string(),
    ];
    assert!(refusals.iter().all(|refusal| refusal.contains("the Secret agent")), "{refusals:#?}");
    own.delete("copy-a", &DeleteParams::default()).await.unwrap();
}

/// The manager writes a Secret.
async fn write(manager: &Client, namespace: &str, name: &str) -> Result<(), String> {
    let secrets: Api<Secret> = Api::namespaced(manager.clone(), namespace);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let written = secrets.patch(name, &PatchParams::apply("test"), &Patch::Apply(secret)).await;
    written.map(drop).map_err(|error| error.to_string())
}

/// The manager binds a ClusterRole to an account of its own namespace.
async fn bind(manager: &Client, namespace: &str, role: &str, subject: &str) -> Result<(), String> {
    let bindings: Api<RoleBinding> = Api::namespaced(manager.clone(), namespace);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "nave-manager"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "namespace": "nave-system", "name": subject}],
    });
    let how = PatchParams::apply("test").force();
    let bound = bindings.patch("nave-manager", &how, &Patch::Apply(binding)).await;
    bound.map(drop).map_err(|error| error.to_string())
}

/// The manager gets a token of the account `agent` of a namespace.
async fn token(plane: &ControlPlane, manager: &Client, namespace: &str) -> Result<(), String> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", "namespace": namespace},
    });
    apply(&plane.client(), &account).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(manager.clone(), namespace);
    let given = accounts.create_token_request("agent", &PostParams::default(), &TokenRequest::default()).await;
    given.map(drop).map_err(|error| error.to_string())
}

/// What an account asked for and was not allowed.
fn refused(plane: &ControlPlane, user: &str) -> Vec<String> {
    let log = plane.audit().unwrap();
    let entries: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let asked = entries.iter().filter(|entry| entry["user"]["username"] == user);
    assert!(asked.clone().count() > 10, "the log shows what {user} does");
    let refused = asked.filter(|entry| entry["annotations"]["authorization.k8s.io/decision"] == "forbid");
    refused.map(|entry| format!("{} {}", entry["verb"], entry["requestURI"])).collect()
}
