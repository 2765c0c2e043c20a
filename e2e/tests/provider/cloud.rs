//! The hub's cloud, as a cloud controller and its load balancers are: gives Services of type LoadBalancer an address, forwards
//! TCP connections from there to the Envoys, and holds Services that end until it has let go. Knows Kubernetes' contract with
//! clouds; knows nothing of ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use nave_e2e::Lab;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

/// What Kubernetes' own cloud controllers hold a Service with.
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

pub struct Cloud {
    api: Api<Service>,
    network: [u8; 4],
    state: Arc<Mutex<State>>,
    look: Arc<Notify>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    is_paused: bool,
    given: BTreeMap<String, IpAddr>,
    count: u8,
    forwards: BTreeMap<(String, SocketAddr, u16), JoinHandle<()>>,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.task.abort();
        if let Ok(mut state) = self.state.try_lock() {
            for forward in std::mem::take(&mut state.forwards).into_values() {
                forward.abort();
            }
        }
    }
}

impl Cloud {
    /// A cloud that gives the upper half of the lab's pool, which the pool `public` gives no longer.
    pub async fn start(lab: &Lab) -> Self {
        let IpAddr::V4(network) = lab.plan().pool().network() else { panic!("the lab's pool is IPv4") };
        let [a, b, c, _] = network.octets();
        lab.hub.pool("public", &format!("{a}.{b}.{c}.0-{a}.{b}.{c}.15")).await.unwrap();
        let api: Api<Service> = Api::namespaced(lab.hub.client(), "nave-system");
        let (state, look) = (Arc::new(Mutex::new(State::default())), Arc::new(Notify::new()));
        let task = tokio::spawn(work(api.clone(), [a, b, c, 0], Arc::clone(&state), Arc::clone(&look)));
        Self { api, network: [a, b, c, 0], state, look, task }
    }

    /// Envoy ports that belong to this lab alone, as its network does.
    pub fn first_port(&self) -> u16 {
        let [_, b, c, _] = self.network;
        12_000 + u16::from(b) % 32 * 512 + u16::from(c) * 2
    }

    pub async fn pause(&self, is_paused: bool) {
        self.state.lock().await.is_paused = is_paused;
        self.look.notify_one();
    }

    pub async fn gave(&self, address: IpAddr) -> bool {
        self.state.lock().await.given.values().any(|given| *given == address)
    }

    pub async fn services(&self) -> Vec<Service> {
        let all = self.api.list(&ListParams::default().labels("nave.dev/pool")).await.unwrap();
        all.items
    }

    pub async fn service(&self, name: &str) -> Option<Service> {
        self.api.get_opt(name).await.unwrap()
    }

    pub async fn edit_by_hand(&self, name: &str, spec: &serde_json::Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn delete_by_hand(&self, name: &str) {
        self.api.delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// Looks at all Services whenever one changes, and does what a cloud does.
async fn work(api: Api<Service>, network: [u8; 4], state: Arc<Mutex<State>>, look: Arc<Notify>) {
    use futures::StreamExt;
    let events = kube::runtime::watcher(api.clone(), kube::runtime::watcher::Config::default());
    let mut events = std::pin::pin!(kube::runtime::WatchStreamExt::default_backoff(events));
    loop {
        tokio::select! {
            event = events.next() => if event.is_none() { return },
            () = look.notified() => {}
        }
        let mut state = state.lock().await;
        if state.is_paused {
            continue;
        }
        // What changes meanwhile is seen by the next event.
        if let Ok(all) = api.list(&ListParams::default()).await {
            for service in all.items.into_iter().filter(is_balanced) {
                state.tend(&api, network, &service).await;
            }
        }
    }
}

fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

impl State {
    async fn tend(&mut self, api: &Api<Service>, [a, b, c, _]: [u8; 4], service: &Service) {
        let name = service.metadata.name.clone().unwrap();
        let holds = service.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        if service.metadata.deletion_timestamp.is_some() {
            self.given.remove(&name);
            self.forwards.retain(|(of, ..), forward| {
                let stays = *of != name;
                if !stays {
                    forward.abort();
                }
                stays
            });
            if holds {
                write(api, &name, "", &json!({"metadata": {"finalizers": []}})).await;
            }
            return;
        }
        if !holds {
            write(api, &name, "", &json!({"metadata": {"finalizers": [FINALIZER]}})).await;
        }
        let count = &mut self.count;
        let address = *self.given.entry(name.clone()).or_insert_with(|| {
            *count += 1;
            IpAddr::V4(Ipv4Addr::new(a, b, c, 15 + *count))
        });
        self.forward(&name, address, service);
        if nave_e2e::lab::addresses_of(service) != [address] {
            let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
            write(api, &name, "status", &status).await;
        }
    }

    /// Listens at every TCP port of the Service and forwards to where its target port is.
    fn forward(&mut self, name: &str, address: IpAddr, service: &Service) {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        for port in ports.filter(|port| port.protocol.as_deref() != Some("UDP")) {
            let Some(IntOrString::Int(target)) = port.target_port else { panic!("Envoy's ports are numbers") };
            let (own, target) = (u16::try_from(port.port).unwrap(), u16::try_from(target).unwrap());
            let at = SocketAddr::new(address, own);
            let key = (name.to_owned(), at, target);
            if self.forwards.contains_key(&key) {
                continue;
            }
            let listener = listen(at).unwrap_or_else(|error| panic!("listen at {at}: {error}"));
            self.forwards.insert(key, tokio::spawn(carry(listener, target)));
        }
    }
}

/// Beside an Envoy that listens at this port of every address.
fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(at)?;
    socket.listen(128)
}

async fn carry(listener: TcpListener, target: u16) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut envoy) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut envoy).await;
            }
        });
    }
}

/// What is gone meanwhile, or another version, is met again by the next event.
async fn write(api: &Api<Service>, name: &str, part: &str, patch: &serde_json::Value) {
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let _ = if part.is_empty() {
        api.patch(name, &params, &patch).await
    } else {
        api.patch_status(name, &params, &patch).await
    };
}
