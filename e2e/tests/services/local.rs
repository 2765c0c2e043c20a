//! `externalTrafficPolicy: Local`, with the test in the place of kube-proxy: it says on which nodes endpoints are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nave_api::tcp_load_balancer::Backends;
use nave_e2e::lab::Spoke;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::shared::{PATIENCE, Subject, eventually, hear, in_lab, tcp};

/// Answers on a node's `healthCheckNodePort`, until the test ends.
struct KubeProxy {
    has_endpoints: Arc<AtomicBool>,
}

impl KubeProxy {
    async fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let has_endpoints = Arc::new(AtomicBool::new(true));
        tokio::spawn(answer(listener, has_endpoints.clone()));
        Self { has_endpoints }
    }

    fn says(&self, has_endpoints: bool) {
        self.has_endpoints.store(has_endpoints, Ordering::SeqCst);
    }
}

/// As kube-proxy does, it minds the Host that it is asked for.
async fn answer(listener: TcpListener, has_endpoints: Arc<AtomicBool>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let has_endpoints = has_endpoints.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                let asked = String::from_utf8_lossy(&buffer[..length]).to_lowercase();
                let host = asked.lines().find_map(|line| line.strip_prefix("host: "));
                let good = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
                let status = match (good, has_endpoints.load(Ordering::SeqCst)) {
                    (false, _) => "400 Bad Request",
                    (true, true) => "200 OK",
                    (true, false) => "503 Service Unavailable",
                };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Says that the Service has a ready endpoint on each of these nodes, and one on its way out on each of those.
async fn endpoints(spoke: &Spoke, name: &str, ready: &[&str], ending: &[&str]) {
    endpoints_of(spoke, name, 8080, ready, ending).await;
}

async fn endpoints_of(spoke: &Spoke, name: &str, port: u16, ready: &[&str], ending: &[&str]) {
    let endpoint = |node: &str, ready: bool| {
        let conditions = json!({"ready": ready, "serving": true, "terminating": !ready});
        json!({"addresses": ["192.0.2.9"], "nodeName": node, "conditions": conditions})
    };
    let ready = ready.iter().map(|node| endpoint(node, true));
    let all: Vec<Value> = ready.chain(ending.iter().map(|node| endpoint(node, false))).collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": format!("tcp-{port}"), "protocol": "TCP", "port": port}], "endpoints": all,
    });
    spoke.apply(&slice).await.expect("endpoints");
}

#[test]
fn local_traffic_goes_to_nodes_with_endpoints_whose_kube_proxy_says_so() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "local");
        // Kubernetes chooses none of the lowest by itself: nobody ever served this one.
        let port: u16 = 30_007;
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port, "ports": [tcp(8080)]});
        web.put(local).await;
        let mut proxies = Vec::new();
        for node in &web.spoke.nodes {
            proxies.push(KubeProxy::start(SocketAddr::new(node.address(), port)).await);
        }
        endpoints(web.spoke, "local", &["node-1"], &["node-2"]).await;
        web.is_answered_by(8080, &["node-1"]).await;
        endpoints(web.spoke, "local", &["node-1", "node-2"], &[]).await;
        web.is_answered_by(8080, &["node-1", "node-2"]).await;
        // kube-proxy knows it first: the EndpointSlice has yet to follow.
        proxies[0].says(false);
        web.is_answered_by(8080, &["node-2"]).await;
        proxies[0].says(true);
        web.is_answered_by(8080, &["node-1", "node-2"]).await;
        endpoints(web.spoke, "local", &[], &["node-2"]).await;
        web.is_answered_by(8080, &["node-2"]).await;
        web.put(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "ports": [tcp(8080)]})).await;
        web.is_answered_by(8080, &["node-1", "node-2"]).await;
        web.delete().await;
    });
}

#[test]
fn kind_o_a_node_whose_pods_end_serves_until_its_successor_has_been_seen_to_serve() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 1, "handover");
        let port: u16 = 30_008;
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port, "ports": [tcp(8081)]});
        web.put(local).await;
        let mut proxies = Vec::new();
        for node in &web.spoke.nodes {
            proxies.push(KubeProxy::start(SocketAddr::new(node.address(), port)).await);
        }
        // kube-proxy of node-2 has yet to hear of the new pod, when the hub has heard of it already; that of node-1 says as soon as
        // no pod of its node is ready that it has none, and goes on sending traffic to those that end.
        proxies[1].says(false);
        endpoints_of(web.spoke, "handover", 8081, &["node-1"], &[]).await;
        web.is_answered_by(8081, &["node-1"]).await;
        let address = web.address().await;
        endpoints_of(web.spoke, "handover", 8081, &["node-2"], &["node-1"]).await;
        proxies[0].says(false);
        eventually("the hub has heard of both", async || match web.intent().await.map(|intent| intent.spec.backends) {
            Some(Backends::Nodes(nodes)) if nodes.only.as_deref() == Some(&["node-2".to_owned()]) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        // Longer than checks take to fail three times.
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(7) {
            assert_eq!(hear(address, 8081).await.as_deref(), Ok("handover on node-1"));
        }
        proxies[1].says(true);
        let mut answers = Vec::new();
        while answers.last().is_none_or(|last| last == "handover on node-1") && asked.elapsed() < PATIENCE {
            answers.push(hear(address, 8081).await.expect("an answer, of one node or the other"));
        }
        web.is_answered_by(8081, &["node-2"]).await;
        // What ends goes on being there behind it: it gets nothing while the successor serves.
        for _ in 0..20 {
            assert_eq!(hear(address, 8081).await.as_deref(), Ok("handover on node-2"));
        }
        web.delete().await;
    });
}
