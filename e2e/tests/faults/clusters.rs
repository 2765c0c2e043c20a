//! Two clusters whose agents have one credential: a kubeconfig that was copied, a cluster that was cloned, rebuilt or restored. What the
//! first one has in the hub stays, and serves all the time.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use nave_api::condition::{self, ConditionType};
use nave_api::{NodeSet, TCPLoadBalancer, Tenant, names};
use nave_e2e::Lab;
use nave_e2e::Protocol::Tcp;
use nave_e2e::agent::HUB_SECRET;
use nave_e2e::lab::Spoke;
use nave_e2e::manager::NAMESPACE;
use serde_json::json;

use super::stream::Echo;
use super::{allocations, eventually};

const TENANT: &str = "spoke-1";

/// Two spokes; the networks of both may serve both tenants. The agent of the second is dead, and has the credential of the first.
async fn lab() -> Lab {
    let lab = Lab::light().spokes(2).start().await.unwrap();
    let networks: Vec<_> = lab.spokes.iter().map(|spoke| lab.plan().nodes(spoke.number())).collect();
    let tenants: Api<Tenant> = Api::all(lab.hub.client());
    for name in [TENANT, "spoke-2"] {
        let spec = json!({"spec": {"backends": {"allow": networks, "sharing": "Shared"}}});
        tenants.patch(name, &PatchParams::default(), &Patch::Merge(&spec)).await.unwrap();
    }
    let second = &lab.spokes[1];
    second.agent().unwrap().process().kill();
    let kubeconfig = lab.hub.credential(TENANT).await.unwrap();
    let metadata = json!({"name": HUB_SECRET, "namespace": NAMESPACE});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": kubeconfig}});
    second.apply(&secret).await.unwrap();
    lab
}

/// The uid of its namespace kube-system.
async fn mark(spoke: &Spoke) -> String {
    let namespaces: Api<Namespace> = Api::all(spoke.client());
    namespaces.get("kube-system").await.unwrap().uid().unwrap()
}

/// Names, uids and owners of all load balancers and NodeSets of the tenant.
async fn objects(lab: &Lab) -> Vec<(String, String, String)> {
    let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    let node_sets: Api<NodeSet> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    let intents = intents.list(&ListParams::default()).await.unwrap().items.into_iter().map(|one| one.metadata);
    let node_sets = node_sets.list(&ListParams::default()).await.unwrap().items.into_iter().map(|one| one.metadata);
    let said = |metadata: kube::core::ObjectMeta| {
        let mark = metadata.labels.unwrap_or_default().remove(names::CLUSTER).unwrap_or_default();
        (metadata.name.unwrap_or_default(), metadata.uid.unwrap_or_default(), mark)
    };
    intents.chain(node_sets).map(said).collect()
}

/// Waits until the Service says that the hub belongs to another cluster, in a condition and an Event.
async fn is_elsewhere(spoke: &Spoke, name: &str, owner: &str) {
    let services: Api<Service> = Api::namespaced(spoke.client(), "default");
    let events: Api<Event> = Api::namespaced(spoke.client(), "default");
    eventually("the Service says that the credential is another cluster's", async || {
        let service = services.get(name).await.map_err(|error| error.to_string())?;
        let conditions = service.status.and_then(|status| status.conditions).unwrap_or_default();
        let said = conditions.iter().find(|said| said.type_ == "nave.dev/Accepted" && said.reason == "OtherCluster");
        let said = said.filter(|said| said.status == "False" && said.message.contains(owner));
        let listed = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let is_it = |event: &Event| {
            let about = event.regarding.as_ref().and_then(|about| about.name.as_deref());
            about == Some(name) && event.reason.as_deref() == Some("OtherCluster")
        };
        match said {
            Some(_) if listed.iter().any(is_it) => Ok(()),
            other => Err(format!("{other:?} {conditions:?}")),
        }
    })
    .await;
}

/// Waits until the Tenant names both clusters.
async fn tenant_names(lab: &Lab, owner: &str, other: &str, status: &str) {
    let tenants: Api<Tenant> = Api::all(lab.hub.client());
    eventually("the Tenant names both clusters", async || {
        let tenant = tenants.get(TENANT).await.map_err(|error| error.to_string())?;
        let conditions = tenant.status.unwrap_or_default().conditions;
        let said = condition::find(&conditions, ConditionType::AgentConnected);
        let both = |message: &str| message.contains(&format!("belongs to cluster {owner}")) && message.contains(other);
        match said {
            Some(said) if said.reason == "OtherCluster" && said.status == status && both(&said.message) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// What an administrator does: `kubectl annotate tenant spoke-1 nave.dev/cluster=<uid>`.
async fn give_to(lab: &Lab, mark: &str) {
    let tenants: Api<Tenant> = Api::all(lab.hub.client());
    let word = json!({"metadata": {"annotations": {names::CLUSTER: mark}}});
    tenants.patch(TENANT, &PatchParams::default(), &Patch::Merge(&word)).await.unwrap();
}

/// Waits until who answers at the address is of this spoke.
async fn answers(lab: &Lab, address: IpAddr, whose: &str) {
    eventually("the cluster answers", async || {
        let banner = lab.ask(address, 8080).await.map_err(|error| format!("{error:?}"))?;
        if banner.starts_with(whose) { Ok(()) } else { Err(banner) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h_a_copied_credential_takes_nothing_from_the_first_cluster_until_an_administrator_moves_the_tenant() {
    let lab = lab().await;
    let (first, second) = (&lab.spokes[0], &lab.spokes[1]);
    let marks = (mark(first).await, mark(second).await);
    let address = first.sample("web", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    let kept = first.sample("kept", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    let before = (objects(&lab).await, allocations(&lab).await);
    assert!(before.0.iter().all(|(_, _, mark)| *mark == marks.0), "{before:?}");
    let echo = Echo::start(SocketAddr::new(address, 8080)).await.unwrap();

    // The same Service, another one, and none of `kept`.
    second.sample("web", &[(Tcp, 8080)]).await.unwrap();
    second.sample("other", &[(Tcp, 8080)]).await.unwrap();
    second.agent().unwrap().restart().await.unwrap();
    for name in ["web", "other"] {
        is_elsewhere(second, name, &marks.0).await;
    }
    tenant_names(&lab, &marks.0, &marks.1, "True").await;
    echo.moves_on().await;
    answers(&lab, address, "spoke-1/web ").await;
    assert_eq!((objects(&lab).await, allocations(&lab).await), before, "nothing was made, changed hands or ended");
    // The first goes on as if it were alone.
    first.sample("more", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();

    give_to(&lab, &marks.1).await;
    assert_eq!(second.addresses("default", "web").await.unwrap(), [address], "the load balancer keeps its address");
    answers(&lab, address, "spoke-2/web ").await;
    second.addresses("default", "other").await.unwrap();
    is_elsewhere(first, "web", &marks.1).await;
    assert_eq!(first.addresses("default", "web").await.unwrap(), [address], "the old cluster keeps what it shows");
    answers(&lab, kept, "spoke-1/kept ").await;
    let after = objects(&lab).await;
    for (name, uid, mark) in &before.0 {
        let now = after.iter().find(|(now, _, _)| now == name);
        let taken = *name == names::intent_name("Service", "default", "web");
        assert_eq!(now, Some(&(name.clone(), uid.clone(), if taken { marks.1.clone() } else { mark.clone() })));
    }
    assert!(echo.stop().await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn h_a_rebuilt_cluster_waits_for_the_administrator_while_the_old_one_is_down() {
    let lab = lab().await;
    let (first, second) = (&lab.spokes[0], &lab.spokes[1]);
    let marks = (mark(first).await, mark(second).await);
    let address = first.sample("web", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    let before = (objects(&lab).await, allocations(&lab).await);
    first.agent().unwrap().process().kill();
    // A rebuilt cluster begins without Services, and gets them back one after the other.
    second.agent().unwrap().restart().await.unwrap();
    tenant_names(&lab, &marks.0, &marks.1, "True").await;
    second.sample("web", &[(Tcp, 8080)]).await.unwrap();
    is_elsewhere(second, "web", &marks.0).await;
    assert_eq!((objects(&lab).await, allocations(&lab).await), before);
    answers(&lab, address, "spoke-1/web ").await;

    give_to(&lab, &marks.1).await;
    assert_eq!(second.addresses("default", "web").await.unwrap(), [address]);
    answers(&lab, address, "spoke-2/web ").await;
    assert_eq!(allocations(&lab).await, before.1);
    // The old cluster comes back: it takes nothing.
    first.agent().unwrap().restart().await.unwrap();
    is_elsewhere(first, "web", &marks.1).await;
    answers(&lab, address, "spoke-2/web ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h_of_two_clusters_that_begin_at_the_same_moment_one_owns_the_namespace() {
    let lab = lab().await;
    let (first, second) = (&lab.spokes[0], &lab.spokes[1]);
    let marks = [mark(first).await, mark(second).await];
    let leases: Api<Lease> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    let node_sets: Api<NodeSet> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    first.agent().unwrap().process().kill();
    leases.delete(names::AGENT, &DeleteParams::default()).await.unwrap();
    node_sets.delete(names::DEFAULT_NODE_SET, &DeleteParams::default()).await.unwrap();
    for spoke in [first, second] {
        spoke.sample("web", &[(Tcp, 8080)]).await.unwrap();
    }
    let both = [first.agent().unwrap(), second.agent().unwrap()];
    let (one, other) = tokio::join!(both[0].restart(), both[1].restart());
    one.and(other).unwrap();
    let owner = leases.get(names::AGENT).await.unwrap().labels()[names::CLUSTER].clone();
    let winner = marks.iter().position(|mark| *mark == owner).unwrap();
    let (winner, loser) = (&lab.spokes[winner], &lab.spokes[1 - winner]);
    let address = winner.addresses("default", "web").await.unwrap()[0];
    is_elsewhere(loser, "web", &owner).await;
    answers(&lab, address, &format!("{}/web ", winner.name())).await;
    let marks: Vec<String> = objects(&lab).await.into_iter().map(|(_, _, mark)| mark).collect();
    assert_eq!(marks, [owner.clone(), owner.clone()], "a load balancer and the nodes");
    assert_eq!(leases.get(names::AGENT).await.unwrap().labels()[names::CLUSTER], owner);
}
