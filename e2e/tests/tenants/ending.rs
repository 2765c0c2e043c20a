//! How a tenant ends: in which order, and what of it stays where its namespace has become somebody else's.

use std::cell::Cell;

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use nave_api::{ConditionType, IPAllocation, TCPLoadBalancer, Tenant, names};
use serde_json::json;

use super::hub::{Hub, eventually};
use super::{code, intent, refused};

const NAMESPACE: &str = "tenant-shop";

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_ends_in_order_and_its_agent_cannot_undo_it() {
    let hub = Hub::start().await;
    let intents = with_an_address(&hub).await;
    let tenants: Api<Tenant> = Api::all(hub.client());
    tenants.delete("shop", &DeleteParams::default()).await.unwrap();
    let refused = Cell::new(0);
    eventually("the tenant is gone", async || {
        // An agent that does not know better makes its intent again and again.
        let again = intents.create(&PostParams::default(), &intent("web")).await;
        refused.set(refused.get() + u32::from(again.is_err()));
        match tenants.get_opt("shop").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(refused.get() > 0);
    // 401 once the API has forgotten that it knew the token a moment ago.
    assert!([401, 403].contains(&code(intents.list(&ListParams::default()).await)), "its account and rights are gone");
    in_order(&hub, &["delete namespaces tenant-shop/tenant-shop"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_namespace_lost_its_label_leaves_only_the_namespace() {
    let hub = Hub::start().await;
    with_an_address(&hub).await;
    let credential = hub.secret("shop", None).await;
    let namespaces: Api<Namespace> = Api::all(hub.client());
    let unlabelled = json!({"metadata": {"labels": {names::TENANT_LABEL: null}}});
    namespaces.patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(&unlabelled)).await.unwrap();
    hub.says("shop", ConditionType::Ready, "NamespaceTaken").await;

    let tenants: Api<Tenant> = Api::all(hub.client());
    tenants.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("the tenant is gone", async || match tenants.get_opt("shop").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    in_order(&hub, &[]).await;
    let namespace = namespaces.get(NAMESPACE).await.unwrap();
    assert!(namespace.metadata.deletion_timestamp.is_none());
    let room = hub.client();
    assert!(Api::<TCPLoadBalancer>::namespaced(room.clone(), NAMESPACE).get_opt("web").await.unwrap().is_none());
    assert!(Api::<ServiceAccount>::namespaced(room.clone(), NAMESPACE).get_opt("agent").await.unwrap().is_none());
    assert!(Api::<RoleBinding>::namespaced(room.clone(), NAMESPACE).get_opt("agent").await.unwrap().is_none());
    assert!(Api::<Role>::namespaced(room.clone(), NAMESPACE).get_opt("agent").await.unwrap().is_none());
    assert!(Api::<Secret>::namespaced(room, NAMESPACE).get_opt("agent").await.unwrap().is_none());
    refused(&credential).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_own_finalizers_delay_no_end_of_the_tenant() {
    let hub = Hub::start().await;
    let intents = with_an_address(&hub).await;
    // As agents could before there was a policy. Another finalizer keeps the Tenant for us to look at.
    let (held, admin) = (json!({"metadata": {"finalizers": ["example.com/own", "example.com/more"]}}), hub.client());
    let merge = PatchParams::default();
    let all: Api<TCPLoadBalancer> = Api::namespaced(admin.clone(), NAMESPACE);
    all.patch("web", &merge, &Patch::Merge(&held)).await.unwrap();
    held_besides(&hub).await;
    let tenants: Api<Tenant> = Api::all(admin.clone());
    let kept = json!({"metadata": {"finalizers": [names::TENANT_FINALIZER, "example.com/look"]}});
    tenants.patch("shop", &merge, &Patch::Merge(&kept)).await.unwrap();

    intents.delete("web", &DeleteParams::default()).await.unwrap();
    assert!(all.get("web").await.unwrap().metadata.deletion_timestamp.is_some(), "its own finalizer holds it");
    tenants.delete("shop", &DeleteParams::default()).await.unwrap();
    let ended = eventually("nothing of ours holds the Tenant", async || {
        let tenant = tenants.get("shop").await.map_err(|error| error.to_string())?;
        if tenant.finalizers() == ["example.com/look"] { Ok(tenant) } else { Err(format!("{:?}", tenant.status)) }
    })
    .await;
    let said = format!("{:?}", ended.status);
    for what in ["example.com/own of TCPLoadBalancer web", "example.com/more of TCPLoadBalancer web", "NodeSet default"]
    {
        assert!(said.contains(what), "{what} is named: {said}");
    }
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    assert!(namespaces.get_opt(NAMESPACE).await.unwrap().is_none());
    let allocations: Api<IPAllocation> = Api::all(admin.clone());
    assert!(allocations.list(&ListParams::default()).await.unwrap().items.is_empty());
    told_by_an_event(&hub, "example.com/own of TCPLoadBalancer web").await;
    let free = json!({"metadata": {"finalizers": null}});
    tenants.patch("shop", &merge, &Patch::Merge(&free)).await.unwrap();
    assert!(tenants.get_opt("shop").await.unwrap().is_none());
}

/// Waits until an Event says this.
async fn told_by_an_event(hub: &Hub, what: &str) {
    let events: Api<Event> = Api::all(hub.client());
    eventually("an Event names the finalizers", async || {
        let all = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let notes: Vec<String> = all.into_iter().filter_map(|event| event.note).collect();
        let is_said = notes.iter().any(|note| note.contains(what));
        if is_said { Ok(()) } else { Err(format!("{notes:?}")) }
    })
    .await;
}

/// Objects of other kinds that an agent could write, each with a finalizer.
async fn held_besides(hub: &Hub) {
    for (version, kind, name) in [
        ("nave.dev/v1alpha1", "NodeSet", "default"),
        ("coordination.k8s.io/v1", "Lease", "agent"),
        ("v1", "Secret", "copy-a"),
    ] {
        let metadata = json!({"name": name, "namespace": NAMESPACE, "finalizers": ["example.com/own"]});
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
        if kind != "Secret" {
            object["spec"] = json!({});
        }
        if kind == "NodeSet" {
            object["spec"]["nodes"] = json!([]);
        }
        hub.apply(object).await;
    }
}

/// A tenant `shop` with a load balancer that has an address; its load balancers, as its agent reaches them.
async fn with_an_address(hub: &Hub) -> Api<TCPLoadBalancer> {
    let spec = json!({"source": {"static": {}}, "addresses": {"include": ["192.0.2.0/30"]}, "use": {"default": true}, "announce": {"external": {}}});
    hub.apply(json!({"apiVersion": "nave.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": "default"}, "spec": {}}))
        .await;
    hub.apply(
        json!({"apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": "public"}, "spec": spec}),
    )
    .await;
    hub.admitted("shop").await;
    let intents: Api<TCPLoadBalancer> = Api::namespaced(hub.agent("shop").await, NAMESPACE);
    intents.create(&PostParams::default(), &intent("web")).await.unwrap();
    let allocations: Api<IPAllocation> = Api::all(hub.client());
    eventually("the address is recorded", async || {
        let all = allocations.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        all.items.first().map(ResourceExt::name_any).ok_or_else(|| "none".to_owned())
    })
    .await;
    intents
}

/// The addresses are free, and everything of the tenant went one after the other: `last` before its finalizer.
async fn in_order(hub: &Hub, last: &[&str]) {
    let allocations: Api<IPAllocation> = Api::all(hub.client());
    assert!(allocations.list(&ListParams::default()).await.unwrap().items.is_empty());
    let order = [
        "patch roles tenant-shop/agent",
        "delete tcploadbalancers tenant-shop/web",
        "delete ipallocations /192.0.2",
        "delete rolebindings tenant-shop/agent",
        "delete serviceaccounts tenant-shop/agent",
    ];
    let order = order.iter().chain(last).chain(&["patch tenants /shop"]);
    let order: Vec<&str> = order.copied().collect();
    // The log has a line when the request has ended, which may be after its effect is seen.
    eventually("one after the other is in the log", async || {
        let writes = hub.writes();
        // What is gone may be deleted once more, before the watch has told: its first deletion counts.
        let at = |what: &&str| {
            let is_it = |write: &String| write.starts_with(what);
            if what.starts_with("delete") { writes.iter().position(is_it) } else { writes.iter().rposition(is_it) }
        };
        let found: Vec<_> = order.iter().map(at).collect();
        let is_so = found.iter().all(Option::is_some) && found.is_sorted();
        if is_so { Ok(()) } else { Err(format!("{found:?} of {writes:#?}")) }
    })
    .await;
}
