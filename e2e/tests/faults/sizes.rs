//! Load balancers as large as the API's store takes. Knows how they are made; knows no program from inside.

use http::Method;
use kube::Client;
use nave_e2e::Lab;
use nave_e2e::Protocol::Tcp;
use serde_json::{Value, json};

use super::eventually;
use super::unreadable::{NAVE, attacker, raw};

/// Bytes that a load balancer may have beside its padding, in the store: a little less than etcd takes in one request.
const NEARLY: usize = 1_560_000;
/// Bytes of padding that are enough to fill the rest.
const PADDING: usize = 32_000;

/// How many bytes more an object may have, with which no more than its short status finds room.
const SHORT: usize = 1500;

fn path(name: &str) -> String {
    format!("{NAVE}/namespaces/tenant-spoke-2/tcploadbalancers/{name}")
}

/// Makes a load balancer of the greatest size that the API takes, less these bytes.
async fn fill(client: &Client, name: &str, room: usize) {
    let address =
        |number: usize| format!("2001:db8:{:x}:{:x}:aaaa:bbbb:cccc:dddd", number / 65536 + 4096, number % 65536);
    let count = NEARLY / (address(65535).len() + 3);
    let addresses: Vec<String> = (0..count).map(address).collect();
    let groups: Vec<Value> = addresses.chunks(1000).map(|addresses| json!({"addresses": addresses})).collect();
    let spec = json!({"ports": [{"port": 80, "backendPort": 30000}], "backends": {"endpoints": groups}});
    let object = json!({"apiVersion": "nave.dev/v1alpha1", "kind": "TCPLoadBalancer",
        "metadata": {"name": name, "annotations": {"padding": ""}}, "spec": spec});
    raw(client, Method::POST, path("").trim_end_matches('/'), &object).await.unwrap();
    let pad = async |bytes: usize| {
        let padded = json!({"metadata": {"annotations": {"padding": "x".repeat(bytes)}}});
        raw(client, Method::PATCH, &path(name), &padded).await
    };
    let (mut fits, mut exceeds) = (0, PADDING);
    println!(
        "{name}: {:?}",
        pad(exceeds).await.expect_err("more than the API takes").chars().take(300).collect::<String>()
    );
    while exceeds - fits > 8 {
        let middle = usize::midpoint(fits, exceeds);
        if pad(middle).await.is_ok() { fits = middle } else { exceeds = middle }
    }
    pad(fits.checked_sub(room).expect("there is padding")).await.unwrap();
}

/// How many writes the manager has made.
async fn writes(lab: &Lab) -> f64 {
    let page = lab.hub.managers[0].get("/metrics").await.unwrap();
    let line = page.lines().find(|line| line.starts_with("nave_api_writes_seconds_count")).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p_a_load_balancer_that_has_no_room_for_its_status_gets_a_short_one_or_none_and_is_not_written_again_and_again()
{
    let mut lab = Lab::light().spokes(2).managers(1).start().await.unwrap();
    lab.spokes[1].agent = None; // its credential is in other hands now
    let attacker = attacker(&lab).await;
    lab.hub.managers[0].process().kill();
    fill(&attacker, "short", SHORT).await;
    fill(&attacker, "full", 0).await;
    lab.hub.managers[0].restart().await.unwrap();
    eventually("the condition says why there is no more", async || {
        let object = raw(&attacker, Method::GET, &path("short"), &Value::Null).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let message = conditions.iter().find(|one| one["type"] == "Accepted").map(|one| one["message"].to_string());
        match message {
            Some(message) if message.contains("too large for its status") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let full = raw(&attacker, Method::GET, &path("full"), &Value::Null).await.unwrap();
    assert_eq!(full["status"], Value::Null, "nothing has room there");

    let sample = lab.spokes[0].sample("web", &[(Tcp, 8080)]).await.unwrap();
    let address = sample.address().await.unwrap();
    sample.answers(address).await.unwrap();
    let before = writes(&lab).await;
    // A time of quiet, in which a loop would write.
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    let more = writes(&lab).await - before;
    println!("{more} writes in 12 s");
    assert!(more <= 4.0, "{more} writes");
}
