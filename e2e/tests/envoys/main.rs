//! Envoys that lie, that are silent, or that belong to no fleet, beside an honest one: whatever they do, the Services of others become
//! programmed, what they say of others stays clean, and the Fleet names who holds back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod held;
mod rogue;
mod sessions;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use nave_api::fleet::{EnvoyStanding, EnvoyStatus};
use nave_api::{ConditionType, Fleet, TCPLoadBalancer, condition, names};
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Lab, Protocol, wait};
use nave_xds::resource::ResourceType;
use rogue::{Papers, counter, gauge};
use serde_json::json;
use tonic::Code;

/// What a rogue writes where it can.
const MARK: &str = "ROGUE";

#[tokio::test(flavor = "multi_thread")]
async fn c_whatever_one_envoy_does_a_bystanders_service_becomes_programmed_and_its_conditions_stay_clean() {
    let lab = Lab::light().managers(2).start().await.unwrap();
    let spoke = &lab.spokes[0];
    let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    let before = spoke.sample("before", &[(Protocol::Tcp, 8080)]).await.unwrap();
    let address = before.address().await.unwrap();
    lab.hub.fleet(&json!({"nodes": {"names": ["half", "silent", "greedy", "refusing"]}})).await.unwrap();
    let leader = leader(&lab).await;
    let (at_leader, at_follower) = (lab.hub.managers[leader].xds(), lab.hub.managers[1 - leader].xds());
    let memory = memory(&lab);
    let programmed = names::intent_name("Service", "default", "before");
    let written = intents.get(&programmed).await.unwrap().metadata.resource_version;

    // A node that the Fleet does not choose, one that asks for endpoints alone, one that acknowledges nothing.
    let mut stranger = Papers::issue(&lab, "default", "stranger").open(at_follower).await.unwrap();
    let mut silent = Papers::issue(&lab, "default", "silent").open(at_leader).await.unwrap();
    for stream in [&mut stranger, &mut silent] {
        stream.ask(ResourceType::Cluster, Vec::new()).await;
        stream.ask(ResourceType::Listener, Vec::new()).await;
        stream.next().await.unwrap();
    }
    let half = half(&lab, at_leader).await;
    // One refuses all in five megabytes, at the manager that has to tell the leader.
    let refusing = Papers::issue(&lab, "default", "refusing").open(at_follower).await.unwrap();
    refusing.ask(ResourceType::Cluster, Vec::new()).await;
    refusing.ask(ResourceType::Listener, Vec::new()).await;
    let refusing = refusing.refuse_all(format!("{MARK}\u{1b}[2J\u{202e}\r\n").repeat(500_000));
    eventually("the leader has heard of all of them", async || {
        let standings = ["stranger", "half", "silent", "refusing"].map(|node| (node, EnvoyStanding::Counts));
        let mut seen = Vec::new();
        for (node, _) in standings {
            seen.push((node, envoy(&lab, node).await.filter(|envoy| envoy.connected)));
        }
        let refused = seen[3].1.is_some_and(|envoy| envoy.refused > 0);
        if refused && seen.iter().all(|(_, envoy)| envoy.is_some()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;

    let asked = Instant::now();
    let later = spoke.sample("later", &[(Protocol::Tcp, 8081)]).await.unwrap();
    eventually("the Fleet names the silent one", async || match envoy(&lab, "silent").await {
        Some(EnvoyStatus { holds_back: 1.., .. } | EnvoyStatus { standing: EnvoyStanding::Stopped, .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    greedy(&lab, at_leader).await;
    metrics(&lab, at_follower, address).await;
    let second = later.address().await.unwrap();
    println!("a Service beside a silent Envoy has its address after {:?}", asked.elapsed());
    later.answers(second).await.unwrap();

    // Those that stopped delay nothing new.
    let asked = Instant::now();
    let last = spoke.sample("last", &[(Protocol::Tcp, 8082)]).await.unwrap();
    let third = last.address().await.unwrap();
    println!("the next one after {:?}", asked.elapsed());
    last.answers(third).await.unwrap();
    before.answers(address).await.unwrap();
    for (node, expected) in [
        ("stranger", EnvoyStanding::NotChosen),
        ("half", EnvoyStanding::NotServing),
        ("silent", EnvoyStanding::Stopped),
        ("refusing", EnvoyStanding::Stopped),
    ] {
        eventually(&format!("the Fleet says of {node}: {expected:?}"), async || match envoy(&lab, node).await {
            Some(EnvoyStatus { standing, .. }) if standing == expected => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    clean(&lab).await;
    let now = intents.get(&programmed).await.unwrap().metadata.resource_version;
    assert_eq!(now, written, "of what was programmed nothing was taken back");
    println!("managers had {memory:?} MB and have {:?}", self::memory(&lab));
    refusing.abort();
    half.abort();
}

/// Asks for the endpoints of everything there is, and acknowledges all that it gets.
async fn half(lab: &Lab, at: SocketAddr) -> tokio::task::JoinHandle<()> {
    let mut stream = Papers::issue(lab, "default", "half").open(at).await.unwrap();
    stream.ask(ResourceType::Endpoints, vec!["*".to_owned()]).await;
    tokio::spawn(async move {
        while let Ok(response) = stream.next().await {
            stream.answer(&response, None).await;
        }
    })
}

/// Two million names: the stream ends and says why.
async fn greedy(lab: &Lab, at: SocketAddr) {
    let mut stream = Papers::issue(lab, "default", "greedy").open(at).await.unwrap();
    let mut status = None;
    for block in 0..40 {
        let names = (0..50_000).map(|number| format!("{MARK}-{block}-{number}")).collect();
        stream.ask(ResourceType::Endpoints, names).await;
        match stream.next().await {
            Ok(response) => stream.answer(&response, None).await,
            Err(end) => {
                status = Some(end);
                break;
            }
        }
    }
    let status = status.expect("a stream of two million names ends");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

/// Statistics that are no numbers, that are negative, and of another fleet's load balancer.
async fn metrics(lab: &Lab, at: SocketAddr, address: std::net::IpAddr) {
    let web = format!("tenant-spoke-1/{}", names::intent_name("Service", "default", "before"));
    let total = format!("tcp.{web}.downstream_cx_total");
    let bad = [f64::INFINITY, f64::NAN, -1.0, 1e300];
    let lies: Vec<_> = bad.into_iter().map(|value| counter(&total, value)).collect();
    let stranger = Papers::issue(lab, "other", "edge-1");
    let others = vec![counter(&total, 1000.0), gauge(&format!("listener.{web}.downstream_cx_active"), 1000.0)];
    rogue::count(stranger.connect(at).await.unwrap(), others).await.unwrap();
    let chosen = Papers::issue(lab, "default", "half").connect(at).await.unwrap();
    rogue::count(chosen.clone(), lies).await.unwrap();
    // Garbage ends the stream, not the manager.
    rogue::count(chosen, vec![counter(&total, 1.0); 200_000]).await.unwrap_err();
    assert!(lab.ask(address, 8080).await.is_ok());
    for manager in &lab.hub.managers {
        let page = manager.get("/metrics").await.unwrap();
        let lines: Vec<&str> = page.lines().filter(|line| line.contains("default-before")).collect();
        let values = lines.iter().filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        assert!(values.clone().all(|value| value < 1e9), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("connections") && line.ends_with("1000")), "{lines:?}");
    }
}

/// No condition and no Event of a load balancer or Service has a word of a rogue's, but for a short one that is printable.
async fn clean(lab: &Lab) {
    let intents: Api<TCPLoadBalancer> = Api::all(lab.hub.client());
    for intent in intents.list(&ListParams::default()).await.unwrap() {
        let conditions = intent.status.unwrap_or_default().conditions;
        assert!(condition::is_true(&conditions, ConditionType::Programmed), "{conditions:?}");
        assert!(conditions.iter().all(|condition| !condition.message.contains(MARK)), "{conditions:?}");
    }
    for client in [lab.hub.client(), lab.spokes[0].client()] {
        let events: Api<Event> = Api::all(client);
        for event in events.list(&ListParams::default()).await.unwrap() {
            let note = event.note.unwrap_or_default();
            assert!(note.chars().count() < 400 && !note.contains(char::is_control), "{note:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_node_is_revoked_by_its_name_and_comes_back_with_a_new_certificate() {
    let lab = Lab::light().spokes(0).managers(1).edges(1).start().await.unwrap();
    let at = lab.hub.managers[0].xds();
    let old = Papers::issue(&lab, "default", "lost");
    let mut stream = old.open(at).await.unwrap();
    let mut other = Papers::issue(&lab, "default", "kept").open(at).await.unwrap();
    for stream in [&mut stream, &mut other] {
        stream.ask(ResourceType::Listener, Vec::new()).await;
        stream.next().await.unwrap();
    }
    // A moment of the next second: the certificate was issued before it.
    let moment = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 1).unwrap();
    let revoked = json!([{"node": "lost", "before": moment.to_string()}]);
    lab.hub.fleet(&json!({"nodes": {"names": ["lost", "kept"]}, "revoked": revoked})).await.unwrap();
    let begun = Instant::now();
    let end = stream.next_within(Duration::from_secs(1)).await.expect("it ends within a second").unwrap_err();
    println!("{:?} after {:?}", end.code(), begun.elapsed());
    assert_eq!(end.code(), Code::Unauthenticated, "{end:?}");
    assert!(old.open(at).await.is_err(), "the old certificate opens no stream");
    assert!(other.next_within(Duration::from_millis(500)).await.is_none(), "another node's stream goes on");
    eventually("the Envoy of edge-1 is connected", async || match envoy(&lab, "edge-1").await {
        Some(EnvoyStatus { connected: true, .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    eventually("a certificate of after the moment opens a stream", async || {
        Papers::issue(&lab, "default", "lost").open(at).await.map(drop).map_err(|status| format!("{status:?}"))
    })
    .await;
    // What cannot be a moment is refused by the API server.
    for before in ["soon", "9999-12-31T23:59:59Z", "2026-02-30T10:00:00Z", "2026-11-30T10:00:00+01:00"] {
        let revoked = json!([{"node": "lost", "before": before}]);
        assert!(lab.hub.fleet(&json!({"revoked": revoked})).await.is_err(), "{before}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_restarts_beside_a_fleet_that_it_cannot_read_knows_what_the_fleet_revokes() {
    let lab = Lab::light().spokes(0).managers(1).edges(1).start().await.unwrap();
    let (manager, client) = (&lab.hub.managers[0], lab.hub.client());
    let at = manager.xds();
    let (old, kept) = (Papers::issue(&lab, "default", "lost"), Papers::issue(&lab, "default", "kept"));
    old.open(at).await.unwrap();
    let moment = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 1).unwrap();
    let revoked = json!([{"node": "lost", "before": moment.to_string()}]);
    lab.hub.fleet(&json!({"nodes": {"names": ["lost", "kept"]}, "revoked": revoked})).await.unwrap();
    manager.process().kill();
    // A moment that the API server of an earlier release took and a manager cannot read.
    lab.hub.unbound_moments().await.unwrap();
    let condition = json!({"type": "Spoilt", "status": "True", "reason": "Spoilt", "message": "",
        "lastTransitionTime": "9999-12-31T23:59:59Z"});
    let body = json!({"status": {"conditions": [condition]}}).to_string().into_bytes();
    let path = "/apis/nave.dev/v1alpha1/fleets/default/status";
    eventually("the API server takes it", async || {
        let request = http::Request::patch(path).header("content-type", "application/merge-patch+json");
        let request = request.body(kube::client::Body::from(body.clone())).unwrap();
        let answer = client.send(request).await.map_err(|error| error.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
    })
    .await;
    manager.restart().await.unwrap();
    let metrics = manager.get("/metrics").await.unwrap();
    assert!(metrics.contains("nave_unreadable_objects{kind=\"Fleet\"} 1"), "{metrics}");

    let mut stream = kept.open(at).await.unwrap();
    stream.ask(ResourceType::Listener, Vec::new()).await;
    stream.next().await.unwrap();
    assert!(old.open(at).await.is_err(), "the old certificate opens no stream");
}

/// What the Fleet's status says of the Envoy of a node.
async fn envoy(lab: &Lab, node: &str) -> Option<EnvoyStatus> {
    let fleets: Api<Fleet> = Api::all(lab.hub.client());
    let status = fleets.get("default").await.unwrap().status?;
    status.nodes.into_iter().find(|entry| entry.name == node)?.envoy
}

/// The memory of each manager, in MB.
fn memory(lab: &Lab) -> Vec<u64> {
    let resident = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    lab.hub.managers.iter().filter_map(|manager| manager.process().pid()).map(resident).collect()
}

/// Which manager leads, by its Lease.
async fn leader(lab: &Lab) -> usize {
    let leases: Api<Lease> = Api::namespaced(lab.hub.client(), nave_e2e::manager::NAMESPACE);
    let said = serde_json::to_string(&leases.get("nave-manager").await.unwrap()).unwrap();
    let named = |manager: &nave_e2e::Manager| said.contains(&manager.xds().to_string());
    lab.hub.managers.iter().position(named).expect("the Lease names the leader's endpoint")
}

async fn eventually(what: &str, look: impl AsyncFn() -> Result<(), String>) {
    wait::until(what, PATIENCE, || look()).await.unwrap_or_else(|error| panic!("{error:?}"));
}
