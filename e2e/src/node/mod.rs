//! A spoke's node. Light: a Node object and listeners on a loopback address. Full: containerd, kubelet and kube-proxy in a
//! network namespace. Knows how to start it and how to break it; knows no product.
pub(crate) mod cgroups;
mod config;
mod full;
mod light;
mod names;

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use nix::sys::signal::Signal;

use crate::backend::Protocol;
use crate::control_plane::ControlPlane;
use crate::error::{Error, Result};
use crate::wait;
use crate::wait::PATIENCE;

use full::FullNode;
pub(crate) use full::Site;
use light::LightNode;

/// One node.
#[derive(Debug)]
pub struct Node {
    name: String,
    address: IpAddr,
    api: Api<NodeObject>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Light(Box<LightNode>),
    Full(Box<FullNode>),
}

impl Node {
    /// Registers a node that exists as an object and a loopback address.
    pub(crate) async fn light(client: &kube::Client, name: &str, address: IpAddr) -> Result<Self> {
        let kind = Kind::Light(Box::new(LightNode::start(client, name, address).await?));
        Ok(Self { name: name.to_owned(), address, api: Api::all(client.clone()), kind })
    }

    /// Starts a real node and does not wait until it is ready.
    pub(crate) async fn full(plane: &ControlPlane, site: Site) -> Result<Self> {
        let (name, address, api) = (site.name.clone(), site.address, Api::all(plane.client()));
        let kind = Kind::Full(Box::new(FullNode::start(plane, site).await?));
        Ok(Self { name, address, api, kind })
    }

    /// Its name in the spoke.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its InternalIP.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it is a real node, with a kubelet and pods.
    pub fn is_real(&self) -> bool {
        matches!(self.kind, Kind::Full(_))
    }

    /// Listens on one of the node's ports and answers with the banner until the power is cut; light nodes only, on real
    /// ones pods do it.
    pub async fn serve(&self, protocol: Protocol, port: u16, banner: &str) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => node.serve(protocol, SocketAddr::new(self.address, port), banner).await,
            Kind::Full(_) => Err(Error::new(format!("{} is a real node: its pods serve", self.name))),
        }
    }

    /// Waits until the node is Ready, or until it is not.
    pub async fn is_ready(&self, ready: bool) -> Result<()> {
        wait::until(&format!("Ready of {} is {ready}", self.name), PATIENCE, || async {
            let node = self.api.get(&self.name).await.map_err(|error| error.to_string())?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let seen = conditions.iter().find(|condition| condition.type_ == "Ready");
            let is = seen.is_some_and(|condition| condition.status == "True");
            if is == ready { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await
    }

    /// The node is no longer Ready, but goes on serving what it serves: its kubelet is gone.
    pub async fn lose_readiness(&self) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => node.report(&self.name, self.address, false).await,
            Kind::Full(node) => {
                node.kubelet().kill();
                self.is_ready(false).await
            }
        }
    }

    /// Brings back a node that lost its readiness.
    pub async fn recover(&self) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => node.report(&self.name, self.address, true).await,
            Kind::Full(node) => {
                node.kubelet().restart()?;
                self.is_ready(true).await
            }
        }
    }

    /// The power is cut: nothing answers, nothing is said. Returns at once; the API server notices later.
    pub async fn power_off(&self) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => {
                node.stop_serving();
                node.report(&self.name, self.address, false).await
            }
            Kind::Full(node) => node.power_off(),
        }
    }

    /// The power is back: the node becomes Ready and its pods start; a light node serves what it is told anew.
    pub async fn power_on(&self) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => node.report(&self.name, self.address, true).await,
            Kind::Full(node) => {
                node.power_on().await?;
                self.is_ready(true).await
            }
        }
    }

    /// Cuts it off the network while everything on it goes on; real nodes only.
    pub fn disconnect(&self) -> Result<()> {
        self.real()?.namespace().disconnect()
    }

    /// Ends [`Node::disconnect`].
    pub fn reconnect(&self) -> Result<()> {
        self.real()?.namespace().reconnect()
    }

    /// Everything on it stops where it is; connections stay open, nothing is said. Real nodes only.
    pub fn freeze(&self) -> Result<()> {
        self.real().map(|node| node.signal(Signal::SIGSTOP))
    }

    /// Ends [`Node::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.real().map(|node| node.signal(Signal::SIGCONT))
    }

    fn real(&self) -> Result<&FullNode> {
        match &self.kind {
            Kind::Light(_) => Err(Error::new(format!("{} is a light node, which cannot do that", self.name))),
            Kind::Full(node) => Ok(node),
        }
    }
}
