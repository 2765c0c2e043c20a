//! Envoy proves who it is, and the server proves that it is a manager.

use std::sync::Arc;

use nave_xds::bootstrap::Certificates;
use nave_xds::identity::{Peer, server_config};
use nave_xds::server::{Settings, TlsSource};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::certificates::{Authority, Issued};
use crate::support::envoy::{Envoy, backend, banner, bootstrap};
use crate::support::server::{LoadBalancer, Running, own_address, own_socket, tcp};

fn manager() -> Peer {
    Peer::Manager { name: "manager-0".into() }
}

fn edge(fleet: &str) -> Peer {
    Peer::Envoy { fleet: fleet.into(), node: "edge-7".into() }
}

fn config(authority: &Authority, issued: &Issued) -> Arc<ServerConfig> {
    let config =
        server_config(issued.certificate.as_bytes(), issued.key.as_bytes(), authority.certificate().as_bytes());
    Arc::new(config.expect("a configuration"))
}

async fn start(config: Arc<ServerConfig>) -> (Running, watch::Sender<Arc<ServerConfig>>) {
    let (sender, receiver) = watch::channel(config);
    let listener = own_socket().await;
    (Running::start_on(listener, Settings::default(), TlsSource::Mutual(receiver)), sender)
}

fn envoy(running: &Running, authority: &Authority, issued: &Issued) -> Envoy {
    let directory = tempfile::tempdir().expect("a directory");
    authority.write(directory.path(), issued);
    let mut bootstrap = bootstrap(&directory, &[running.address]);
    let secrets = directory.path().join("secrets");
    std::fs::create_dir(&secrets).expect("a directory");
    bootstrap.certificates = Some(Certificates { directory: directory.path().to_owned(), secrets });
    Envoy::start_with(directory, &bootstrap)
}

#[tokio::test]
async fn fleet_and_node_are_what_the_certificate_says_whatever_envoy_says() {
    let authority = Authority::new();
    let (running, _config) = start(config(&authority, &authority.issue(&manager()))).await;
    let bind = tcp(&own_address(), 8443);
    let balancer = LoadBalancer::new(bind, &[backend("here").await]);
    let store = running.server.fleet("lab");
    store.apply(balancer.added());
    store.open();
    running.server.fleet("default").open();
    // The bootstrap says fleet `default` and node `edge-1`.
    let _envoy = envoy(&running, &authority, &authority.issue(&edge("lab")));
    running.record.until_accepted(&balancer.listener).await;
    let said: Vec<_> = running.record.reports().iter().map(|r| (r.fleet.to_string(), r.node.to_string())).collect();
    assert!(said.iter().all(|said| *said == ("lab".to_owned(), "edge-7".to_owned())), "{said:?}");
    assert_eq!(banner((bind.address, bind.port).into()).await.expect("connects"), "here");
}

#[tokio::test]
async fn envoy_uses_a_renewed_certificate_without_a_restart() {
    let authority = Authority::new();
    let (running, config_of) = start(config(&authority, &authority.issue(&manager()))).await;
    let address = running.address;
    running.server.fleet("lab").open();
    let envoy = envoy(&running, &authority, &authority.issue(&edge("lab")));
    running.record.until("Envoy connects", |events| !events.is_empty()).await;

    let renewed = authority.issue(&Peer::Envoy { fleet: "lab".into(), node: "edge-8".into() });
    for (name, content) in [("tls.key", &renewed.key), ("tls.crt", &renewed.certificate)] {
        let new = envoy.directory.path().join(format!("{name}.new"));
        std::fs::write(&new, content).expect("writes");
        std::fs::rename(new, envoy.directory.path().join(name)).expect("renames");
    }
    // Each new connection shows the certificate that Envoy has then.
    let renewed = async move {
        let mut running = running;
        loop {
            running.stop().await;
            let listener = TcpListener::bind(address).await.expect("the port is free again");
            let tls = TlsSource::Mutual(config_of.subscribe());
            running = Running::start_on(listener, Settings::default(), tls);
            running.server.fleet("lab").open();
            running.record.until("Envoy connects", |events| !events.is_empty()).await;
            if running.record.reports().iter().any(|report| *report.node == *"edge-8") {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), renewed).await.expect("the renewed certificate is used");
}

#[tokio::test]
async fn an_envoy_does_not_talk_to_a_server_whose_certificate_is_no_managers() {
    let authority = Authority::new();
    let (running, config_of) = start(config(&authority, &authority.issue(&edge("lab")))).await;
    running.server.fleet("lab").open();
    let envoy = envoy(&running, &authority, &authority.issue(&edge("lab")));
    let failing = async {
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            pace.tick().await;
            if envoy.directory.path().join("admin").exists()
                && envoy.stats().await["cluster.nave_xds.upstream_cx_connect_fail"] > 0
            {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), failing).await.expect("Envoy gives up the connection");
    assert_eq!(running.record.events(), Vec::new());
    // The right certificate, put in place while the server serves, is used by the next connection.
    config_of.send_replace(config(&authority, &authority.issue(&manager())));
    running.record.until("Envoy connects", |events| !events.is_empty()).await;
}
