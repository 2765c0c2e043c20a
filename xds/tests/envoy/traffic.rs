//! Every setting of the model does to traffic what it says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use nave_xds::model::{Balancing, Cluster, Ejection, Endpoints, HealthCheck, Listener, Probe, ProxyProtocol};
use nave_xds::store::Change;
use nave_xds::translate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::support::envoy::{Envoy, backend, banner};
use crate::support::server::{LoadBalancer, Running, cluster, endpoints, listener, own_address, tcp, udp};

/// A server, an Envoy, and one load balancer that is served.
pub(super) struct Served {
    pub running: Running,
    pub envoy: Envoy,
    pub address: SocketAddr,
}

pub(super) async fn serve(listener: &Listener, cluster: &Cluster, endpoints: &Endpoints) -> Served {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    let balancer = LoadBalancer::of(listener, cluster, endpoints);
    store.apply(balancer.added());
    store.open();
    let envoy = Envoy::start(&[running.address]);
    running.record.until_accepted(&balancer.listener).await;
    assert_eq!(envoy.failures().await, std::collections::BTreeMap::new());
    Served { running, envoy, address: (listener.bind.address, listener.bind.port).into() }
}

/// What a connection from this address reads until it is closed.
pub(super) async fn banner_from(source: &str, address: SocketAddr) -> std::io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse().expect("an address"), 0))?;
    let mut stream = socket.connect(address).await?;
    let mut banner = String::new();
    stream.read_to_string(&mut banner).await?;
    Ok(banner)
}

/// Repeats a look until it is right.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_right: impl FnMut() -> F) {
    let looking = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while !is_right().await {
            pace.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), looking).await.is_ok(), "{what} did not come to be");
}

#[tokio::test]
async fn only_source_ranges_may_connect() {
    let mut model = listener(tcp(&own_address(), 8443), "shop");
    model.source_ranges = ["127.0.0.2/32", "10.0.0.0/8"].map(|range| range.parse().expect("a network")).to_vec();
    let served = serve(&model, &cluster("shop"), &endpoints("shop", &[backend("here").await])).await;
    assert_eq!(banner_from("127.0.0.2", served.address).await.expect("allowed"), "here");
    assert_ne!(banner_from("127.0.0.3", served.address).await.ok().as_deref(), Some("here"));
    assert_eq!(served.envoy.stats().await["listener.shop.no_filter_chain_match"], 1);
}

/// Sends a datagram from an address and returns whether it is echoed.
pub(super) async fn is_echoed(source: &str, address: SocketAddr, echo: &UdpSocket) -> bool {
    let client = UdpSocket::bind((source, 0)).await.expect("a socket");
    client.send_to(b"ping", address).await.expect("sends");
    let mut datagram = [0; 16];
    let Ok(received) = tokio::time::timeout(Duration::from_millis(500), echo.recv_from(&mut datagram)).await else {
        return false;
    };
    let (length, from) = received.expect("receives");
    echo.send_to(&datagram[..length], from).await.expect("sends");
    let heard = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut datagram)).await;
    heard.is_ok_and(|length| length.ok() == Some(4))
}

#[tokio::test]
async fn datagrams_go_there_and_back() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let model = listener(udp(&own_address(), 8443), "dns");
    let backends = [echo.local_addr().expect("an address")];
    let served = serve(&model, &cluster("dns"), &endpoints("dns", &backends)).await;
    assert!(is_echoed("127.0.0.1", served.address, &echo).await);
    assert_eq!(served.envoy.stats().await["udp.dns.downstream_sess_total"], 1);
}

#[tokio::test]
async fn only_datagrams_of_source_ranges_are_passed_on() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut model = listener(udp(&own_address(), 8443), "dns");
    model.source_ranges = vec!["127.0.0.2/32".parse().expect("a network")];
    let backends = [echo.local_addr().expect("an address")];
    let served = serve(&model, &cluster("dns"), &endpoints("dns", &backends)).await;
    assert!(is_echoed("127.0.0.2", served.address, &echo).await);
    assert!(!is_echoed("127.0.0.3", served.address, &echo).await);
}

#[tokio::test]
async fn one_client_stays_with_one_endpoint_under_maglev() {
    let model = listener(tcp(&own_address(), 8443), "shop");
    let mut hashed = cluster("shop");
    hashed.balancing = Balancing::Maglev;
    let backends = [backend("a").await, backend("b").await, backend("c").await, backend("d").await];
    let served = serve(&model, &hashed, &endpoints("shop", &backends)).await;
    let mut all = BTreeSet::new();
    for client in 1..20 {
        let source = format!("127.0.0.{client}");
        let first = banner_from(&source, served.address).await.expect("connects");
        for _ in 0..5 {
            assert_eq!(banner_from(&source, served.address).await.expect("connects"), first);
        }
        all.insert(first);
    }
    assert!(all.len() > 1, "everybody went to the same endpoint");
}

#[tokio::test]
async fn endpoints_learn_the_clients_address_by_the_proxy_protocol() {
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let model = listener(tcp(&own_address(), 8443), "shop");
        let mut announcing = cluster("shop");
        announcing.proxy_protocol = Some(version);
        let backends = [upstream.local_addr().expect("an address")];
        let served = serve(&model, &announcing, &endpoints("shop", &backends)).await;
        let client = TcpStream::connect(served.address).await.expect("connects");
        let (mut accepted, _) = upstream.accept().await.expect("accepts");
        let port = client.local_addr().expect("an address").port();
        let mut head = [0; 16];
        accepted.read_exact(&mut head).await.expect("reads");
        match version {
            ProxyProtocol::V1 => assert!(head.starts_with(b"PROXY TCP4 127.0"), "{head:?}"),
            ProxyProtocol::V2 => {
                assert!(head.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11"), "{head:?}");
                let mut addresses = [0; 12];
                accepted.read_exact(&mut addresses).await.expect("reads");
                assert_eq!(addresses[8..10], port.to_be_bytes());
            }
        }
    }
}

#[tokio::test]
async fn without_endpoints_connections_fail_at_once() {
    let model = listener(tcp(&own_address(), 8443), "shop");
    let served = serve(&model, &cluster("shop"), &endpoints("shop", &[])).await;
    let failed = tokio::time::timeout(Duration::from_secs(2), banner(served.address)).await.expect("fails fast");
    assert!(failed.is_err() || failed.is_ok_and(|banner| banner.is_empty()));
    assert_eq!(served.envoy.stats().await["cluster.shop.upstream_cx_none_healthy"], 1);
}

#[tokio::test]
async fn an_endpoint_that_fails_its_health_check_leaves_rotation_and_comes_back() {
    for probe in [Probe::Tcp, Probe::Http { path: "/healthz".to_owned() }] {
        let model = listener(tcp(&own_address(), 8443), "shop");
        let mut checked = cluster("shop");
        checked.health_check = Some(HealthCheck {
            probe,
            interval: Duration::from_millis(100),
            timeout: Duration::from_millis(100),
            unhealthy_after: 1,
            healthy_after: 1,
        });
        let health = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = health.local_addr().expect("an address");
        let well = tokio::spawn(answer_probes(health));
        let mut backends = endpoints("shop", &[backend("here").await]);
        backends.health_port = Some(port.port());
        let served = serve(&model, &checked, &backends).await;
        let is_served = || async { banner(served.address).await.is_ok_and(|banner| banner == "here") };
        eventually("a healthy endpoint serves", is_served).await;
        well.abort();
        eventually("an ill one does not", || async { !is_served().await }).await;
        let health = TcpListener::bind(port).await.expect("the port is free again");
        tokio::spawn(answer_probes(health));
        eventually("it serves again", is_served).await;
    }
}

pub(super) async fn answer_probes(health: TcpListener) {
    while let Ok((mut stream, _)) = health.accept().await {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_ejected() {
    let model = listener(tcp(&own_address(), 8443), "shop");
    let mut ejecting = cluster("shop");
    ejecting.ejection = Some(Ejection { consecutive_failures: 2, base_time: Duration::from_mins(1) });
    let dead = SocketAddr::new(own_address().parse().expect("an address"), 8443);
    let served = serve(&model, &ejecting, &endpoints("shop", &[backend("here").await, dead])).await;
    for _ in 0..50 {
        assert_eq!(banner(served.address).await.expect("another endpoint is tried"), "here");
    }
    // Every second connection would go there first. Word of the ejection takes a moment to get round.
    let failed = served.envoy.stats().await["cluster.shop.upstream_cx_connect_fail"];
    assert!((2..10).contains(&failed), "{failed}");
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut model = listener(tcp(&own_address(), 8443), "shop");
    model.idle_timeout = Duration::from_millis(300);
    let backends = [upstream.local_addr().expect("an address")];
    let served = serve(&model, &cluster("shop"), &endpoints("shop", &backends)).await;
    let mut client = TcpStream::connect(served.address).await.expect("connects");
    let _open = upstream.accept().await.expect("accepts");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await;
    assert!(closed.is_ok());
}

#[tokio::test]
async fn connections_above_the_limit_are_refused() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let model = listener(tcp(&own_address(), 8443), "shop");
    let mut limited = cluster("shop");
    limited.max_connections = 1;
    let backends = [upstream.local_addr().expect("an address")];
    let served = serve(&model, &limited, &endpoints("shop", &backends)).await;
    let _first = TcpStream::connect(served.address).await.expect("connects");
    let _open = upstream.accept().await.expect("accepts");
    let mut second = TcpStream::connect(served.address).await.expect("connects");
    let mut rest = Vec::new();
    let _ = second.read_to_end(&mut rest).await;
    assert_eq!(served.envoy.stats().await["cluster.shop.upstream_cx_overflow"], 1);
    let store = served.running.server.fleet("default");
    let roomy = translate::cluster(&cluster("shop"));
    store.apply(Change { upsert: vec![roomy.clone()], remove: Vec::new() });
    served.running.record.until_accepted(&roomy).await;
    // Envoy acknowledges a cluster before its workers have it.
    eventually("a connection gets through", || async {
        let mut third = TcpStream::connect(served.address).await.expect("connects");
        let mut rest = Vec::new();
        tokio::select! {
            accepted = upstream.accept() => accepted.is_ok(),
            _ = third.read_to_end(&mut rest) => false,
        }
    })
    .await;
}
