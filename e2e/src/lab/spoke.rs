//! A user cluster of a lab: its control plane, nodes and agent. Knows what an agent needs to join the hub.
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use serde_json::{Value, json};

use super::Hub;
use crate::account::{Chart, account};
use crate::agent::{Agent, HUB_SECRET};
use crate::apply::apply;
use crate::control_plane::ControlPlane;
use crate::error::{Error, Result};
use crate::manager::NAMESPACE;
use crate::network::wire::{Distance, Ends};
use crate::network::{Bridge, Home, Plan};
use crate::node::Node;
use crate::process::{Process, Spec};
use crate::tools;
use crate::wait;
use crate::wait::PATIENCE;

/// A user cluster.
pub struct Spoke {
    /// Its agent; none in a bare lab.
    pub agent: Option<Agent>,
    /// Its nodes: `node-1`, `node-2`, …
    pub nodes: Vec<Node>,
    /// Its API server and controllers.
    pub plane: ControlPlane,
    wire: Option<Process>,
    number: u8,
}

impl Spoke {
    pub(super) fn new(plane: ControlPlane, number: u8) -> Self {
        Self { agent: None, nodes: Vec::new(), plane, wire: None, number }
    }

    /// Its name, which is its tenant's name as well.
    pub fn name(&self) -> &str {
        self.plane.name()
    }

    /// Its number among the lab's clusters, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// A client of the spoke with every right.
    pub fn client(&self) -> kube::Client {
        self.plane.client()
    }

    /// Applies any object, as `kubectl apply` would.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        apply(&self.client(), object).await.map(drop)
    }

    /// The agent; an error in a bare lab.
    pub fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().ok_or_else(|| Error::new(format!("{} has no agent", self.name())))
    }

    /// Waits until a Service shows addresses in its status.
    pub async fn addresses(&self, namespace: &str, name: &str) -> Result<Vec<IpAddr>> {
        let services: Api<Service> = Api::namespaced(self.client(), namespace);
        wait::until(&format!("{} shows the address of {namespace}/{name}", self.name()), PATIENCE, || async {
            let service = services.get(name).await.map_err(|error| error.to_string())?;
            let shown = addresses_of(&service);
            if shown.is_empty() { Err(format!("status {:?}", service.status)) } else { Ok(shown) }
        })
        .await
    }

    /// A home for the agent at the end of a long wire to the hub's API server.
    pub(super) async fn move_away(
        &mut self,
        bridge: &Bridge,
        plan: &Plan,
        hub: &ControlPlane,
        distance: Distance,
    ) -> Result<Home> {
        let name = format!("{}-agent", self.name());
        let namespace = bridge.detached(&name, &format!("a{}", self.number), plan.agent(self.number))?;
        let (IpAddr::V4(address), SocketAddr::V4(server)) = (namespace.address(), hub.address()) else {
            return Err(Error::new("lay a wire between IPv6 addresses"));
        };
        let device = namespace.link().to_owned();
        let ends = Ends { namespace: namespace.name().to_owned(), address, device, server };
        let arguments = std::iter::once("wire".to_owned()).chain(ends.arguments(distance));
        let spec = Spec::new(&format!("{}-wire", self.name()), tools::own("nave-lab")?, arguments);
        self.wire = Some(Process::start(self.plane.supervisor(), spec)?);
        wait::until("the wire is laid", PATIENCE, || async {
            namespace.reaches(plan.host()).map_err(|error| format!("{error:?}"))
        })
        .await?;
        Ok(Home::within(namespace))
    }

    /// Gives the agent its credential of the hub and starts it.
    pub(super) async fn join(&mut self, hub: &Hub, home: Home, flags: &[String]) -> Result<()> {
        let kubeconfig = hub.credential(self.name()).await?;
        let own = account(&self.plane, Chart::Agent).await?;
        let metadata = json!({"name": HUB_SECRET, "namespace": NAMESPACE});
        self.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": kubeconfig}})).await?;
        let agent = Agent::start_at(self.plane.supervisor(), self.name(), &own, home, flags)?;
        let agent = self.agent.insert(agent);
        agent.ready().await
    }
}

/// The addresses that a Service's status shows.
pub fn addresses_of(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect()
}
