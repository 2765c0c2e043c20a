//! A listener on the wildcard address answers at every address of the machine but those at which it shall not.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use nave_xds::model::Listener;
use nave_xds::store::Change;
use nave_xds::translate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::envoy::backend;
use crate::support::server::{cluster, endpoints, listener, own_port, tcp, udp};
use crate::traffic::{Served, banner_from, eventually, is_echoed, serve};

const OURS: &str = "127.0.0.2";
const THEIRS: &str = "127.0.0.3";

fn networks(networks: &[&str]) -> Vec<IpNet> {
    networks.iter().map(|network| network.parse().expect("a network")).collect()
}

fn at(address: &str, served: &Served) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), served.address.port())
}

/// A connection that the kernel accepts, and that is closed without a byte.
fn assert_closed(banner: io::Result<String>) {
    match banner {
        Ok(banner) => assert_eq!(banner, ""),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

async fn now(served: &Served, model: &Listener) {
    let listener = translate::listener(model);
    served.running.server.fleet("default").apply(Change { upsert: vec![listener.clone()], remove: Vec::new() });
    served.running.record.until_accepted(&listener).await;
    assert_eq!(served.envoy.failures().await, BTreeMap::new());
    // Envoy acknowledges a listener before its workers have it; what was replaced is drained after that.
    eventually("all that was replaced is drained", || async {
        let stats = served.envoy.stats().await;
        ["total_listeners_draining", "total_filter_chains_draining"]
            .map(|name| stats[&format!("listener_manager.{name}")])
            == [0, 0]
    })
    .await;
}

#[tokio::test]
async fn connections_to_somebody_elses_address_are_closed() {
    let mut model = listener(tcp("0.0.0.0", own_port()), "shop");
    model.not_on = networks(&["127.0.0.3/32", "2001:db8::3/128"]);
    let served = serve(&model, &cluster("shop"), &endpoints("shop", &[backend("here").await])).await;
    assert_eq!(banner_from("127.0.0.1", at(OURS, &served)).await.expect("served"), "here");
    assert_closed(banner_from("127.0.0.1", at(THEIRS, &served)).await);
    assert_eq!(served.envoy.stats().await["cluster.shop.upstream_cx_total"], 1);
}

#[tokio::test]
async fn an_allowed_source_does_not_open_somebody_elses_address() {
    let mut model = listener(tcp("0.0.0.0", own_port()), "shop");
    model.not_on = networks(&["127.0.0.3/32"]);
    // The same networks in both: what a source may be does not say what a destination may be.
    model.source_ranges = networks(&["127.0.0.2/31"]);
    let served = serve(&model, &cluster("shop"), &endpoints("shop", &[backend("here").await])).await;
    for allowed in ["127.0.0.2", "127.0.0.3"] {
        assert_eq!(banner_from(allowed, at(OURS, &served)).await.expect("served"), "here");
        assert_closed(banner_from(allowed, at(THEIRS, &served)).await);
    }
    assert_closed(banner_from("127.0.0.4", at(OURS, &served)).await);
    assert_closed(banner_from("127.0.0.4", at(THEIRS, &served)).await);
    assert_eq!(served.envoy.stats().await["cluster.shop.upstream_cx_total"], 2);
}

#[tokio::test]
async fn a_listener_may_answer_nowhere() {
    // Several, since Envoy might choose by chance.
    for source_ranges in [&[][..], &["127.0.0.0/8"], &["0.0.0.0/0"], &[], &["127.0.0.0/8"]] {
        let mut model = listener(tcp("0.0.0.0", own_port()), "shop");
        model.not_on = networks(&["0.0.0.0/0", "::/0"]);
        model.source_ranges = networks(source_ranges);
        let served = serve(&model, &cluster("shop"), &endpoints("shop", &[backend("here").await])).await;
        assert_closed(banner_from("127.0.0.1", at(OURS, &served)).await);
    }
}

#[tokio::test]
async fn a_change_of_where_it_answers_leaves_open_connections_alone() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut model = listener(tcp("0.0.0.0", own_port()), "shop");
    let backends = [upstream.local_addr().expect("an address")];
    let served = serve(&model, &cluster("shop"), &endpoints("shop", &backends)).await;
    let mut open = Vec::new();
    for address in [OURS, THEIRS] {
        let client = TcpStream::connect(at(address, &served)).await.expect("connects");
        open.push((client, upstream.accept().await.expect("accepts").0));
    }

    for not_on in [&["127.0.0.3/32"][..], &["127.0.0.3/32", "127.0.0.4/32"], &["127.0.0.4/32"], &[]] {
        model.not_on = networks(not_on);
        now(&served, &model).await;
        for (client, accepted) in &mut open {
            accepted.write_all(b"still here").await.expect("writes");
            let mut heard = [0; 10];
            client.read_exact(&mut heard).await.expect("reads");
            assert_eq!(&heard, b"still here");
            client.write_all(b"and I").await.expect("writes");
            let mut heard = [0; 5];
            accepted.read_exact(&mut heard).await.expect("reads");
            assert_eq!(&heard, b"and I");
        }
    }
    assert_eq!(served.envoy.stats().await["listener_manager.listener_in_place_updated"], 4);
    TcpStream::connect(at(THEIRS, &served)).await.expect("connects");
    upstream.accept().await.expect("answers everywhere again");
}

#[tokio::test]
async fn datagrams_to_somebody_elses_address_are_dropped() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut model = listener(udp("0.0.0.0", own_port()), "dns");
    model.not_on = networks(&["127.0.0.3/32", "2001:db8::3/128"]);
    let backends = [echo.local_addr().expect("an address")];
    let served = serve(&model, &cluster("dns"), &endpoints("dns", &backends)).await;
    assert!(is_echoed("127.0.0.1", at(OURS, &served), &echo).await);
    assert!(!is_echoed("127.0.0.1", at(THEIRS, &served), &echo).await);
    assert_eq!(served.envoy.stats().await["udp.dns.downstream_sess_no_route"], 1);
}

#[tokio::test]
async fn an_allowed_source_sends_no_datagrams_to_somebody_elses_address() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut model = listener(udp("0.0.0.0", own_port()), "dns");
    model.not_on = networks(&["127.0.0.3/32"]);
    model.source_ranges = networks(&["127.0.0.2/31"]);
    let backends = [echo.local_addr().expect("an address")];
    let served = serve(&model, &cluster("dns"), &endpoints("dns", &backends)).await;
    for allowed in ["127.0.0.2", "127.0.0.3"] {
        assert!(is_echoed(allowed, at(OURS, &served), &echo).await);
        assert!(!is_echoed(allowed, at(THEIRS, &served), &echo).await);
    }
    assert!(!is_echoed("127.0.0.4", at(OURS, &served), &echo).await);
    assert!(!is_echoed("127.0.0.4", at(THEIRS, &served), &echo).await);
}

/// From where the backend hears a datagram of a client, if it does.
async fn session(client: &UdpSocket, address: SocketAddr, backend: &UdpSocket) -> Option<SocketAddr> {
    client.send_to(b"ping", address).await.expect("sends");
    let heard = tokio::time::timeout(Duration::from_millis(500), backend.recv_from(&mut [0; 16])).await;
    heard.ok().map(|heard| heard.expect("receives").1)
}

/// Unlike a TCP listener, Envoy replaces a UDP one as a whole.
#[tokio::test]
async fn a_change_of_where_datagrams_are_answered_ends_every_session() {
    let backend = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut model = listener(udp("0.0.0.0", own_port()), "dns");
    let backends = [backend.local_addr().expect("an address")];
    let served = serve(&model, &cluster("dns"), &endpoints("dns", &backends)).await;
    let ours = session(&client, at(OURS, &served), &backend).await.expect("served");
    session(&client, at(THEIRS, &served), &backend).await.expect("served");
    assert_eq!(session(&client, at(OURS, &served), &backend).await, Some(ours));
    model.not_on = networks(&["127.0.0.3/32"]);
    now(&served, &model).await;
    assert_eq!(session(&client, at(THEIRS, &served), &backend).await, None);
    assert_ne!(session(&client, at(OURS, &served), &backend).await.expect("served"), ours);
}
