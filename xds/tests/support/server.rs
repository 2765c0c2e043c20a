//! A server on a free port of the loopback, and a record of what it reports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nave_xds::identity::Peer;
use nave_xds::model::{Balancing, Bind, Cluster, Endpoints, Listener, Protocol};
use nave_xds::report::{Event, Observer, Report};
use nave_xds::resource::{Resource, ResourceType};
use nave_xds::server::{Server, Settings, TlsSource};
use nave_xds::store::Change;
use nave_xds::translate;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// A loopback address that no other test uses, nor any connection as its source: its ports are free, and stay so.
pub fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [high, low] = u16::try_from(std::process::id() & 0x3fff).expect("14 bits").to_be_bytes();
    let own = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("127.{}.{low}.{own}", 64 + high)
}

/// A port that no other test uses on any address, nor any connection as its source: for a wildcard address.
pub fn own_port() -> u16 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let block = u16::try_from(std::process::id() & 0x1ff).expect("9 bits");
    10_000 + block * 32 + u16::from(NEXT.fetch_add(1, Ordering::Relaxed) % 32)
}

/// A socket on an address of its own.
pub async fn own_socket() -> TcpListener {
    TcpListener::bind((own_address(), 0)).await.expect("a free port")
}

/// Everything that was reported so far.
#[derive(Clone)]
pub struct Record(Arc<watch::Sender<Vec<Report>>>);

impl Default for Record {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Observer for Record {
    fn report(&self, report: Report) {
        self.0.send_modify(|reports| reports.push(report));
    }
}

impl Record {
    pub fn events(&self) -> Vec<Event> {
        self.0.borrow().iter().map(|report| report.event.clone()).collect()
    }

    pub fn reports(&self) -> Vec<Report> {
        self.0.borrow().clone()
    }

    /// Forgets everything that was reported.
    pub fn forget(&self) {
        self.0.send_replace(Vec::new());
    }

    /// Waits until the reports fulfil a condition.
    pub async fn until(&self, what: &str, is_met: impl Fn(&[Event]) -> bool) {
        let mut reports = self.0.subscribe();
        let met = reports.wait_for(|reports| is_met(&reports.iter().map(|r| r.event.clone()).collect::<Vec<_>>()));
        let met = tokio::time::timeout(Duration::from_secs(20), met).await.is_ok();
        assert!(met, "{what} did not happen; reported: {:#?}", self.events());
    }

    /// Waits until a resource is acknowledged at its version. That says that Envoy's main thread has it. A listener accepts connections
    /// when it is acknowledged for the first time. Of endpoints, of a cluster and of a listener that changed, the workers learn
    /// only after that: a connection that is opened at once may meet what was before, see `envoy::until_all_are_answered_by`.
    pub async fn until_accepted(&self, resource: &Resource) {
        self.until(&format!("{resource:?} is accepted"), |events| accepted(events, resource)).await;
    }
}

pub fn accepted(events: &[Event], resource: &Resource) -> bool {
    events.iter().any(|event| match event {
        Event::Accepted(held) => held.iter().any(|held| {
            held.kind == resource.kind() && held.name == *resource.name() && held.version == resource.version()
        }),
        Event::Connected
        | Event::Disconnected
        | Event::Wants { .. }
        | Event::Described(_)
        | Event::Removed(_)
        | Event::Refused(_) => false,
    })
}

/// A server that serves until it is dropped.
pub struct Running {
    pub server: Server,
    pub record: Record,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        let peer = Peer::Envoy { fleet: "default".into(), node: "edge-1".into() };
        Self::start_on(own_socket().await, settings, TlsSource::Insecure(peer))
    }

    pub fn start_on(listener: TcpListener, settings: Settings, tls: TlsSource) -> Self {
        let address = listener.local_addr().expect("an address");
        let record = Record::default();
        let server = Server::new(record.clone(), settings);
        let (stop, stopped) = oneshot::channel();
        let serving = server.clone();
        let task = tokio::spawn(async move {
            let routes = tonic::service::Routes::new(serving.service());
            let shutdown = async { drop(stopped.await) };
            serving.serve(listener, tls, routes, shutdown).await.expect("serves");
        });
        Self { server, record, address, stop: Some(stop), task: Some(task) }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            task.await.expect("ends in peace");
        }
    }
}

/// The three resources of a TCP load balancer with one port.
pub struct LoadBalancer {
    pub listener: Resource,
    pub cluster: Resource,
    pub endpoints: Resource,
}

impl LoadBalancer {
    pub fn new(bind: Bind, backends: &[SocketAddr]) -> Self {
        let name = format!("shop-{bind}").replace('/', "-");
        Self::of(&listener(bind, &name), &cluster(&name), &endpoints(&name, backends))
    }

    pub fn of(listener: &Listener, cluster: &Cluster, endpoints: &Endpoints) -> Self {
        Self {
            listener: translate::listener(listener),
            cluster: translate::cluster(cluster),
            endpoints: translate::endpoints(endpoints),
        }
    }

    pub fn added(&self) -> Change {
        Change { upsert: vec![self.listener.clone(), self.endpoints.clone(), self.cluster.clone()], remove: Vec::new() }
    }

    pub fn removed(&self) -> Change {
        Change {
            upsert: Vec::new(),
            remove: [&self.cluster, &self.endpoints, &self.listener].map(Resource::key).to_vec(),
        }
    }
}

pub fn listener(bind: Bind, cluster: &str) -> Listener {
    Listener {
        bind,
        cluster: cluster.to_owned(),
        stat_prefix: cluster.to_owned(),
        idle_timeout: Duration::from_mins(1),
        source_ranges: Vec::new(),
        not_on: Vec::new(),
    }
}

pub fn endpoints(cluster: &str, backends: &[SocketAddr]) -> Endpoints {
    Endpoints {
        cluster: cluster.to_owned(),
        addresses: backends.to_vec(),
        fallback: Vec::new(),
        is_checked: false,
        health_port: None,
    }
}

pub fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Duration::from_secs(1),
        balancing: Balancing::RoundRobin,
        max_connections: 1000,
        proxy_protocol: None,
        health_check: None,
        ejection: None,
    }
}

pub fn tcp(address: &str, port: u16) -> Bind {
    Bind { protocol: Protocol::Tcp, address: address.parse().expect("an address"), port }
}

pub fn udp(address: &str, port: u16) -> Bind {
    Bind { protocol: Protocol::Udp, address: address.parse().expect("an address"), port }
}

pub fn removed(events: &[Event], resource: &Resource) -> bool {
    events.iter().any(|event| matches!(event, Event::Removed(keys) if keys.contains(&resource.key())))
}

pub fn refused(events: &[Event], name: &str) -> bool {
    events.iter().any(|event| match event {
        Event::Refused(refusal) => *refusal.held.name == *name && refusal.held.kind == ResourceType::Listener,
        Event::Connected
        | Event::Disconnected
        | Event::Wants { .. }
        | Event::Described(_)
        | Event::Removed(_)
        | Event::Accepted(_) => false,
    })
}
