//! Endpoints that fail leave rotation for a while, and the last one that may work never does.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nave_xds::model::{Cluster, Ejection, HealthCheck, Probe};
use nave_xds::store::Change;
use nave_xds::translate;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::envoy::{backend, banner};
use crate::support::server::{cluster, endpoints, listener, own_address, tcp};
use crate::traffic::{Served, answer_probes, eventually, serve};

const SECOND: Duration = Duration::from_secs(1);

/// As the hub makes it where a Service says nothing.
fn ejecting() -> Cluster {
    let mut cluster = cluster("shop");
    cluster.ejection = Some(Ejection { consecutive_failures: 3, base_time: SECOND });
    cluster
}

async fn served(cluster: &Cluster, backends: &[SocketAddr]) -> Served {
    serve(&listener(tcp(&own_address(), 8443), "shop"), cluster, &endpoints("shop", backends)).await
}

/// An address at which nothing listens yet.
fn dead() -> SocketAddr {
    SocketAddr::new(own_address().parse().expect("an address"), 8443)
}

/// From now on something listens there.
async fn comes_alive(at: SocketAddr, name: &'static str) {
    let listener = TcpListener::bind(at).await.expect("the address is free");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(name.as_bytes()).await;
        }
    });
}

async fn is_served(served: &Served, by: &str) -> bool {
    banner(served.address).await.is_ok_and(|banner| banner == by)
}

/// The endpoints that are ejected now.
async fn ejected(served: &Served) -> usize {
    let body = served.envoy.admin("/clusters?format=json").await;
    let all: Value = serde_json::from_str(&body).expect("JSON");
    let clusters = all["cluster_statuses"].as_array().expect("clusters");
    let shop = clusters.iter().find(|cluster| cluster["name"] == "shop").expect("the cluster");
    let hosts = shop["host_statuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    hosts.iter().filter(|host| host["health_status"]["failed_outlier_check"] == true).count()
}

#[tokio::test]
async fn o2_the_only_endpoint_serves_the_moment_it_is_back() {
    let only = dead();
    let served = served(&ejecting(), &[only]).await;
    for _ in 0..10 {
        assert!(!is_served(&served, "back").await);
    }
    comes_alive(only, "back").await;
    assert!(is_served(&served, "back").await);
    assert_eq!(ejected(&served).await, 0);
}

#[tokio::test]
async fn o2_of_endpoints_that_all_fail_one_is_left() {
    let all = [dead(), dead(), dead(), dead()];
    let served = served(&ejecting(), &all).await;
    eventually("all but one are ejected", || async {
        assert!(!is_served(&served, "back").await);
        ejected(&served).await == 3
    })
    .await;
    for at in all {
        comes_alive(at, "back").await;
    }
    assert!(is_served(&served, "back").await, "the one that is left serves at once");
}

#[tokio::test]
async fn o2_ejected_endpoints_serve_when_the_others_are_removed() {
    let gone = [dead(), dead()];
    let mut long = ejecting();
    long.ejection = Some(Ejection { consecutive_failures: 1, base_time: Duration::from_secs(30) });
    let served = served(&long, &[gone[0], gone[1], backend("here").await]).await;
    eventually("two are ejected", || async {
        assert!(is_served(&served, "here").await);
        ejected(&served).await == 2
    })
    .await;
    let left = translate::endpoints(&endpoints("shop", &gone));
    served.running.server.fleet("default").apply(Change { upsert: vec![left.clone()], remove: Vec::new() });
    eventually("the one that works is removed", || async { !is_served(&served, "here").await }).await;
    for at in gone {
        comes_alive(at, "back").await;
    }
    assert!(
        is_served(&served, "back").await,
        "each connection tries them, and does not wait for the end of an ejection"
    );
}

#[tokio::test]
async fn o2_where_endpoints_are_checked_a_gap_of_the_only_good_one_costs_no_more_than_the_gap() {
    let (ill, good) = (dead(), dead());
    let mut checked = ejecting();
    checked.health_check = Some(HealthCheck {
        probe: Probe::Http { path: "/healthz".to_owned() },
        interval: SECOND,
        timeout: SECOND,
        unhealthy_after: 3,
        healthy_after: 1,
    });
    // One port on both addresses: at one of them nothing answers, so that this endpoint never passes.
    let health = TcpListener::bind((good.ip(), 0)).await.expect("a free port");
    let mut both = endpoints("shop", &[ill, good]);
    both.health_port = Some(health.local_addr().expect("an address").port());
    tokio::spawn(answer_probes(health));
    comes_alive(ill, "ill").await;
    let served = serve(&listener(tcp(&own_address(), 8443), "shop"), &checked, &both).await;
    // It passes its checks and refuses every connection: more often than ejects an endpoint.
    for _ in 0..10 {
        assert!(!is_served(&served, "good").await);
    }
    comes_alive(good, "good").await;
    assert!(is_served(&served, "good").await);
    assert!(!is_served(&served, "ill").await);
}

#[tokio::test]
async fn o2_a_new_endpoint_serves_a_second_after_its_check_would_succeed() {
    let new = dead();
    let mut checked = cluster("shop");
    // As under externalTrafficPolicy Local; an interval that would be felt.
    checked.health_check = Some(HealthCheck {
        probe: Probe::Tcp,
        interval: Duration::from_mins(1),
        timeout: SECOND,
        unhealthy_after: 3,
        healthy_after: 1,
    });
    comes_alive(new, "new").await;
    let health = TcpListener::bind((new.ip(), 0)).await.expect("a free port");
    let at = health.local_addr().expect("an address");
    drop(health);
    let mut one = endpoints("shop", &[new]);
    one.health_port = Some(at.port());
    let served = serve(&listener(tcp(&own_address(), 8443), "shop"), &checked, &one).await;
    assert!(!is_served(&served, "new").await, "its first check failed");
    let health = TcpListener::bind(at).await.expect("the port is free");
    tokio::spawn(answer_probes(health));
    let began = Instant::now();
    eventually("it serves", || is_served(&served, "new")).await;
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn o2_an_endpoint_that_was_ejected_and_works_again_is_used_after_a_second() {
    let weak = dead();
    let served = served(&ejecting(), &[weak, backend("here").await]).await;
    eventually("it is ejected", || async {
        assert!(is_served(&served, "here").await);
        ejected(&served).await == 1
    })
    .await;
    comes_alive(weak, "weak").await;
    let began = Instant::now();
    eventually("it is used", || is_served(&served, "weak")).await;
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
}

/// Envoy gathers what it learns of endpoints for a second by default: one that is ejected again soon after its return
/// would go on getting its share meanwhile.
#[tokio::test]
async fn o2_an_endpoint_that_fails_again_after_its_return_leaves_at_once() {
    let served = served(&ejecting(), &[dead(), backend("here").await]).await;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..400 {
        pace.tick().await;
        assert!(is_served(&served, "here").await);
    }
    // Three for each of a few returns, and a few while word of it gets round; half of the connections would be 200.
    let failed = served.envoy.stats().await["cluster.shop.upstream_cx_connect_fail"];
    assert!((6..40).contains(&failed), "{failed}");
}

/// An address that answers no packet at all, and what keeps it so: its queue is full, and nothing takes from it.
pub(super) async fn black_hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let full = socket.listen(1).expect("listens");
    let at = full.local_addr().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(at)).await {
        waiting.push(stream.expect("connects"));
    }
    (at, waiting, full)
}

#[tokio::test]
async fn o2_a_black_holed_endpoint_among_three_costs_at_most_one_connection_in_a_hundred() {
    let (hole, _waiting, _full) = black_hole().await;
    let mut patient = ejecting();
    patient.connect_timeout = Duration::from_millis(300);
    let served = served(&patient, &[hole, backend("here").await, backend("here").await]).await;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let mut all = Vec::new();
    for _ in 0..800 {
        pace.tick().await;
        let address = served.address;
        all.push(tokio::spawn(async move { banner(address).await.is_ok_and(|banner| banner == "here") }));
    }
    let mut failed = 0;
    for one in all {
        failed += u32::from(!one.await.expect("ends"));
    }
    assert!(served.envoy.stats().await["cluster.shop.upstream_cx_connect_timeout"] >= 3, "the hole is one");
    assert!(failed <= 8, "{failed} of 800");
}
