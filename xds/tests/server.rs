//! The server over the wire, with clients that are slow, dead, many, or nobody.

#[cfg(test)]
mod support;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use nave_xds::identity::{Peer, server_config};
use nave_xds::report::Event;
use nave_xds::resource::{Resource, ResourceType};
use nave_xds::server::{Settings, TlsSource};
use nave_xds::store::Change;
use prost::Message as _;
use support::certificates::{Authority, Issued};
use support::server::{LoadBalancer, Running, own_socket, tcp};
use support::stream::Stream;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

#[cfg(test)]
fn cluster(name: &str) -> Resource {
    Resource::new(ResourceType::Cluster, name, name.as_bytes())
}

#[cfg(test)]
fn put(resources: impl IntoIterator<Item = Resource>) -> Change {
    Change { upsert: resources.into_iter().collect(), remove: Vec::new() }
}

#[tokio::test]
async fn one_change_costs_the_same_however_much_is_there() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    let balancer = |port: u16| LoadBalancer::new(tcp("192.0.2.1", port), &[]);
    store.apply(put((1..=5000).flat_map(|port| balancer(port).added().upsert)));
    store.open();
    let mut stream = Stream::connect(running.address).await;
    stream.want_all(ResourceType::Cluster).await;
    let all = stream.next().await.expect("everything");
    stream.ack(&all).await;
    let one = balancer(6000);
    store.apply(put([one.cluster.clone()]));
    let response = stream.next().await.expect("the change");
    assert_eq!(response.resources.len(), 1);
    assert!(response.encoded_len() < 1000, "{} bytes", response.encoded_len());
}

#[tokio::test]
async fn a_client_that_answers_nothing_is_dropped_and_costs_nobody_else() {
    let settings = Settings { answer_within: Duration::from_millis(300), ..Settings::default() };
    let running = Running::start_with(settings).await;
    let store = running.server.fleet("default");
    store.open();
    let mut dead = Stream::connect(running.address).await;
    let mut alive = Stream::connect(running.address).await;
    dead.want_all(ResourceType::Cluster).await;
    alive.want_all(ResourceType::Cluster).await;
    for number in 0..5 {
        store.apply(put([cluster(&number.to_string())]));
        let response = alive.next().await.expect("the change");
        alive.ack(&response).await;
    }
    dead.next().await.expect("the first change");
    assert_eq!(dead.next().await.expect_err("is dropped").code(), Code::DeadlineExceeded);
    store.apply(put([cluster("later")]));
    assert_eq!(alive.next().await.expect("the change").resources[0].name, "later");
}

#[tokio::test]
async fn streams_that_come_and_go_leave_nothing_behind() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.open();
    store.apply(put([cluster("a")]));
    let mut steady = Stream::connect(running.address).await;
    steady.want_all(ResourceType::Cluster).await;
    let response = steady.next().await.expect("the cluster");
    steady.ack(&response).await;
    for _ in 0..50 {
        let flapping = Stream::connect(running.address).await;
        flapping.want_all(ResourceType::Cluster).await;
    }
    let ended = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Disconnected)).count() == 50;
    running.record.until("all streams are seen to end", ended).await;
    store.apply(put([cluster("b")]));
    assert_eq!(steady.next().await.expect("the change").resources[0].name, "b");
}

#[tokio::test]
async fn a_client_may_come_back_with_a_very_long_list() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.apply(put([cluster("a")]));
    store.open();
    let mut stream = Stream::connect(running.address).await;
    let held = (0..200_000).map(|number| (format!("shop-{number}"), "0123456789abcdef".to_owned()));
    let request = DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.url().to_owned(),
        initial_resource_versions: held.collect(),
        ..Default::default()
    };
    assert!(request.encoded_len() > 4 << 20);
    stream.send(request).await;
    assert_eq!(stream.next().await.expect("an answer").resources[0].name, "a");
}

#[tokio::test]
async fn streams_end_when_the_server_shuts_down() {
    let running = Running::start().await;
    running.server.fleet("default").open();
    let mut stream = Stream::connect(running.address).await;
    stream.want_all(ResourceType::Cluster).await;
    running.record.until("the stream is open", |events| !events.is_empty()).await;
    let (end, ()) = tokio::join!(stream.next(), running.stop());
    assert_eq!(end.expect_err("ends").code(), Code::Unavailable);
}

#[tokio::test]
async fn a_request_without_a_type_ends_the_stream() {
    let running = Running::start().await;
    running.server.fleet("default").open();
    let mut stream = Stream::connect(running.address).await;
    stream.send(DeltaDiscoveryRequest::default()).await;
    assert_eq!(stream.next().await.expect_err("ends").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_type_that_we_do_not_serve_stays_without_an_answer() {
    let running = Running::start().await;
    let store = running.server.fleet("default");
    store.apply(put([cluster("a")]));
    store.open();
    let mut stream = Stream::connect(running.address).await;
    let unknown = "type.googleapis.com/envoy.service.runtime.v3.Runtime".to_owned();
    stream.send(DeltaDiscoveryRequest { type_url: unknown, ..Default::default() }).await;
    stream.want_all(ResourceType::Cluster).await;
    assert_eq!(stream.next().await.expect("an answer").type_url, ResourceType::Cluster.url());
}

/// A server that asks for certificates of this authority, and keeps its own as long as the sender lives.
#[cfg(test)]
async fn start_mutual(authority: &Authority) -> (Running, watch::Sender<Arc<rustls::ServerConfig>>) {
    let manager = authority.issue(&Peer::Manager { name: "manager-0".into() });
    let config =
        server_config(manager.certificate.as_bytes(), manager.key.as_bytes(), authority.certificate().as_bytes());
    let (sender, receiver) = watch::channel(Arc::new(config.expect("a configuration")));
    let listener = own_socket().await;
    (Running::start_on(listener, Settings::default(), TlsSource::Mutual(receiver)), sender)
}

/// A stream of whoever has this certificate.
#[cfg(test)]
async fn open(running: &Running, authority: &Authority, issued: Option<&Issued>) -> Result<Stream, String> {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.certificate())).domain_name("localhost");
    if let Some(Issued { certificate, key }) = issued {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let channel = Channel::from_shared(format!("https://{}", running.address)).expect("a URI");
    let channel = channel.tls_config(tls).expect("TLS").connect().await.map_err(|error| error.to_string())?;
    Stream::open(channel).await.map_err(|status| status.code().to_string())
}

#[tokio::test]
async fn only_envoys_with_a_certificate_of_the_authority_get_a_stream() {
    let authority = Authority::new();
    let (running, _config) = start_mutual(&authority).await;
    let edge = Peer::Envoy { fleet: "default".into(), node: "edge-1".into() };
    assert!(open(&running, &authority, Some(&authority.issue(&edge))).await.is_ok());
    assert!(open(&running, &authority, None).await.is_err(), "no certificate");
    let stranger = Authority::new().issue(&edge);
    assert!(open(&running, &authority, Some(&stranger)).await.is_err(), "a certificate of somebody else");
    let nobody = authority.issue_for("spiffe://nave.dev/tenant/shop");
    assert!(open(&running, &authority, Some(&nobody)).await.is_err(), "a certificate for something else");
    let manager = authority.issue(&Peer::Manager { name: "manager-1".into() });
    let denied = open(&running, &authority, Some(&manager)).await.err();
    assert_eq!(denied.as_deref(), Some("The caller does not have permission to execute the specified operation"));
    let connected = running.record.events().iter().filter(|event| matches!(event, Event::Connected)).count();
    assert_eq!(connected, 1);
}
