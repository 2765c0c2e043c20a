//! What is done inside a network namespace: sockets opened in it, connections that its path forgets. Knows nftables and the
//! kernel's table of connections; all of it ends with the namespace.
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::Namespace;
use crate::error::{Act, Error, Result};
use crate::tools::run;

/// `ESTABLISHED` in /proc/net/tcp.
const ESTABLISHED: &str = "01";

impl Namespace {
    /// Opens a datagram socket at a port of its address: a thread enters the namespace, the socket stays in it.
    pub fn datagrams(&self, port: u16) -> Result<UdpSocket> {
        let act = || format!("open a datagram socket in {}", self.name());
        let door = File::open(format!("/run/netns/{}", self.name())).act(act)?;
        let address = self.address();
        let open = move || {
            setns(&door, CloneFlags::CLONE_NEWNET)?;
            UdpSocket::bind((address, port))
        };
        thread::spawn(open).join().map_err(|_| Error::new(format!("{}: the thread panicked", act())))?.act(act)
    }

    /// The local ports of its established connections to a server.
    pub fn connections(&self, server: SocketAddr) -> Result<Vec<u16>> {
        let table = self.shell("cat /proc/net/tcp")?;
        let remote = kernels(server);
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = rows.filter(|row| row.get(2) == remote.as_deref().as_ref() && row.get(3) == Some(&ESTABLISHED));
        Ok(ours.filter_map(|row| u16::from_str_radix(row.get(1)?.split_once(':')?.1, 16).ok()).collect())
    }

    /// Its path forgets these connections: nothing of them passes any more, neither way, and nothing is said. New ones work.
    pub fn forget(&self, ports: &[u16]) -> Result<()> {
        let list = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let rules = format!(
            "add table inet lab\n\
             add chain inet lab out {{ type filter hook output priority 0; }}\n\
             add chain inet lab in {{ type filter hook input priority 0; }}\n\
             add rule inet lab out tcp sport {{ {list} }} drop\n\
             add rule inet lab in tcp dport {{ {list} }} drop\n"
        );
        self.shell(&format!("nft -f - <<'RULES'\n{rules}RULES")).map(drop)
    }

    /// Runs a line of shell in it. Network settings below /proc/sys belong to the namespace of the process that writes them.
    pub(super) fn shell(&self, line: &str) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name())).args(["sh", "-c", line]);
        run(&mut command, &format!("run `{line}` in {}", self.name()))
    }
}

/// An IPv4 address and port as /proc/net/tcp has them.
fn kernels(address: SocketAddr) -> Option<String> {
    match address.ip() {
        IpAddr::V4(ip) => Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())),
        IpAddr::V6(_) => None,
    }
}
