//! One light lab for the tests of Services, and what they say often. Knows no expectation.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use nave_api::{TCPLoadBalancer, names};
use nave_e2e::lab::{Spoke, addresses_of};
use nave_e2e::{Lab, Protocol, wait};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::names::NameServer;
pub use nave_e2e::wait::PATIENCE;

/// What is not answered at a TCP port is closed or refused: who waits for long waits for a machine that is busy.
const ANSWER: Duration = Duration::from_secs(20);
/// An answer to a datagram that comes comes at once.
const DATAGRAM: Duration = Duration::from_secs(2);

// Clients live on the runtime that made them: all tests use one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static LAB: OnceCell<(Lab, NameServer)> = OnceCell::const_new();

/// Runs a test in the shared light lab, which ends with the process. Its agents ask a name server of the test's own.
pub fn in_lab(test: impl AsyncFnOnce(&Lab, &NameServer)) {
    run(async {
        let (lab, names) = LAB.get_or_init(start).await;
        judged(lab, test(lab, names)).await;
    });
}

async fn start() -> (Lab, NameServer) {
    let names = NameServer::start().await;
    let flag = format!("--name-server={}", names.address());
    (Lab::light().spokes(2).agent_flag(&flag).start().await.expect("a lab"), names)
}

/// Runs on the runtime of all tests.
pub fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

/// A failure shows the ends of the lab's logs.
pub async fn judged(lab: &Lab, test: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(test).catch_unwind().await {
        eprintln!("{}", lab.supervisor().tails());
        std::panic::resume_unwind(panic);
    }
}

/// Looks until it is so; the panic says what was seen last.
pub async fn eventually(what: &str, look: impl AsyncFn() -> Result<(), String>) {
    wait::until(what, PATIENCE, || look()).await.unwrap_or_else(|error| panic!("{error:?}"));
}

/// `default/<name>` of a spoke, whose node ports answer with `<name> on <node>`.
pub struct Subject<'lab> {
    pub lab: &'lab Lab,
    pub spoke: &'lab Spoke,
    pub name: &'lab str,
    annotations: Value,
}

impl<'lab> Subject<'lab> {
    /// One that is yet to be made.
    pub fn new(lab: &'lab Lab, spoke: usize, name: &'lab str) -> Self {
        Self { lab, spoke: &lab.spokes[spoke], name, annotations: json!({}) }
    }

    /// With annotations from now on.
    pub fn annotated(mut self, annotations: Value) -> Self {
        self.annotations = annotations;
        self
    }

    /// Makes or edits it: this is its whole spec from now on. Whatever node ports it has answer.
    pub async fn put(&self, spec: Value) -> Service {
        let metadata = json!({"namespace": "default", "name": self.name, "annotations": self.annotations});
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        self.spoke.apply(&object).await.expect("the Service is as it should be");
        let service = self.service().await;
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let protocol = if port.protocol.as_deref() == Some("UDP") { Protocol::Udp } else { Protocol::Tcp };
            let Some(number) = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) else {
                continue;
            };
            for node in self.spoke.nodes.iter().filter(|node| !node.is_real()) {
                let banner = format!("{} on {}", self.name, node.name());
                node.serve(protocol, number, &banner).await.expect("the node port is free");
            }
        }
        service
    }

    /// As it is now.
    pub async fn service(&self) -> Service {
        self.services().get(self.name).await.expect("the Service is there")
    }

    pub fn services(&self) -> Api<Service> {
        Api::namespaced(self.spoke.client(), "default")
    }

    /// The first address that it shows, once it does.
    pub async fn address(&self) -> IpAddr {
        self.spoke.addresses("default", self.name).await.expect("an address")[0]
    }

    /// Waits until it shows none.
    pub async fn shows_nothing(&self) {
        eventually("its status shows nothing", async || {
            let shown = addresses_of(&self.service().await);
            if shown.is_empty() { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await;
    }

    /// Waits until it has exactly these finalizers.
    pub async fn is_held_by(&self, wanted: &[&str]) {
        eventually(&format!("its finalizers are {wanted:?}"), async || {
            let finalizers = self.service().await.metadata.finalizers.unwrap_or_default();
            if finalizers == wanted { Ok(()) } else { Err(format!("{finalizers:?}")) }
        })
        .await;
    }

    /// What stands for it in the hub.
    pub async fn intent(&self) -> Option<TCPLoadBalancer> {
        self.intents().get_opt(&self.intent_name()).await.expect("the hub answers")
    }

    pub fn intents(&self) -> Api<TCPLoadBalancer> {
        Api::namespaced(self.lab.hub.client(), &names::tenant_namespace(self.spoke.name()))
    }

    pub fn intent_name(&self) -> String {
        names::intent_name("Service", "default", self.name)
    }

    /// Waits until nothing stands for it in the hub.
    pub async fn has_no_intent(&self) {
        eventually("the hub has let go", async || match self.intent().await {
            None => Ok(()),
            Some(intent) => Err(format!("{:?}", intent.metadata)),
        })
        .await;
    }

    /// Waits until a condition of it has this status and reason; its message.
    pub async fn says(&self, condition: &str, status: &str, reason: &str) -> String {
        wait::until(&format!("{condition} is {status} for {reason}"), PATIENCE, || async {
            let said = self.condition(condition).await;
            match said {
                Some(said) if (&*said.status, &*said.reason) == (status, reason) => Ok(said.message),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Waits until it has no such condition.
    pub async fn says_nothing(&self, condition: &str) {
        eventually(&format!("{condition} is gone"), async || match self.condition(condition).await {
            None => Ok(()),
            Some(said) => Err(format!("{said:?}")),
        })
        .await;
    }

    /// A condition that it has now.
    async fn condition(&self, kind: &str) -> Option<Condition> {
        let conditions = self.service().await.status.and_then(|status| status.conditions);
        conditions.into_iter().flatten().find(|condition| condition.type_ == kind)
    }

    /// Waits until an Event of this reason tells of it; what it says.
    pub async fn is_told(&self, reason: &str) -> String {
        let events: Api<Event> = Api::namespaced(self.spoke.client(), "default");
        wait::until(&format!("an Event says {reason}"), PATIENCE, || async {
            let all = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let about = all.iter().filter(|event| {
                event.regarding.as_ref().is_some_and(|regarding| regarding.name.as_deref() == Some(self.name))
            });
            let seen: Vec<_> = about.map(|event| (event.reason.clone(), event.note.clone())).collect();
            let found = seen.iter().find(|(of, _)| of.as_deref() == Some(reason));
            found.and_then(|(_, note)| note.clone()).ok_or(format!("{seen:?}"))
        })
        .await
        .unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Waits until connections to a port are answered by exactly these nodes.
    pub async fn is_answered_by(&self, port: u16, nodes: &[&str]) {
        let address = self.address().await;
        let wanted: BTreeSet<String> = nodes.iter().map(|node| format!("{} on {node}", self.name)).collect();
        eventually(&format!("{nodes:?} answer"), async || {
            let mut seen = BTreeSet::new();
            for _ in 0..8 {
                seen.insert(hear(address, port).await?);
            }
            if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    /// Waits until a port answers with this Service's banner, or until it does not.
    pub async fn answers(&self, address: IpAddr, protocol: Protocol, port: u16, wanted: bool) {
        eventually(&format!("{} {address}:{port} answers: {wanted}", protocol.name()), async || {
            let heard = match protocol {
                Protocol::Tcp => hear(address, port).await,
                Protocol::Udp => hear_udp(address, port, None).await,
            };
            let ours = heard.as_ref().is_ok_and(|banner| banner.starts_with(&format!("{} on ", self.name)));
            if ours == wanted { Ok(()) } else { Err(format!("{heard:?}")) }
        })
        .await;
    }

    /// Deletes it and waits until it is gone.
    pub async fn delete(self) {
        self.services().delete(self.name, &DeleteParams::default()).await.expect("it can be deleted");
        eventually("the Service is gone", async || {
            let left = self.services().get_opt(self.name).await.map_err(|error| error.to_string())?;
            left.map_or(Ok(()), |service| Err(format!("finalizers {:?}", service.metadata.finalizers)))
        })
        .await;
    }
}

/// The banner at a TCP port.
pub async fn hear(address: IpAddr, port: u16) -> Result<String, String> {
    hear_from(None, address, port).await
}

/// The banner at a TCP port, for a client at an address of its own.
pub async fn hear_from(client: Option<IpAddr>, address: IpAddr, port: u16) -> Result<String, String> {
    let heard = tokio::time::timeout(ANSWER, async {
        let socket = TcpSocket::new_v4()?;
        // A client that connects a thousand times a second would soon have no port left that waits for no late packet.
        socket.set_zero_linger()?;
        if let Some(client) = client {
            socket.bind(SocketAddr::new(client, 0))?;
        }
        let mut line = String::new();
        BufReader::new(socket.connect(SocketAddr::new(address, port)).await?).read_line(&mut line).await?;
        Ok::<_, std::io::Error>(line)
    });
    match heard.await {
        Ok(Ok(line)) if line.is_empty() => Err("closed without a word".into()),
        Ok(Ok(line)) => Ok(line.trim_end().to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".into()),
    }
}

/// The banner at a UDP port.
pub async fn hear_udp(address: IpAddr, port: u16, client: Option<IpAddr>) -> Result<String, String> {
    let client = SocketAddr::new(client.unwrap_or(IpAddr::from([0, 0, 0, 0])), 0);
    let heard = tokio::time::timeout(DATAGRAM, async {
        let socket = UdpSocket::bind(client).await?;
        socket.connect(SocketAddr::new(address, port)).await?;
        socket.send(b"anybody there?").await?;
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).await?;
        Ok::<_, std::io::Error>(
            String::from_utf8_lossy(&buffer[..length]).lines().next().unwrap_or_default().to_owned(),
        )
    });
    heard.await.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
}

/// A TCP port as a Service writes it.
pub fn tcp(port: u16) -> Value {
    json!({"name": format!("tcp-{port}"), "protocol": "TCP", "port": port, "targetPort": port})
}

/// A UDP port as a Service writes it.
pub fn udp(port: u16) -> Value {
    json!({"name": format!("udp-{port}"), "protocol": "UDP", "port": port, "targetPort": port})
}

/// A static pool of these addresses that is used by those who ask for it alone: other tests take none of them.
pub async fn pool(lab: &Lab, name: &str, sharing: &str, addresses: &[IpAddr]) {
    let spec = json!({"source": {"static": {}}, "addresses": {"include": addresses}, "sharing": sharing, "announce": {"external": {}}});
    let pool = json!({"apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec});
    lab.hub.apply(&pool).await.expect("a pool");
}

/// An address that lies in no pool of the lab's own.
pub fn spare(lab: &Lab, last: u8) -> IpAddr {
    let IpAddr::V4(network) = lab.plan().pool().network() else { panic!("the lab's pool is IPv4") };
    let [a, b, c, _] = network.octets();
    IpAddr::from([a, b, c + 2, last])
}
