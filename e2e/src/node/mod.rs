//! A spoke's node. Light: a Node object and listeners on a loopback address. Full: containerd, kubelet and kube-proxy in a
//! network namespace. Knows how to start it and how to break it; knows no product.
mod light;

use std::net::{IpAddr, SocketAddr};

use crate::backend::Protocol;
use crate::error::Result;

use light::LightNode;

/// One node.
#[derive(Debug)]
pub struct Node {
    name: String,
    address: IpAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Light(LightNode),
}

impl Node {
    /// Registers a node that exists as an object and a loopback address.
    pub(crate) async fn light(client: &kube::Client, name: &str, address: IpAddr) -> Result<Self> {
        let kind = Kind::Light(LightNode::start(client, name, address).await?);
        Ok(Self { name: name.to_owned(), address, kind })
    }

    /// Its name in the spoke.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its InternalIP.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Listens on one of the node's ports and answers with the banner, until the node fails (light nodes only: on real ones
    /// pods do).
    pub async fn serve(&self, protocol: Protocol, port: u16, banner: &str) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => node.serve(protocol, SocketAddr::new(self.address, port), banner).await,
        }
    }

    /// The node is no longer Ready, but goes on serving what it serves.
    pub async fn lose_readiness(&self) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => node.report(&self.name, self.address, false).await,
        }
    }

    /// The power is cut: nothing answers, nothing is said.
    pub async fn power_off(&self) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => {
                node.stop_serving();
                node.report(&self.name, self.address, false).await
            }
        }
    }

    /// Brings back a node that lost its readiness.
    pub async fn recover(&self) -> Result<()> {
        match &self.kind {
            Kind::Light(node) => node.report(&self.name, self.address, true).await,
        }
    }
}
