//! An edit of a load balancer ends no connection but those that it means to end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use nave_xds::model::{Balancing, HealthCheck, Listener, Probe};
use nave_xds::resource::Resource;
use nave_xds::store::Change;
use nave_xds::translate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::server::{cluster, endpoints, listener, own_address, tcp};
use crate::traffic::{Served, eventually, serve};

/// Past the second for which Envoy drains here.
const DRAINED: Duration = Duration::from_millis(1500);

/// A connection through Envoy, both ends of it.
struct Open {
    client: TcpStream,
    backend: TcpStream,
}

impl Open {
    async fn from(source: &str, served: &Served, upstream: &TcpListener) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(source.parse().expect("an address"), 0)).expect("binds");
        let client = socket.connect(served.address).await.expect("connects");
        Self { client, backend: upstream.accept().await.expect("accepts").0 }
    }

    async fn lives(&mut self) -> bool {
        let mut heard = [0; 4];
        let passed = async {
            self.backend.write_all(b"ping").await?;
            self.client.read_exact(&mut heard).await
        };
        passed.await.is_ok() && &heard == b"ping"
    }
}

async fn now(served: &Served, resource: Resource) {
    served.running.server.fleet("default").apply(Change { upsert: vec![resource.clone()], remove: Vec::new() });
    served.running.record.until_accepted(&resource).await;
    assert_eq!(served.envoy.failures().await, BTreeMap::new());
    tokio::time::sleep(DRAINED).await;
    eventually("all that was replaced is drained", || async {
        served.envoy.stats().await["listener_manager.total_filter_chains_draining"] == 0
    })
    .await;
}

fn with_ranges(model: &Listener, ranges: &[&str]) -> Listener {
    let source_ranges = ranges.iter().map(|range| range.parse().expect("a network")).collect();
    Listener { source_ranges, ..model.clone() }
}

async fn upstream() -> (TcpListener, SocketAddr) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = upstream.local_addr().expect("an address");
    (upstream, at)
}

#[tokio::test]
async fn n_an_edit_of_source_ranges_ends_the_connections_of_the_network_that_it_shuts_out_and_no_other() {
    let (upstream, at) = upstream().await;
    let model = listener(tcp(&own_address(), 8443), "shop");
    let first = with_ranges(&model, &["127.0.0.2/32", "127.0.0.3/32"]);
    let served = serve(&first, &cluster("shop"), &endpoints("shop", &[at])).await;
    let mut out = Open::from("127.0.0.2", &served, &upstream).await;
    let mut stays = Open::from("127.0.0.3", &served, &upstream).await;
    now(&served, translate::listener(&with_ranges(&model, &["127.0.0.3/32", "127.0.0.4/32"]))).await;
    assert!(!out.lives().await, "its network was shut out");
    assert!(stays.lives().await);
    let mut new = Open::from("127.0.0.4", &served, &upstream).await;
    now(&served, translate::listener(&with_ranges(&model, &["127.0.0.3/32", "127.0.0.4/32", "10.0.0.0/8"]))).await;
    assert!(stays.lives().await && new.lives().await, "one network more ends nothing");
}

#[tokio::test]
async fn n_with_many_source_ranges_an_edit_ends_the_connections_of_all() {
    let (upstream, at) = upstream().await;
    let model = listener(tcp(&own_address(), 8443), "shop");
    let many: Vec<String> = (0..=Listener::OWN_CHAINS).map(|n| format!("127.0.0.{}/32", n + 2)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let served = serve(&with_ranges(&model, &many), &cluster("shop"), &endpoints("shop", &[at])).await;
    let mut open = Open::from("127.0.0.2", &served, &upstream).await;
    now(&served, translate::listener(&with_ranges(&model, &[many.as_slice(), &["10.0.0.0/8"]].concat()))).await;
    assert!(!open.lives().await);
    Open::from("127.0.0.2", &served, &upstream).await;
}

#[tokio::test]
async fn n_session_affinity_and_every_other_setting_of_the_backends_end_no_connection() {
    let (upstream, at) = upstream().await;
    let model = listener(tcp(&own_address(), 8443), "shop");
    let mut edited = cluster("shop");
    let served = serve(&model, &edited, &endpoints("shop", &[at])).await;
    let mut open = Open::from("127.0.0.2", &served, &upstream).await;
    let listener = translate::listener(&model);
    for edit in 0..4 {
        match edit {
            0 => edited.balancing = Balancing::Maglev,
            1 => edited.connect_timeout = Duration::from_secs(3),
            2 => edited.max_connections = 17,
            _ => {
                edited.health_check = Some(HealthCheck {
                    probe: Probe::Tcp,
                    interval: Duration::from_secs(1),
                    timeout: Duration::from_secs(1),
                    unhealthy_after: 3,
                    healthy_after: 1,
                });
            }
        }
        now(&served, translate::cluster(&edited)).await;
        assert!(open.lives().await, "edit {edit}");
    }
    assert_eq!(translate::listener(&model), listener, "which endpoint a client gets is no matter of the listener");
}

/// Envoy keeps the idle timeout in the filter chain: this is what docs/services.md says of it.
#[tokio::test]
async fn n_an_edit_of_the_idle_timeout_ends_connections_once_the_drain_time_is_over() {
    let (upstream, at) = upstream().await;
    let model = listener(tcp(&own_address(), 8443), "shop");
    let served = serve(&model, &cluster("shop"), &endpoints("shop", &[at])).await;
    let mut open = Open::from("127.0.0.2", &served, &upstream).await;
    let edited = Listener { idle_timeout: Duration::from_secs(17), ..model };
    now(&served, translate::listener(&edited)).await;
    assert!(!open.lives().await);
    Open::from("127.0.0.2", &served, &upstream).await;
}
