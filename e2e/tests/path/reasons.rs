//! What a real API server does with an allocation that moves to another pool, and what `kubectl get tcplb -o wide` shows of a
//! load balancer that waits. Named after kind M of faults.

use kube::Api;
use kube::api::DeleteParams;
use nave_api::{IPAllocation, IPPool, TCPLoadBalancer, names};
use serde_json::{Value, json};

use crate::shared::{PATIENCE, eventually, from_pool, in_lab, octets, shown};

fn pool(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name},
        "spec": {"source": {"static": {}}, "addresses": {"include": [address]}},
    })
}

/// The wide columns of a load balancer, by name.
async fn columns(client: kube::Client, name: &str) -> Value {
    let path = format!("/apis/nave.dev/v1alpha1/namespaces/tenant-spoke-1/tcploadbalancers/{name}");
    let asked = http::Request::get(path).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table: Value = client.request(asked.body(Vec::new()).unwrap()).await.unwrap();
    let names = table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap());
    let cells = table["rows"][0]["cells"].as_array().unwrap().iter().cloned();
    Value::Object(names.map(str::to_owned).zip(cells).collect())
}

#[test]
fn m_2_an_allocation_moves_to_a_pool_made_again_and_its_service_keeps_the_address() {
    in_lab(async |lab| {
        let [a, b, c, _] = octets(lab);
        let address = format!("{a}.{b}.{}.9", c + 1);
        lab.hub.apply(&pool("before", &address)).await.unwrap();
        let spoke = &lab.spokes[0];
        let waits = from_pool(spoke, "moves", "before").await;
        assert_eq!(shown(spoke, "moves").await.to_string(), address);
        let pools: Api<IPPool> = Api::all(lab.hub.client());
        pools.delete("before", &DeleteParams::default()).await.unwrap();
        lab.hub.apply(&pool("again", &address)).await.unwrap();
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "default", "name": "moves",
                "annotations": {"nave.dev/pool": "again", "nave.dev/addresses": address}},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 8080}]},
        });
        spoke.apply(&service).await.unwrap();
        let allocations: Api<IPAllocation> = Api::all(lab.hub.client());
        let name = names::allocation_name(address.parse().unwrap());
        let uid = allocations.get(&name).await.unwrap().metadata.uid;
        eventually("the allocation is of the new pool", PATIENCE, async || {
            let now = allocations.get(&name).await.map_err(|error| error.to_string())?;
            assert_eq!(now.metadata.uid, uid, "it is the same allocation");
            if now.spec.pool == "again" { Ok(()) } else { Err(now.spec.pool) }
        })
        .await;
        let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
        eventually("the load balancer shows the new pool", PATIENCE, async || {
            let intent = intents.get(&names::intent_name("Service", "default", "moves")).await;
            let shown = intent.map_err(|error| error.to_string())?.status.unwrap_or_default().addresses;
            let is_it = shown.len() == 1 && shown[0].pool == "again" && shown[0].value == address;
            if is_it { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await;
        assert_eq!(shown(spoke, "moves").await.to_string(), address);
        waits.delete().await;
    });
}

#[test]
fn m_4_wide_columns_show_why_a_load_balancer_waits() {
    in_lab(async |lab| {
        let spoke = &lab.spokes[0];
        let waits = from_pool(spoke, "waits", "nowhere").await;
        let name = names::intent_name("Service", "default", "waits");
        eventually("the columns show the cause", PATIENCE, async || {
            let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
            intents.get(&name).await.map_err(|error| error.to_string())?;
            let columns = columns(lab.hub.client(), &name).await;
            let message = columns["Message"].as_str().unwrap_or_default();
            let is_it = columns["Reason"] == "PoolNotOpen" && message.contains("no pool named nowhere");
            if is_it { Ok(()) } else { Err(columns.to_string()) }
        })
        .await;
        let sample = spoke.sample("waits-not", &[(nave_e2e::Protocol::Tcp, 8080)]).await.unwrap();
        sample.address().await.unwrap();
        let columns = columns(lab.hub.client(), &names::intent_name("Service", "default", "waits-not")).await;
        assert_eq!((&columns["Reason"], &columns["Programmed"]), (&Value::Null, &json!("True")), "{columns}");
        sample.delete().await.unwrap();
        waits.delete().await;
    });
}
