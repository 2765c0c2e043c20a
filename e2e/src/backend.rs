//! The sample backend: says who it is, then gives back what it is sent. Knows TCP and UDP; knows no cluster.
//!
//! TCP: one line with the banner, then an echo until the client is done. UDP: the banner's line and the datagram.
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{Act, Result};

/// A protocol that a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// As Kubernetes spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// A backend in this process; dropping it closes its socket and its connections.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Backend {
    /// Listens and answers with the banner.
    pub async fn start(protocol: Protocol, address: SocketAddr, banner: &str) -> Result<Self> {
        let banner = format!("{banner}\n").into_bytes();
        let (address, task) = match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(address).await.act(|| format!("listen on tcp {address}"))?;
                let address = listener.local_addr().act(|| "read the backend's address")?;
                (address, tokio::spawn(serve_tcp(listener, banner)))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(address).await.act(|| format!("listen on udp {address}"))?;
                let address = socket.local_addr().act(|| "read the backend's address")?;
                (address, tokio::spawn(serve_udp(socket, banner)))
            }
        };
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_tcp(listener: TcpListener, banner: Vec<u8>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => { connections.spawn(answer(stream, banner.clone())); }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(mut stream: TcpStream, banner: Vec<u8>) {
    let _ = stream.set_nodelay(true);
    if stream.write_all(&banner).await.is_ok() {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    }
}

async fn serve_udp(socket: UdpSocket, banner: Vec<u8>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let _ = socket.send_to(&[&banner, &buffer[..length]].concat(), client).await;
    }
}
