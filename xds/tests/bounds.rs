//! Envoys that ask for too much, or come with certificates that are no longer good, against a server that asks for certificates:
//! each stream that exceeds a bound ends with a status that says so, and others are served.

#[cfg(test)]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc;
use nave_xds::identity::{Peer, server_config};
use nave_xds::report::{Event, Refusal};
use nave_xds::resource::{Resource, ResourceType};
use nave_xds::server::{Limits, Settings, TlsSource};
use nave_xds::store::Change;
use support::certificates::{Authority, Issued};
use support::server::{Running, own_socket};
use support::stream::Stream;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

/// A server, its authority, and the fleet `default` with one listener.
#[cfg(test)]
struct Lab {
    authority: Authority,
    running: Running,
    _config: watch::Sender<Arc<rustls::ServerConfig>>,
}

#[cfg(test)]
impl Lab {
    async fn start(limits: Limits) -> Self {
        let authority = Authority::new();
        let manager = authority.issue(&Peer::Manager { name: "manager-0".into() });
        let (chain, key) = (manager.certificate.as_bytes(), manager.key.as_bytes());
        let config = server_config(chain, key, authority.certificate().as_bytes()).expect("a configuration");
        let (sender, receiver) = watch::channel(Arc::new(config));
        let settings = Settings { limits, ..Settings::default() };
        let running = Running::start_on(own_socket().await, settings, TlsSource::Mutual(receiver));
        let store = running.server.fleet("default");
        store.apply(Change { upsert: vec![listener()], remove: Vec::new() });
        store.open();
        Self { authority, running, _config: sender }
    }

    async fn channel(&self, issued: &Issued) -> Result<Channel, tonic::transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.certificate()))
            .identity(Identity::from_pem(&issued.certificate, &issued.key))
            .domain_name("localhost");
        let channel = Channel::from_shared(format!("https://{}", self.running.address)).expect("a URI");
        channel.tls_config(tls).expect("TLS").connect().await
    }

    async fn open(&self, issued: &Issued) -> Stream {
        Stream::open(self.channel(issued).await.expect("connects")).await.expect("a stream")
    }

    async fn node(&self, node: &str) -> Stream {
        self.open(&self.authority.issue(&edge(node))).await
    }

    /// Another node is served as ever.
    async fn others_are_served(&self) {
        let mut stream = self.node("bystander").await;
        stream.want_all(ResourceType::Listener).await;
        assert_eq!(stream.next().await.expect("the listener").resources[0].name, "tcp/192.0.2.1/80");
    }
}

#[cfg(test)]
fn edge(node: &str) -> Peer {
    Peer::Envoy { fleet: "default".into(), node: node.into() }
}

#[cfg(test)]
fn listener() -> Resource {
    Resource::new(ResourceType::Listener, "tcp/192.0.2.1/80", b"one")
}

/// Asks for so many endpoints, none of which there are.
#[cfg(test)]
fn names(from: usize, count: usize) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ResourceType::Endpoints.url().to_owned(),
        resource_names_subscribe: (from..from + count).map(|number| number.to_string()).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
fn refusal(response: &DeltaDiscoveryResponse, message: String) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: Some(rpc::Status { code: 3, message, details: Vec::new() }),
        ..Default::default()
    }
}

#[tokio::test]
async fn c2_a_stream_that_asks_for_two_million_names_ends_and_says_why() {
    let lab = Lab::start(Limits::default()).await;
    let mut stream = lab.node("greedy").await;
    let mut sent = 0;
    let status = loop {
        stream.send(names(sent, 50_000)).await;
        sent += 50_000;
        match stream.next().await {
            Ok(response) => stream.ack(&response).await,
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("names"), "{status:?}");
    assert!(sent <= 300_000, "it may keep {sent} names");
    lab.others_are_served().await;
}

#[tokio::test]
async fn c2_two_million_names_in_one_request_end_the_stream() {
    let lab = Lab::start(Limits::default()).await;
    let mut stream = lab.node("greedy").await;
    stream.send(names(0, 2_000_000)).await;
    let status = stream.next().await.expect_err("ends");
    assert!(matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange), "{status:?}");
    let mut stream = lab.node("greedy").await;
    let held = (0..600_000).map(|number| (number.to_string(), String::new())).collect();
    let type_url = ResourceType::Cluster.url().to_owned();
    stream.send(DeltaDiscoveryRequest { type_url, initial_resource_versions: held, ..Default::default() }).await;
    assert_eq!(stream.next().await.expect_err("ends").code(), Code::ResourceExhausted);
    lab.others_are_served().await;
}

#[tokio::test]
async fn c2_a_name_longer_than_any_of_ours_ends_the_stream() {
    let lab = Lab::start(Limits::default()).await;
    let mut stream = lab.node("verbose").await;
    let mut request = names(0, 1);
    request.resource_names_subscribe.push("x".repeat(100_000));
    stream.send(request).await;
    assert_eq!(stream.next().await.expect_err("ends").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn c3_five_megabytes_of_words_are_a_kilobyte_that_shows_as_text() {
    let lab = Lab::start(Limits::default()).await;
    for (node, words) in [
        ("shouting", "x".repeat(5 << 20)),
        ("drawing", "\u{1b}[2J\u{202e}\r\n\0cannot bind ".repeat(300_000)),
        ("foreign", "ü".repeat(2_500_000)),
    ] {
        let mut stream = lab.node(node).await;
        stream.want_all(ResourceType::Listener).await;
        let response = stream.next().await.expect("the listener");
        stream.send(refusal(&response, words)).await;
        let is_told = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Refused(_)));
        lab.running.record.until("the refusal is reported", is_told).await;
        let reports = lab.running.record.reports();
        let told = reports.iter().filter(|report| *report.node == *node).find_map(|report| match &report.event {
            Event::Refused(Refusal { held: _, message }) => Some(Arc::clone(message)),
            _ => None,
        });
        let told = told.expect("this node's refusal");
        assert!(!told.is_empty() && told.len() <= 1024, "{} bytes", told.len());
        assert!(told.chars().all(|c| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric()), "{told:?}");
        lab.running.record.forget();
    }
    lab.others_are_served().await;
}

#[tokio::test]
async fn an_envoy_says_whether_it_asks_for_everything() {
    let lab = Lab::start(Limits::default()).await;
    let mut stream = lab.node("half").await;
    stream.want_all(ResourceType::Listener).await;
    stream.next().await.expect("the listener");
    let wants = |everything: bool| move |events: &[Event]| events.contains(&Event::Wants { everything });
    assert!(!wants(true)(&lab.running.record.events()), "listeners alone are not everything");
    stream.want_all(ResourceType::Cluster).await;
    lab.running.record.until("it wants everything", wants(true)).await;
    let type_url = ResourceType::Listener.url().to_owned();
    let star = vec!["*".to_owned()];
    stream.send(DeltaDiscoveryRequest { type_url, resource_names_unsubscribe: star, ..Default::default() }).await;
    lab.running.record.until("it no longer does", wants(false)).await;
}

#[tokio::test]
async fn the_oldest_of_too_many_streams_of_a_node_ends() {
    let lab = Lab::start(Limits::default()).await;
    let mut streams = Vec::new();
    for _ in 0..=Limits::default().streams_of_one {
        let mut stream = lab.node("many").await;
        stream.want_all(ResourceType::Listener).await;
        stream.next().await.expect("the listener");
        streams.push(stream);
    }
    assert_eq!(streams[0].next().await.expect_err("ends").code(), Code::ResourceExhausted);
    let last = streams.last_mut().expect("some");
    last.want_all(ResourceType::Cluster).await;
    assert_eq!(last.next().await.expect("an answer").type_url, ResourceType::Cluster.url());
    lab.others_are_served().await;
}

#[tokio::test]
async fn connections_that_prove_nothing_keep_no_envoy_out() {
    let limits = Limits { handshakes: 16, handshakes_from_one: 8, ..Limits::default() };
    let lab = Lab::start(limits).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(lab.running.address).await.expect("connects"));
    }
    lab.others_are_served().await;
    // All but the last few were closed long before the handshake's ten seconds.
    let closed = async {
        for stream in &idle[..200 - 8] {
            stream.readable().await.expect("an event");
            assert_eq!(stream.try_read(&mut [0]).expect("the end"), 0);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("they are closed at once");
}

#[tokio::test]
async fn an_envoy_that_asks_without_end_gets_its_share_of_work() {
    let limits = Limits { work_in_a_second: 1000, work_at_once: 2000, ..Limits::default() };
    let lab = Lab::start(limits).await;
    let mut stream = lab.node("busy").await;
    let begun = Instant::now();
    // Each round is 500 names and their 500 answers.
    for _ in 0..4 {
        stream.send(names(0, 500)).await;
        let response = stream.next().await.expect("nothing of that is there");
        assert_eq!(response.removed_resources.len(), 500);
        stream.ack(&response).await;
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900), "4000 names at once and after {took:?}");
    lab.others_are_served().await;
}

/// Seconds of Unix time.
#[cfg(test)]
fn seconds(at: SystemTime) -> i64 {
    i64::try_from(at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()).expect("fits")
}

#[tokio::test]
async fn a_revoked_certificate_opens_no_stream_and_its_open_ones_end_within_a_second() {
    let lab = Lab::start(Limits::default()).await;
    let (uri, now) = (edge("lost").uri(), SystemTime::now());
    let old = lab.authority.issue_at(&uri, now - Duration::from_secs(10));
    let new = lab.authority.issue_at(&uri, now);
    let mut open = lab.open(&old).await;
    let mut kept = lab.node("bystander").await;
    for stream in [&mut open, &mut kept] {
        stream.want_all(ResourceType::Listener).await;
        stream.next().await.expect("the listener");
    }

    let begun = Instant::now();
    lab.running.server.revoke("default", BTreeMap::from([("lost".into(), seconds(now))]));
    assert_eq!(open.next().await.expect_err("ends").code(), Code::Unauthenticated);
    assert!(begun.elapsed() < Duration::from_secs(1), "after {:?}", begun.elapsed());
    // A client that is turned away after its handshake sees it at its first request, or before.
    if let Ok(channel) = lab.channel(&old).await {
        assert!(Stream::open(channel).await.is_err(), "a new stream with the old certificate");
    }
    let mut renewed = lab.open(&new).await;
    renewed.want_all(ResourceType::Listener).await;
    renewed.next().await.expect("the listener, with a certificate of then");
    kept.want_all(ResourceType::Cluster).await;
    kept.next().await.expect("an answer to another node");
    lab.running.server.revoke("default", BTreeMap::new());
    lab.open(&old).await;
}

#[tokio::test]
async fn every_connection_of_a_revoked_certificate_ends_whatever_it_is_used_for() {
    let lab = Lab::start(Limits::default()).await;
    let old = lab.authority.issue_at(&edge("lost").uri(), SystemTime::now() - Duration::from_secs(10));
    let mut first = lab.open(&old).await;
    let idle = lab.channel(&old).await.expect("connects"); // no stream is on it yet
    lab.running.server.revoke("default", BTreeMap::from([("lost".into(), seconds(SystemTime::now()))]));
    assert_eq!(first.next().await.expect_err("ends").code(), Code::Unauthenticated);
    let refused = async {
        while Stream::open(idle.clone()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await; // its farewell lasts a quarter of a second
        }
    };
    tokio::time::timeout(Duration::from_secs(1), refused).await.expect("the connection is gone");
}

#[tokio::test]
async fn a_certificate_of_a_clock_that_is_ahead_is_good_and_one_of_next_week_is_not() {
    let lab = Lab::start(Limits::default()).await;
    let (uri, now) = (edge("early").uri(), SystemTime::now());
    lab.open(&lab.authority.issue_at(&uri, now + Duration::from_mins(10))).await;
    let later = lab.authority.issue_at(&uri, now + Duration::from_hours(7 * 24));
    let refused = match lab.channel(&later).await {
        Ok(channel) => Stream::open(channel).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}
