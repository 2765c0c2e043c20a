//! What every provider of addresses must do, asked of each with the real manager: deliver what is ordered, change it, end it,
//! survive a restart, and never give away what still gets traffic. Knows behaviours; what a cloud does is next door.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod cloud;

use k8s_openapi::api::core::v1::{ResourceQuota, Service};
use kube::Api;
use kube::api::DeleteParams;
use nave_api::{ConditionType, IPAllocation, IPPool, TCPLoadBalancer, condition, names};
use nave_e2e::Protocol::{Tcp, Udp};
use nave_e2e::manager::NAMESPACE;
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Lab, wait};
use serde_json::{Value, json};

use cloud::Cloud;

/// A lab whose default pool is given by a cloud, with Envoy ports that no other lab on this machine uses.
async fn lab(per: &str) -> (Lab, Cloud) {
    let lab = Lab::light().start().await.unwrap();
    let cloud = Cloud::start(&lab).await;
    let mut service = json!({"per": per, "annotations": {"cloud.example/size": "small"}});
    if per == "LoadBalancer" {
        service["envoyPorts"] = json!({"low": cloud.first_port(), "high": cloud.first_port() + 1});
    }
    let spec = json!({"source": {"service": service}, "use": {"default": true, "priority": 100}});
    let pool =
        json!({"apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": "cloud"}, "spec": spec});
    lab.hub.apply(&pool).await.unwrap();
    says(&lab, "Ready").await;
    (lab, cloud)
}

/// Waits until the pool is Ready for this reason; its message.
async fn says(lab: &Lab, reason: &str) -> String {
    let pools: Api<IPPool> = Api::all(lab.hub.client());
    wait::until(&format!("the cloud's pool says {reason}"), PATIENCE, || async {
        let status = pools.get("cloud").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        match condition::find(&status.conditions, ConditionType::Ready) {
            Some(ready) if ready.reason == reason => Ok(ready.message.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap_or_else(|error| panic!("{error:?}"))
}

async fn eventually(what: &str, look: impl AsyncFn() -> Result<(), String>) {
    wait::until(what, PATIENCE, || look()).await.unwrap_or_else(|error| panic!("{error:?}"));
}

fn owners(record: Option<&IPAllocation>) -> Vec<(String, Value)> {
    let owners = record.into_iter().flat_map(|record| &record.spec.owners);
    owners.map(|owner| (owner.name.clone(), serde_json::to_value(&owner.ports).unwrap())).collect()
}

async fn record(lab: &Lab) -> Option<IPAllocation> {
    let allocations: Api<IPAllocation> = Api::all(lab.hub.client());
    allocations.get_opt(&names::service_allocation_name("cloud")).await.unwrap()
}

fn intent(name: &str) -> String {
    names::intent_name("Service", "default", name)
}

/// What an order says of a Service.
fn shape(service: Option<Service>) -> Value {
    let mut spec = serde_json::to_value(service.and_then(|service| service.spec)).unwrap();
    let ports = spec["ports"].as_array_mut().into_iter().flatten();
    ports.for_each(|port| drop(port.as_object_mut().unwrap().remove("nodePort")));
    json!({"selector": spec["selector"], "ports": spec["ports"], "policy": spec["externalTrafficPolicy"]})
}

async fn allocated(lab: &Lab, name: &str) -> String {
    let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    let status = intents.get_opt(&intent(name)).await.unwrap().and_then(|intent| intent.status).unwrap_or_default();
    let found = condition::find(&status.conditions, ConditionType::Allocated);
    found.map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
}

/// Waits until it says that it waits for the cloud.
async fn awaits_cloud(lab: &Lab, name: &str) {
    eventually("it waits for the cloud and says so", async || match allocated(lab, name).await.as_str() {
        "False/AwaitsCloud" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_gives_each_load_balancer_an_address_and_takes_it_back() {
    let (lab, cloud) = lab("LoadBalancer").await;
    let web = lab.spokes[0].sample("web", &[(Tcp, 8080)]).await.unwrap();
    let address = web.address().await.unwrap();
    assert!(cloud.gave(address).await, "{address} is the cloud's");
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("spoke-1/web on node-"));

    let name = names::hub_service_name("cloud", Some(("tenant-spoke-1", &intent("web"))));
    let service = cloud.service(&name).await.expect("the hub has a Service for it");
    let (annotations, spec) = (service.metadata.annotations.unwrap(), service.spec.unwrap());
    assert_eq!(annotations["cloud.example/size"], "small");
    assert_eq!(spec.selector.unwrap(), [("nave.dev/fleet".to_owned(), "default".to_owned())].into());
    assert_eq!(spec.external_traffic_policy.as_deref(), Some("Local"));
    let recorded = owners(record(&lab).await.as_ref());
    let ports = json!([{"protocol": "TCP", "port": cloud.first_port(), "standsFor": 8080}]);
    assert_eq!(recorded, [(intent("web"), ports)]);

    // Somebody edits the Service by hand: it becomes again what it was.
    let ordered = shape(cloud.service(&name).await);
    let ports =
        json!([{"name": "tcp-8080", "port": 8080, "targetPort": 22}, {"name": "more", "port": 8081, "targetPort": 22}]);
    for edit in [
        json!({"selector": {"nave.dev/fleet": "other"}}),
        json!({"ports": ports}),
        json!({"externalTrafficPolicy": "Cluster"}),
    ] {
        cloud.edit_by_hand(&name, &edit).await;
        eventually("the Service is as it was ordered", async || match shape(cloud.service(&name).await) {
            now if now == ordered => Ok(()),
            now => Err(format!("{edit}: {now}")),
        })
        .await;
    }

    // Somebody deletes the Service by hand: it comes back.
    cloud.delete_by_hand(&name).await;
    eventually("the Service is made anew", async || {
        let service = cloud.service(&name).await.filter(|service| service.metadata.deletion_timestamp.is_none());
        service.map(drop).ok_or_else(|| "there is none".to_owned())
    })
    .await;
    eventually("it answers again", async || {
        let address = web.address().await.map_err(|error| format!("{error:?}"))?;
        lab.ask(address, 8080).await.map(drop).map_err(|error| format!("{error:?}"))
    })
    .await;

    web.delete().await.unwrap();
    eventually("the Service and the record are gone", async || {
        match (cloud.service(&name).await, record(&lab).await) {
            (None, None) => Ok(()),
            (service, record) => Err(format!("{service:?}, {record:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_hub_refuses_is_told_and_goes_on_when_it_may() {
    let (lab, _cloud) = lab("LoadBalancer").await;
    quota(&lab, 0).await;
    let web = lab.spokes[0].sample("web", &[(Tcp, 8080)]).await.unwrap();
    let message = says(&lab, "OrderRefused").await;
    assert!(message.contains("nave-cloud-") && message.contains("exceeded quota: clouds"), "{message}");
    awaits_cloud(&lab, "web").await;
    quota(&lab, 1).await;
    let address = web.address().await.unwrap();
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("spoke-1/web on node-"));
    says(&lab, "Ready").await;
}

/// So many load balancers may the hub order of its cloud.
async fn quota(lab: &Lab, services: u32) {
    let hard = json!({"services.loadbalancers": services.to_string()});
    let metadata = json!({"name": "clouds", "namespace": NAMESPACE});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}});
    lab.hub.apply(&quota).await.unwrap();
    let quotas: Api<ResourceQuota> = Api::namespaced(lab.hub.client(), NAMESPACE);
    eventually("the quota is in force", async || {
        let quota = quotas.get("clouds").await.map_err(|error| error.to_string())?;
        let status = quota.status.unwrap_or_default();
        let is_counted = status.used.is_some() && status.hard == quota.spec.and_then(|spec| spec.hard);
        if is_counted { Ok(()) } else { Err(format!("{:?} {:?}", status.hard, status.used)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_cloud_and_a_manager_killed_lose_nothing_and_give_nothing_away() {
    let (lab, cloud) = lab("LoadBalancer").await;
    cloud.pause(true).await;
    let web = lab.spokes[0].sample("web", &[(Tcp, 8080), (Udp, 8080)]).await.unwrap();
    awaits_cloud(&lab, "web").await;
    lab.hub.managers[0].process().kill();
    lab.hub.managers[0].process().restart().unwrap();
    lab.hub.managers[0].ready().await.unwrap();
    cloud.pause(false).await;
    let address = web.address().await.unwrap();
    eventually("it answers", async || lab.ask(address, 8080).await.map(drop).map_err(|e| format!("{e:?}"))).await;
    assert_eq!(cloud.services().await.len(), 1, "one Service, however often a manager began");

    // The cloud takes its time to end it: until then, the port behind it stays recorded.
    cloud.pause(true).await;
    let before = owners(record(&lab).await.as_ref());
    let services: Api<Service> = Api::namespaced(lab.spokes[0].client(), "default");
    services.delete("web", &DeleteParams::default()).await.unwrap();
    eventually("the Service is withdrawn", async || {
        let leaving = cloud.services().await.into_iter().all(|service| service.metadata.deletion_timestamp.is_some());
        if leaving { Ok(()) } else { Err("it stays".to_owned()) }
    })
    .await;
    assert_eq!(owners(record(&lab).await.as_ref()), before);
    lab.spokes[0].sample("mail", &[(Tcp, 8081)]).await.unwrap();
    eventually("another one gets another port", async || match owners(record(&lab).await.as_ref()).as_slice() {
        [_, _] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    cloud.pause(false).await;
    eventually("the record forgets the first", async || match owners(record(&lab).await.as_ref()).as_slice() {
        [(name, _)] if *name == intent("mail") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_for_the_fleet_serves_all_its_load_balancers_by_port() {
    let (lab, cloud) = lab("Fleet").await;
    let (one, other) = (cloud.first_port(), cloud.first_port() + 1);
    let web = lab.spokes[0].sample("web", &[(Tcp, one)]).await.unwrap();
    let mail = lab.spokes[0].sample("mail", &[(Tcp, other)]).await.unwrap();
    let (address, same) = (web.address().await.unwrap(), mail.address().await.unwrap());
    assert_eq!(address, same);
    eventually("both answer", async || {
        let banners = [lab.ask(address, one).await, lab.ask(address, other).await];
        match banners.map(|banner| banner.unwrap_or_else(|error| format!("{error:?}"))) {
            [first, second] if first.contains("/web ") && second.contains("/mail ") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(cloud.services().await.len(), 1);
}
