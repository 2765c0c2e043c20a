//! Objects that the API server takes and a program cannot read. Knows how they are made; knows no program from inside.

use std::net::SocketAddr;

use http::{Method, Request};
use k8s_openapi::api::core::v1::Service;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use nave_api::{IPAllocation, TCPLoadBalancer};
use nave_e2e::Protocol::Tcp;
use nave_e2e::lab::addresses_of;
use nave_e2e::{Lab, control_plane};
use serde_json::{Value, json};

use super::stream::Echo;
use super::{connected, eventually};

/// The last second that RFC 3339 can write, a day later than the programs can count.
const NEVER: &str = "9999-12-31T23:59:59Z";
pub(super) const NAVE: &str = "/apis/nave.dev/v1alpha1";

/// Asks the API server for something in a way that no typed client would.
pub(super) async fn raw(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value, String> {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let request = request.body(Body::from(body.to_string().into_bytes())).expect("a request");
    let answer = client.send(request).await.map_err(|error| error.to_string())?;
    let code = answer.status();
    let text = answer.into_body().collect_bytes().await.map_err(|error| error.to_string())?;
    let object = serde_json::from_slice(&text).unwrap_or(Value::Null);
    if code.is_success() { Ok(object) } else { Err(format!("{code} {object}")) }
}

/// A client with what the agent of spoke-2 was given.
pub(super) async fn attacker(lab: &Lab) -> Client {
    control_plane::connect(&lab.hub.credential("spoke-2").await.unwrap()).await.unwrap()
}

/// Restarts every program that holds state of the lab.
async fn restart(lab: &Lab) {
    for manager in &lab.hub.managers {
        manager.restart().await.unwrap();
    }
    lab.spokes[0].agent().unwrap().restart().await.unwrap();
    eventually("Envoy found a manager", async || connected(lab, 1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_writes_that_cannot_be_read_stops_no_other_tenant() {
    let mut lab = Lab::light().spokes(2).start().await.unwrap();
    lab.spokes[1].agent = None; // its credential is in other hands now
    let sample = lab.spokes[0].sample("web", &[(Tcp, 8080)]).await.unwrap();
    let address = sample.address().await.unwrap();
    sample.answers(address).await.unwrap();
    let echo = Echo::start(SocketAddr::new(address, 8080)).await.unwrap();

    let (attacker, spoke) = (attacker(&lab).await, lab.spokes[0].client());
    let intents = format!("{NAVE}/namespaces/tenant-spoke-2/tcploadbalancers");
    let spec = json!({"ports": [{"port": 80, "backendPort": 30000}], "backends": {"nodes": {"nodeSet": "default"}}});
    let fields = json!([{"manager": "m", "operation": "Update", "apiVersion": "nave.dev/v1alpha1", "time": NEVER,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]);
    let intent = json!({"apiVersion": "nave.dev/v1alpha1", "kind": "TCPLoadBalancer",
        "metadata": {"name": "fields", "managedFields": fields}, "spec": spec});
    raw(&attacker, Method::POST, &intents, &intent).await.unwrap();
    let lease = "/apis/coordination.k8s.io/v1/namespaces/tenant-spoke-2/leases/agent";
    let renewed = json!({"spec": {"renewTime": "9999-12-31T23:59:59.000000Z"}});
    raw(&attacker, Method::PATCH, lease, &renewed).await.unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "fields", "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1",
            "time": NEVER, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    raw(&spoke, Method::POST, "/api/v1/namespaces/default/services", &service).await.unwrap();

    for name in ["during", "after"] {
        let new = lab.spokes[0].sample(name, &[(Tcp, 8080)]).await.unwrap();
        let address = new.address().await.unwrap();
        new.answers(address).await.unwrap();
        restart(&lab).await;
    }
    // Managed fields make nothing unreadable, to the agent: this test's own client could not read the Service.
    eventually("the Service with unreadable managed fields has an address", async || {
        let service = raw(&spoke, Method::GET, "/api/v1/namespaces/default/services/fields", &Value::Null).await?;
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array().map_or(0, Vec::len);
        if ingress == 1 { Ok(()) } else { Err(service["status"].to_string()) }
    })
    .await;
    assert!(echo.stop().await.unwrap() > 0);
    assert_eq!(sample.address().await.unwrap(), address);
}

/// What must not move: the addresses of Services, and who has which in the hub.
async fn belongings(lab: &Lab) -> Value {
    let (hub, spoke) = (lab.hub.client(), lab.spokes[0].client());
    let services = raw(&spoke, Method::GET, "/api/v1/namespaces/default/services", &Value::Null);
    let services = services.await.unwrap()["items"].as_array().unwrap().clone();
    let services: Vec<Value> = services
        .iter()
        .map(|service| {
            json!([service["metadata"]["name"], service["status"]["loadBalancer"], service["metadata"]["finalizers"]])
        })
        .collect();
    let list = async |plural: &str| raw(&hub, Method::GET, &format!("{NAVE}/{plural}"), &Value::Null).await.unwrap();
    let allocations: Vec<Value> = list("ipallocations").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|allocation| json!([allocation["metadata"]["name"], allocation["metadata"]["uid"], allocation["spec"]]))
        .collect();
    let intents: Vec<Value> = list("tcploadbalancers").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|intent| {
            json!([
                intent["metadata"]["name"],
                intent["metadata"]["uid"],
                intent["spec"],
                intent["status"]["addresses"]
            ])
        })
        .collect();
    json!([services, allocations, intents])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_beside_an_unreadable_object_of_every_kind_cuts_no_connection_and_moves_no_address() {
    let lab = Lab::light().managers(2).start().await.unwrap();
    let sample = lab.spokes[0].sample("web", &[(Tcp, 8080)]).await.unwrap();
    let address = sample.address().await.unwrap();
    sample.answers(address).await.unwrap();
    let echo = Echo::start(SocketAddr::new(address, 8080)).await.unwrap();
    let before = belongings(&lab).await;

    let (hub, spoke) = (lab.hub.client(), lab.spokes[0].client());
    let intents: Api<TCPLoadBalancer> = Api::namespaced(hub.clone(), "tenant-spoke-1");
    let intent = intents.list(&ListParams::default()).await.unwrap().items.remove(0).name_any();
    let allocations: Api<IPAllocation> = Api::all(hub.clone());
    let allocation = allocations.list(&ListParams::default()).await.unwrap().items.remove(0).name_any();
    let node = lab.spokes[0].nodes[0].name().to_owned();
    let in_hub = [
        format!("{NAVE}/namespaces/tenant-spoke-1/tcploadbalancers/{intent}"),
        format!("{NAVE}/tenants/spoke-1"),
        format!("{NAVE}/ippools/public"),
        format!("{NAVE}/ipallocations/{allocation}"),
        format!("{NAVE}/fleets/default"),
        "/api/v1/namespaces/tenant-spoke-1".to_owned(),
    ];
    let in_spoke = ["/api/v1/namespaces/default/services/web".to_owned(), format!("/api/v1/nodes/{node}")];
    let objects = in_hub.iter().map(|path| (&hub, path)).chain(in_spoke.iter().map(|path| (&spoke, path)));
    let objects: Vec<(&Client, &String)> = objects.collect();
    // A running manager would write most of it away at once.
    lab.hub.managers.iter().for_each(|manager| manager.process().kill());
    lab.spokes[0].agent().unwrap().process().kill();
    lab.hub.unbound_moments().await.unwrap();
    for (client, path) in &objects {
        spoil(client, path).await;
    }
    restart(&lab).await;
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("spoke-1/web"));
    echo.moves_on().await;
    assert_eq!(belongings(&lab).await, before);
    let leader = lab.hub.managers[0].get("/metrics").await.unwrap();
    assert!(leader.contains("nave_unreadable_objects{kind=\"IPAllocation\"} 1"), "{leader}");

    for (client, path) in &objects {
        repair(client, path).await;
    }
    let later = lab.spokes[0].sample("later", &[(Tcp, 8080)]).await.unwrap();
    let new = later.address().await.unwrap();
    later.answers(new).await.unwrap();
    later.delete().await.unwrap();
    assert!(echo.stop().await.unwrap() > 0);
    let services: Api<Service> = Api::namespaced(spoke, "default");
    assert_eq!(addresses_of(&services.get("web").await.unwrap()), [address]);
}

/// Writes a condition into the object's status whose time cannot be read.
async fn spoil(client: &Client, path: &str) {
    eventually("the object is spoilt", async || {
        let mut conditions = conditions(client, path).await?;
        conditions.push(condition(path, NEVER));
        write(client, path, &conditions).await
    })
    .await;
}

/// Takes it away.
async fn repair(client: &Client, path: &str) {
    eventually("the object is repaired", async || {
        let mut conditions = conditions(client, path).await?;
        conditions.retain(|condition| condition["type"] != "Spoilt");
        write(client, path, &conditions).await
    })
    .await;
}

fn condition(path: &str, time: &str) -> Value {
    let mut condition =
        json!({"type": "Spoilt", "status": "True", "reason": "Spoilt", "message": "", "lastTransitionTime": time});
    if path.contains("/nodes/") {
        condition["lastHeartbeatTime"] = json!(time);
    }
    condition
}

async fn conditions(client: &Client, path: &str) -> Result<Vec<Value>, String> {
    let object = raw(client, Method::GET, path, &Value::Null).await?;
    Ok(object["status"]["conditions"].as_array().cloned().unwrap_or_default())
}

async fn write(client: &Client, path: &str, conditions: &[Value]) -> Result<(), String> {
    let status = json!({"status": {"conditions": conditions}});
    raw(client, Method::PATCH, &format!("{path}/status"), &status).await.map(drop)
}
