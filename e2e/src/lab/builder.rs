//! What a lab shall consist of, and the order of its start. Knows no part from inside.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use futures::future::try_join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Hub, Lab, Spoke, Weight};
use crate::control_plane::{ControlPlane, Options};
use crate::edge::{Edge, Place};
use crate::error::{Act, Result};
use crate::manager::{self, Manager};
use crate::network::{HUB, Plan};
use crate::supervisor::Supervisor;

/// Node ports for more Services than Kubernetes' own range has: the benches make thousands.
const MANY_NODE_PORTS: &str = "30000-45000";

/// A lab to be started: [`Lab::light`] or [`Lab::full`], then what it differs in.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    weight: Weight,
    spokes: u8,
    nodes: u8,
    managers: usize,
    edges: u8,
    audit: bool,
    product: bool,
}

impl Builder {
    pub(super) fn new(weight: Weight) -> Self {
        Self { weight, spokes: 1, nodes: 2, managers: 1, edges: 1, audit: false, product: true }
    }

    /// How many spokes; 1 unless said.
    pub fn spokes(mut self, spokes: u8) -> Self {
        self.spokes = spokes;
        self
    }

    /// How many nodes each spoke has; 2 unless said.
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// How many replicas of the manager; 1 unless said.
    pub fn managers(mut self, managers: usize) -> Self {
        self.managers = managers;
        self
    }

    /// How many edge nodes, each with an Envoy; 1 unless said.
    pub fn edges(mut self, edges: u8) -> Self {
        self.edges = edges;
        self
    }

    /// Has every API server write an audit log.
    pub fn audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// Clusters and nodes only: no resource, manager, agent or Envoy of ours.
    pub fn bare(mut self) -> Self {
        self.product = false;
        self
    }

    /// Starts it and waits until every part says that it is ready.
    pub async fn start(self) -> Result<Lab> {
        let supervisor = Supervisor::start()?;
        supervisor.judge(self.start_in(&supervisor).await)
    }

    async fn start_in(self, supervisor: &Arc<Supervisor>) -> Result<Lab> {
        raise_file_limit()?;
        let plan = Plan::take(self.weight)?;
        let mut planes =
            try_join_all((HUB..=self.spokes).map(|cluster| self.control_plane(supervisor, &plan, cluster))).await?;
        let hub = Hub { edges: Vec::new(), managers: Vec::new(), plane: planes.remove(0) };
        let spokes = planes.into_iter().zip(1..).map(|(plane, number)| self.spoke(supervisor, &plan, plane, number));
        let spokes = try_join_all(spokes).await?;
        let mut lab = Lab { spokes, hub, weight: self.weight, plan, supervisor: supervisor.clone() };
        if self.product {
            self.install(&mut lab).await?;
        }
        Ok(lab)
    }

    async fn control_plane(&self, supervisor: &Arc<Supervisor>, plan: &Plan, cluster: u8) -> Result<ControlPlane> {
        let options = Options {
            name: if cluster == HUB { "hub".into() } else { format!("spoke-{cluster}") },
            services: Plan::services(cluster),
            address: plan.host(),
            nodes: cluster != HUB && self.weight == Weight::Full,
            audit: self.audit,
            node_ports: (self.weight == Weight::Light).then(|| MANY_NODE_PORTS.into()),
        };
        ControlPlane::start_in(supervisor, options).await
    }

    async fn spoke(
        &self,
        _supervisor: &Arc<Supervisor>,
        plan: &Plan,
        plane: ControlPlane,
        number: u8,
    ) -> Result<Spoke> {
        let mut spoke = Spoke::new(plane, number);
        for index in 0..self.nodes {
            spoke.add_light_node(&format!("node-{}", index + 1), plan.node(number, index)).await?;
        }
        Ok(spoke)
    }

    async fn install(&self, lab: &mut Lab) -> Result<()> {
        let Lab { spokes, hub, weight, plan, supervisor } = lab;
        hub.prepare(plan, self.edges).await?;
        let options = manager::Options {
            kubeconfig: hub.plane.kubeconfig(),
            hub_api: hub.plane.url(),
            address: plan.host(),
            hub_networks: plan.hub_networks(),
            loopback_backends: *weight == Weight::Light,
        };
        for index in 0..self.managers {
            hub.managers.push(Manager::start(supervisor, index, &options)?);
        }
        try_join_all(hub.managers.iter().map(Manager::ready)).await?;
        let managers: Vec<SocketAddr> = hub.managers.iter().map(Manager::xds).collect();
        for index in 0..self.edges {
            let place = self.place(plan, &hub.plane.kubeconfig(), &managers, index);
            hub.edges.push(Edge::start(supervisor, place)?);
        }
        for spoke in &*spokes {
            hub.admit(spoke, plan).await?;
        }
        try_join_all(spokes.iter_mut().map(|spoke| spoke.join(hub))).await?;
        try_join_all(hub.edges.iter().map(Edge::ready)).await?;
        Ok(())
    }

    fn place(&self, plan: &Plan, kubeconfig: &Path, managers: &[SocketAddr], index: u8) -> Place {
        Place {
            name: Hub::edge_name(index),
            address: plan.node(HUB, index),
            namespace: None,
            kubeconfig: kubeconfig.to_owned(),
            managers: managers.to_vec(),
        }
    }
}

/// Envoy takes two file descriptors per listener, our own backends one each.
fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).act(|| "read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).act(|| "raise the limit of open files")
}
