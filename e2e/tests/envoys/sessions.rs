//! UDP sessions of one tenant up to its limits, while it changes its listeners as fast as it may: Envoy has a real limit of open files and
//! lives, and a bystander is served.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use nave_api::names;
use nave_e2e::{Lab, Protocol};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

const FILES: u32 = 2000;
/// How long the attack lasts.
const LASTS: Duration = Duration::from_secs(20);
/// Client sockets for each port of the hostile tenant: its ports get 360 sessions together.
const CLIENTS: usize = 300;
const PORTS: [u16; 3] = [5301, 5302, 5303];
/// Between two questions to the bystander: each is a session, and its own port has 360.
const PACE: Duration = Duration::from_millis(200);
/// So many times five Services are there at once.
const ALIVE: usize = 6;
/// A bystander is served at once, but for one answer in a hundred: the attack takes processors of the lab, too.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn g2_sessions_up_to_every_limit_and_churn_of_listeners_leave_envoy_alive_and_a_bystander_served() {
    let lab = Lab::light().spokes(2).files(FILES).start().await.unwrap();
    let bystander = lab.spokes[1].sample("bystander", &[(Protocol::Tcp, 8090), (Protocol::Udp, 5353)]).await.unwrap();
    let address = bystander.address().await.unwrap();
    bystander.answers(address).await.unwrap();
    let ports = PORTS.map(|port| (Protocol::Udp, port));
    let hostile = lab.spokes[0].sample("hostile", &ports).await.unwrap();
    let target = hostile.address().await.unwrap();
    let edge = &lab.hub.edges[0];
    let pid = edge.process().pid().unwrap();

    let until = Instant::now() + LASTS;
    let services: Api<Service> = Api::namespaced(lab.spokes[0].client(), "default");
    let sessions = tokio::spawn(flood(target, until));
    let churn = tokio::spawn(churn(services, until));
    let (mut most, mut files, mut waits) = (0, 0, Vec::new());
    let active =
        format!("udp.tenant-spoke-1/{}.downstream_sess_active", names::intent_name("Service", "default", "hostile"));
    let mut due = tokio::time::interval(PACE);
    while Instant::now() < until {
        due.tick().await;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let begun = Instant::now();
            let answer = match protocol {
                Protocol::Tcp => lab.ask(address, 8090).await,
                Protocol::Udp => lab.ask_udp(address, 5353).await,
            };
            answer.unwrap_or_else(|error| panic!("the bystander is not served by {protocol:?}: {error:?}"));
            waits.push(begun.elapsed());
        }
        most = most.max(edge.stat(&active).await.unwrap());
        files = files.max(std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count());
    }
    sessions.await.unwrap();
    let churned = churn.await.unwrap();
    let added = edge.stat("listener_manager.listener_added").await.unwrap();
    waits.sort();
    let (served, usual) = (waits.len(), waits[waits.len() * 99 / 100]);
    println!(
        "{added} listeners were added, 99 of 100 answers came within {usual:?}, the last within {:?}",
        waits[served - 1]
    );
    println!("{most} sessions, {files} of {FILES} files, {churned} Services churned, {served} answers");
    assert!(most >= 330, "the tenant had {most} sessions: that is no attack");
    assert!(churned >= 20 && added >= 100, "{churned} Services made {added} listeners: that is no churn");
    assert!(files < FILES as usize, "{files} files");
    assert!(usual < AT_ONCE, "{usual:?}");
    edge.process().check().expect("Envoy lives");
    assert_eq!(edge.process().pid(), Some(pid), "it is the same process");
}

/// Datagrams to every port, each socket a session of its own.
async fn flood(target: IpAddr, until: Instant) {
    let mut sockets = Vec::new();
    let mut due = tokio::time::interval(Duration::from_millis(100));
    while Instant::now() < until {
        due.tick().await;
        for port in PORTS.into_iter().cycle().take((CLIENTS * PORTS.len() - sockets.len()).min(100)) {
            let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
            socket.connect(SocketAddr::new(target, port)).await.unwrap();
            sockets.push(socket);
        }
        for socket in &sockets {
            // A port that is closed for a moment refuses it.
            let _ = socket.send(b"x").await;
        }
    }
}

/// Makes, changes and deletes Services; returns how many.
async fn churn(services: Api<Service>, until: Instant) -> usize {
    let (mut count, mut alive) = (0, VecDeque::new());
    while Instant::now() < until {
        let names: Vec<String> = (0..5).map(|n| format!("churn-{}", count + n)).collect();
        for name in &names {
            let service: Service = serde_json::from_value(service(name)).unwrap();
            services.create(&PostParams::default(), &service).await.unwrap();
        }
        for name in &names {
            let ranges = json!({"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}});
            services.patch(name, &PatchParams::default(), &Patch::Merge(ranges)).await.unwrap();
        }
        count += names.len();
        alive.push_back(names);
        if alive.len() > ALIVE {
            for name in alive.pop_front().into_iter().flatten() {
                services.delete(&name, &DeleteParams::default()).await.unwrap();
            }
        }
    }
    count
}

fn service(name: &str) -> Value {
    let port = |protocol: &str, port: u16| json!({"name": format!("p-{port}"), "protocol": protocol, "port": port});
    let ports: Vec<Value> = (7000..7005).map(|n| port("TCP", n)).chain((7100..7105).map(|n| port("UDP", n))).collect();
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": ports},
    })
}
