//! What a lab shall consist of, and the order of its start. Knows no part from inside.
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::try_join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Hub, Lab, Spoke, Weight};
use crate::account::{Chart, account};
use crate::control_plane::{ControlPlane, Options};
use crate::edge::{Edge, Place};
use crate::error::{Act, Error, Result};
use crate::image;
use crate::manager::{self, Manager};
use crate::network::wire::Distance;
use crate::network::{Bridge, HUB, Home, Namespace, Plan};
use crate::node::{Node, Site};
use crate::supervisor::Supervisor;

/// Node ports for more Services than Kubernetes' own range has: the benches make thousands.
const MANY_NODE_PORTS: &str = "30000-45000";

/// A lab to be started: [`Lab::light`] or [`Lab::full`], then what it differs in.
#[derive(Clone, Debug)]
#[must_use]
#[allow(clippy::struct_excessive_bools, reason = "switches that have nothing to do with each other")]
pub struct Builder {
    weight: Weight,
    spokes: u8,
    nodes: u8,
    managers: usize,
    edges: u8,
    audit: bool,
    product: bool,
    strict: bool,
    manager_flags: Vec<String>,
    agent_flags: Vec<String>,
    names: bool,
    paths: Paths,
    images: Vec<PathBuf>,
    by_pod: BTreeSet<u8>,
    files: Option<u32>,
}

/// How managers and agents reach the API servers.
#[derive(Clone, Copy, Debug)]
enum Paths {
    /// From the host.
    Shared,
    /// Each from a network namespace of its own.
    Apart,
    /// Agents from network namespaces of their own, the hub's API server at the end of a long wire.
    Far(Distance),
}

impl Builder {
    pub(super) fn new(weight: Weight) -> Self {
        Self {
            weight,
            spokes: 1,
            nodes: 2,
            managers: 1,
            edges: 1,
            audit: false,
            product: true,
            strict: false,
            manager_flags: Vec::new(),
            agent_flags: Vec::new(),
            names: false,
            paths: Paths::Shared,
            images: Vec::new(),
            by_pod: BTreeSet::new(),
            files: None,
        }
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

    /// One more flag for every manager, such as `--lease-duration=3s`.
    pub fn manager_flag(mut self, flag: &str) -> Self {
        self.manager_flags.push(flag.to_owned());
        self
    }

    /// One more flag for every agent.
    pub fn agent_flag(mut self, flag: &str) -> Self {
        self.agent_flags.push(flag.to_owned());
        self
    }

    /// Refuses loopback backends in the light lab too, as every real manager does: no Service of its spokes has a backend
    /// then, what is asked is what the managers say.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Pods of the full lab resolve the names of their cluster's Services.
    pub fn names(mut self) -> Self {
        self.names = true;
        self
    }

    /// One more archive of images for every node of the full lab.
    pub fn images(mut self, archive: PathBuf) -> Self {
        self.images.push(archive);
        self
    }

    /// The agent of this spoke (they count from 1) gives the addresses of pods, which its Tenant allows, and no node ports.
    pub fn by_pod(mut self, spoke: u8) -> Self {
        self.by_pod.insert(spoke);
        self
    }

    /// Each manager and agent of the full lab has a network namespace of its own, whose path can be broken.
    pub fn apart(mut self) -> Self {
        self.paths = Paths::Apart;
        self
    }

    /// The hub's API server is this far from the agents of the full lab, which have network namespaces of their own.
    pub fn far(mut self, distance: Distance) -> Self {
        self.paths = Paths::Far(distance);
        self
    }

    /// The Envoys of the edge nodes may open so many files, and the bootstrap says so. Else they may open what the machine allows.
    pub fn files(mut self, files: u32) -> Self {
        self.files = Some(files);
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
        let lab = supervisor.judge(self.clusters(&supervisor).await)?;
        supervisor.judge(self.finish(lab).await)
    }

    /// Like [`Builder::start`], but when real nodes do not start on this machine, the light lab is taken; the error says why.
    pub async fn start_or_lighter(mut self) -> Result<(Lab, Option<Error>)> {
        let supervisor = Supervisor::start()?;
        let (lab, error) = match (self.clusters(&supervisor).await, self.weight) {
            (Ok(lab), _) => (lab, None),
            (Err(error), Weight::Light) => return supervisor.judge(Err(error)),
            (Err(error), Weight::Full) => {
                self.weight = Weight::Light;
                drop(supervisor); // removes what the nodes left
                let supervisor = Supervisor::start()?;
                (supervisor.judge(self.clusters(&supervisor).await)?, Some(error))
            }
        };
        let supervisor = lab.supervisor.clone();
        supervisor.judge(self.finish(lab).await).map(|lab| (lab, error))
    }

    /// The hub, the spokes and their nodes.
    async fn clusters(&self, supervisor: &Arc<Supervisor>) -> Result<Lab> {
        raise_file_limit()?;
        let plan = Plan::take(self.weight)?;
        let bridge = match self.weight {
            Weight::Light => None,
            Weight::Full => Some(Bridge::start(supervisor, &plan)?),
        };
        let mut planes =
            try_join_all((HUB..=self.spokes).map(|cluster| self.control_plane(supervisor, &plan, cluster))).await?;
        let hub = Hub { edges: Vec::new(), managers: Vec::new(), plane: planes.remove(0) };
        let spokes = match &bridge {
            None => {
                try_join_all(planes.into_iter().zip(1..).map(|(plane, number)| self.light_spoke(&plan, plane, number)))
                    .await?
            }
            Some(bridge) => {
                let own = supervisor.dir().join("images.tar");
                image::write(&own)?;
                let images: Vec<PathBuf> = std::iter::once(own).chain(self.images.iter().cloned()).collect();
                let spokes = planes.into_iter().zip(1..);
                let spokes = spokes.map(|(plane, number)| self.full_spoke(&plan, bridge, &images, plane, number));
                try_join_all(spokes).await?
            }
        };
        Ok(Lab { spokes, hub, weight: self.weight, plan, bridge, supervisor: supervisor.clone() })
    }

    async fn finish(&self, mut lab: Lab) -> Result<Lab> {
        if self.product {
            self.install(&mut lab).await?;
        }
        Ok(lab)
    }

    async fn control_plane(&self, supervisor: &Arc<Supervisor>, plan: &Plan, cluster: u8) -> Result<ControlPlane> {
        let options = Options {
            name: if cluster == HUB { "hub".into() } else { format!("spoke-{cluster}") },
            services: Plan::services(cluster),
            more_services: None,
            address: plan.host(),
            nodes: cluster != HUB && self.weight == Weight::Full,
            audit: self.audit,
            node_ports: (self.weight == Weight::Light).then(|| MANY_NODE_PORTS.into()),
        };
        ControlPlane::start_in(supervisor, options).await
    }

    async fn light_spoke(&self, plan: &Plan, plane: ControlPlane, number: u8) -> Result<Spoke> {
        let addresses = (0..self.nodes).map(|index| (format!("node-{}", index + 1), plan.node(number, index)));
        let client = plane.client();
        let mut spoke = Spoke::new(plane, number);
        for (name, address) in addresses {
            spoke.nodes.push(Node::light(&client, &name, address).await?);
        }
        Ok(spoke)
    }

    async fn full_spoke(
        &self,
        plan: &Plan,
        bridge: &Bridge,
        images: &[PathBuf],
        plane: ControlPlane,
        number: u8,
    ) -> Result<Spoke> {
        let mut spoke = Spoke::new(plane, number);
        for index in 0..self.nodes {
            let (name, address) = (format!("node-{}", index + 1), plan.node(number, index));
            let namespace =
                bridge.namespace(&format!("{}-{name}", spoke.name()), &format!("c{number}n{index}"), address)?;
            let others = (0..self.nodes).filter(|other| *other != index);
            let neighbours = others.map(|other| (plan.pods(number, other), plan.node(number, other)));
            let neighbours = neighbours.chain([(plan.pool(), plan.node(HUB, 0))]).collect();
            let (pods, images) = (plan.pods(number, index), images.to_owned());
            let site = Site { name, address, namespace, pods, neighbours, images, names: self.names };
            spoke.nodes.push(Node::full(&spoke.plane, site).await?);
        }
        try_join_all(spoke.nodes.iter().map(|node| node.is_ready(true))).await?;
        Ok(spoke)
    }

    async fn install(&self, lab: &mut Lab) -> Result<()> {
        lab.hub.prepare(&lab.plan, self.edges).await?;
        self.start_managers(lab).await?;
        self.start_edges(lab)?;
        let Lab { spokes, hub, weight: _, plan, bridge, supervisor: _ } = lab;
        for spoke in &*spokes {
            let pods = self.by_pod.contains(&spoke.number()).then(|| plan.pods_of(spoke.number()));
            let backends: Vec<_> = std::iter::once(plan.nodes(spoke.number())).chain(pods).collect();
            hub.admit(spoke, &backends).await?;
        }
        let hub = &*hub;
        let joins = spokes.iter_mut().map(async |spoke| {
            let (name, link) = (format!("{}-agent", spoke.name()), format!("a{}", spoke.number()));
            let home = match (bridge.as_ref(), self.paths) {
                (None, _) | (Some(_), Paths::Shared) => Home::host(Ipv4Addr::LOCALHOST.into()),
                (Some(bridge), Paths::Apart) => {
                    Home::within(bridge.namespace(&name, &link, plan.agent(spoke.number()))?)
                }
                (Some(bridge), Paths::Far(distance)) => spoke.move_away(bridge, plan, &hub.plane, distance).await?,
            };
            spoke.join(hub, home, &self.flags_of_agent(spoke.number())).await
        });
        try_join_all(joins).await?;
        try_join_all(hub.edges.iter().map(Edge::ready)).await?;
        Ok(())
    }

    async fn start_managers(&self, lab: &mut Lab) -> Result<()> {
        let Lab { spokes: _, hub, weight, plan, bridge, supervisor } = lab;
        let options = manager::Options {
            kubeconfig: account(&hub.plane, Chart::Manager).await?,
            hub_api: hub.plane.url(),
            address: plan.host(),
            hub_networks: plan.hub_networks(),
            loopback_backends: *weight == Weight::Light && !self.strict,
            flags: self.manager_flags.clone(),
        };
        for (index, number) in (0..self.managers).zip(0..) {
            let (name, link) = (format!("manager-{}", index + 1), format!("m{index}"));
            let home = match (bridge.as_ref(), self.paths) {
                (None, _) | (Some(_), Paths::Shared | Paths::Far(_)) => Home::host(plan.host()),
                (Some(bridge), Paths::Apart) => Home::within(bridge.namespace(&name, &link, plan.manager(number))?),
            };
            hub.managers.push(Manager::start_at(supervisor, index, home, &options)?);
        }
        try_join_all(hub.managers.iter().map(Manager::ready)).await.map(drop)
    }

    fn start_edges(&self, lab: &mut Lab) -> Result<()> {
        let Lab { spokes, hub, weight: _, plan, bridge, supervisor } = lab;
        let managers: Vec<SocketAddr> = hub.managers.iter().map(Manager::xds).collect();
        for index in 0..self.edges {
            let namespace = bridge.as_ref().map(|bridge| edge_namespace(bridge, plan, index, spokes)).transpose()?;
            let place = Place {
                name: Hub::edge_name(index),
                address: plan.node(HUB, index),
                namespace: namespace.map(|namespace| namespace.name().to_owned()),
                kubeconfig: hub.plane.kubeconfig(),
                managers: managers.clone(),
                files: self.files,
            };
            hub.edges.push(Edge::start(supervisor, place)?);
        }
        bridge.as_ref().map_or(Ok(()), |bridge| bridge.route(plan.pool(), plan.node(HUB, 0)))
    }

    fn flags_of_agent(&self, spoke: u8) -> Vec<String> {
        let by_pod = self.by_pod.contains(&spoke).then(|| "--backends=PodIP".to_owned());
        self.agent_flags.iter().cloned().chain(by_pod).collect()
    }
}

/// Until operators put addresses on edge nodes, every edge node takes all of a pool for its own. It reaches the pods of all
/// spokes: whether it may connect to them is the tenants' matter.
fn edge_namespace(bridge: &Bridge, plan: &Plan, index: u8, spokes: &[Spoke]) -> Result<Namespace> {
    let namespace = bridge.namespace(&Hub::edge_name(index), &format!("c0n{index}"), plan.node(HUB, index))?;
    namespace.own(plan.pool())?;
    for spoke in spokes {
        for (node, number) in spoke.nodes.iter().zip(0..) {
            namespace.route(plan.pods(spoke.number(), number), node.address())?;
        }
    }
    Ok(namespace)
}

/// Envoy takes two file descriptors per listener, our own backends one each.
fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).act(|| "read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).act(|| "raise the limit of open files")
}
