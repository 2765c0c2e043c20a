//! What is a credential, and what is one no more: a Secret or account that is being deleted, and whatever was issued for an earlier Tenant of
//! the same name.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use nave_api::{ConditionType, TCPLoadBalancer, Tenant, names};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::hub::{Hub, eventually, kubeconfig};
use super::{intent, refused, works};

const NAMESPACE: &str = "tenant-shop";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_or_account_that_a_finalizer_holds_is_gone_as_a_credential() {
    let hub = Hub::start().await;
    hub.admitted("shop").await;
    let first = hub.secret("shop", None).await;
    hold_and_delete::<Secret>(&hub, DeleteParams::default()).await;
    hub.says("shop", ConditionType::Ready, "CredentialVoid").await;
    refused(&first).await;
    let second = hub.secret("shop", kubeconfig(&first).as_deref()).await;
    works(&second).await;
    hub.says("shop", ConditionType::Ready, "Ready").await;

    hold_and_delete::<ServiceAccount>(&hub, DeleteParams::default()).await;
    hub.says("shop", ConditionType::Ready, "CredentialVoid").await;
    refused(&second).await;
    let third = hub.secret("shop", kubeconfig(&second).as_deref()).await;
    works(&third).await;
    hub.says("shop", ConditionType::Ready, "Ready").await;

    // In the foreground, with an object hooked to it: nothing collects garbage sooner than the manager looks.
    let secrets: Api<Secret> = Api::namespaced(hub.client(), NAMESPACE);
    let uid = secrets.get(names::AGENT).await.unwrap().uid().unwrap();
    let owner =
        json!([{"apiVersion": "v1", "kind": "Secret", "name": "agent", "uid": uid, "blockOwnerDeletion": true}]);
    let mut hooked =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hooked", "namespace": NAMESPACE}});
    hooked["metadata"]["ownerReferences"] = owner;
    hooked["metadata"]["finalizers"] = json!(["example.com/held"]);
    hub.apply(hooked).await;
    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    secrets.delete(names::AGENT, &foreground).await.unwrap();
    hub.says("shop", ConditionType::Ready, "CredentialVoid").await;
    refused(&third).await;
    works(&hub.secret("shop", kubeconfig(&third).as_deref()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_created_again_trusts_no_credential_of_the_earlier_one() {
    let hub = Hub::start().await;
    hub.admitted("shop").await;
    let first = hub.secret("shop", None).await;
    let own: Api<TCPLoadBalancer> = Api::namespaced(hub.agent("shop").await, NAMESPACE);
    eventually("the agent may write", async || {
        own.create(&PostParams::default(), &intent("web")).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    again(&hub, &json!({})).await;
    let said = hub.says("shop", ConditionType::Ready, "NamespaceTaken").await;
    refused(&first).await;
    let tenants: Api<Tenant> = Api::all(hub.client());
    let uid = tenants.get("shop").await.unwrap().uid().unwrap();
    assert!(said.message.contains(&format!("nave.dev/tenant-uid={uid}")), "it says what to do: {}", said.message);

    // An administrator hands the namespace over: with its load balancers, and a new credential.
    label::<Namespace>(&hub.client(), NAMESPACE, &json!({names::TENANT_UID_LABEL: uid})).await;
    hub.says("shop", ConditionType::Ready, "Ready").await;
    let second = hub.secret("shop", kubeconfig(&first).as_deref()).await;
    works(&second).await;
    refused(&first).await;
    let balancers: Api<TCPLoadBalancer> = Api::namespaced(hub.client(), NAMESPACE);
    assert!(balancers.get("web").await.unwrap().metadata.deletion_timestamp.is_none());

    // A namespace of an earlier release or of a backup names no uid. An administrator's label alone hands it over.
    again(&hub, &json!({names::TENANT_UID_LABEL: null})).await;
    hub.says("shop", ConditionType::Ready, "Ready").await;
    let third = hub.secret("shop", kubeconfig(&second).as_deref()).await;
    works(&third).await;
    refused(&second).await;
    assert!(balancers.get("web").await.unwrap().metadata.deletion_timestamp.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_an_earlier_release_stays_good_for_its_tenant() {
    let hub = Hub::start().await;
    hub.admitted("shop").await;
    let first = hub.secret("shop", None).await;
    hub.without_manager(unmarked(&hub.client(), &json!({names::TENANT_UID_LABEL: null}))).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(hub.client(), NAMESPACE);
    eventually("the account is marked", async || {
        let account = accounts.get(names::AGENT).await.map_err(|error| error.to_string())?;
        account.labels().get(names::TENANT_UID_LABEL).cloned().ok_or_else(|| "it is not".to_owned())
    })
    .await;
    hub.says("shop", ConditionType::Ready, "Ready").await;
    works(&first).await;
    assert_eq!(kubeconfig(&hub.secret("shop", None).await), kubeconfig(&first));
}

/// Removes the Tenant by force and creates it again while no manager looks; labels of what it had become these.
async fn again(hub: &Hub, labels: &Value) {
    let tenants: Api<Tenant> = Api::all(hub.client());
    hub.without_manager(async {
        let before = tenants.get("shop").await.unwrap();
        // The API tells ages by the second.
        eventually("a second has passed", async || {
            let now = k8s_openapi::jiff::Timestamp::now().as_second();
            let created = accounts_born(&hub.client()).await;
            if now > created { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        tenants.delete("shop", &DeleteParams::default()).await.unwrap();
        let bare = json!({"metadata": {"finalizers": null}});
        tenants.patch("shop", &PatchParams::default(), &Patch::Merge(&bare)).await.unwrap();
        eventually("the Tenant is gone", async || match tenants.get_opt("shop").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        unmarked(&hub.client(), labels).await;
        hub.admit("shop").await;
        assert_ne!(tenants.get("shop").await.unwrap().uid(), before.uid());
    })
    .await;
}

async fn accounts_born(client: &Client) -> i64 {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    accounts.get(names::AGENT).await.unwrap().metadata.creation_timestamp.unwrap().0.as_second()
}

async fn unmarked(client: &Client, labels: &Value) {
    label::<Namespace>(client, NAMESPACE, labels).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = json!({"metadata": {"labels": labels}});
    accounts.patch(names::AGENT, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn label<K>(client: &Client, name: &str, labels: &Value)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope> + Clone + DeserializeOwned + Debug,
{
    let patch = json!({"metadata": {"labels": labels}});
    Api::<K>::all(client.clone()).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// Puts a foreign finalizer on the object `agent` and deletes it.
async fn hold_and_delete<K>(hub: &Hub, how: DeleteParams)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let objects: Api<K> = Api::namespaced(hub.client(), NAMESPACE);
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    objects.patch(names::AGENT, &PatchParams::default(), &Patch::Merge(&held)).await.unwrap();
    objects.delete(names::AGENT, &how).await.unwrap();
}
