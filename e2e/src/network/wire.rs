//! A wire with a length and losses between a network namespace and the host, for one server's packets: a pair of TUN devices
//! and a process that carries packets between them. Knows IPv4 and TCP's ports. Kernels without netem have TUN devices.
use std::fs::File;
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_tun::Tun;

use crate::error::{Act, Error, Result};
use crate::tools::run;

/// Packets on the way in one direction; more are lost, as they are in front of every wire that is full.
const ON_THE_WAY: usize = 100_000;
/// The largest packet of a TUN device.
const PACKET: usize = 1500;

/// What the wire does to packets of one server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// How long a packet and its answer are on the way.
    pub round_trip: Duration,
    /// How many of a thousand packets are lost, each way.
    pub lost_per_mille: u16,
}

/// The ends of a wire, and whose packets it carries slowly.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The namespace.
    pub namespace: String,
    /// The address in the namespace.
    pub address: Ipv4Addr,
    /// The device on the host, at most fifteen characters.
    pub device: String,
    /// The far server, on the host.
    pub server: SocketAddrV4,
}

impl Ends {
    /// As the arguments of a process.
    pub(crate) fn arguments(&self, distance: Distance) -> Vec<String> {
        let Self { namespace, address, device, server } = self;
        let Distance { round_trip, lost_per_mille } = distance;
        let numbers = [round_trip.as_millis().to_string(), lost_per_mille.to_string()];
        [namespace.clone(), address.to_string(), device.clone(), server.to_string()]
            .into_iter()
            .chain(numbers)
            .collect()
    }

    /// Reads what `Ends::arguments` wrote.
    pub fn parse(arguments: &[String]) -> Result<(Self, Distance)> {
        let [namespace, address, device, server, round_trip, lost] = arguments else {
            return Err(Error::new("read a wire's ends and distance: there are six"));
        };
        let round_trip = Duration::from_millis(number(round_trip)?);
        let distance = Distance { round_trip, lost_per_mille: number(lost)? };
        let (namespace, device) = (namespace.clone(), device.clone());
        Ok((Self { namespace, address: number(address)?, device, server: number(server)? }, distance))
    }
}

fn number<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> Result<T> {
    text.parse().act(|| format!("read {text} of a wire"))
}

/// Lays the wire and carries packets until the process ends. The calling thread is in the namespace afterwards, and must be the
/// only one of its runtime.
pub async fn lay(ends: &Ends, distance: Distance) -> Result<()> {
    let Ends { namespace, address, device, server } = ends;
    let near = open(device)?;
    ip(&["route", "replace", &format!("{address}/32"), "dev", device])?;
    let door = File::open(format!("/run/netns/{namespace}")).act(|| format!("open {namespace}"))?;
    setns(door, CloneFlags::CLONE_NEWNET).act(|| format!("enter {namespace}"))?;
    let far = open("eth0")?;
    ip(&["addr", "add", &format!("{address}/32"), "dev", "eth0"])?;
    ip(&["route", "add", "default", "dev", "eth0"])?;
    carry(Arc::clone(&near), Arc::clone(&far), *server, distance, 0);
    carry(far, near, *server, distance, 1);
    pending().await
}

fn open(device: &str) -> Result<Arc<Tun>> {
    let made = Tun::builder().name(device).up().build().act(|| format!("make the TUN device {device}"))?;
    let made =
        made.into_iter().next().ok_or_else(|| Error::new(format!("make the TUN device {device}: there is none")))?;
    Ok(Arc::new(made))
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments), &format!("ip {}", arguments.join(" "))).map(drop)
}

/// Carries packets one way. Those of the server are late by half of the round trip, if they come at all; their order stays.
fn carry(from: Arc<Tun>, to: Arc<Tun>, server: SocketAddrV4, distance: Distance, way: u8) {
    let (late, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let exit = Arc::clone(&to);
    tokio::spawn(async move {
        while let Some((due, packet)) = queue.recv().await {
            sleep_until(due).await;
            let _ = exit.send(&packet).await;
        }
    });
    tokio::spawn(async move {
        let mut buffer = [0; PACKET];
        for count in 0_u64.. {
            let Ok(length) = from.recv(&mut buffer).await else { return };
            let packet = &buffer[..length];
            if !is_of(packet, server) {
                let _ = to.send(packet).await;
            } else if !is_lost(count, way, distance.lost_per_mille) {
                let _ = late.try_send((Instant::now() + distance.round_trip / 2, packet.to_vec()));
            }
        }
    });
}

/// Whether a packet goes to the server or comes from it.
fn is_of(packet: &[u8], server: SocketAddrV4) -> bool {
    const TCP: u8 = 6;
    let (address, port) = (server.ip().octets(), server.port().to_be_bytes());
    let header = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    let is = |at: usize, bytes: &[u8]| packet.get(at..at + bytes.len()) == Some(bytes);
    let (from, to) = (is(12, &address) && is(header, &port), is(16, &address) && is(header + 2, &port));
    packet.get(9) == Some(&TCP) && (from || to)
}

/// Dice that fall the same way each time.
fn is_lost(count: u64, way: u8, per_mille: u16) -> bool {
    let mut dice = DefaultHasher::new();
    (count, way).hash(&mut dice);
    dice.finish() % 1000 < u64::from(per_mille)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_the_server_are_known_by_its_address_and_port_either_way() {
        let server: SocketAddrV4 = "10.65.0.1:6443".parse().unwrap();
        let packet = |from: [u8; 4], to: [u8; 4], ports: [u16; 2]| {
            let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
            packet.extend([from, to].concat());
            packet.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
            packet
        };
        let (us, them) = ([10, 65, 0, 151], [10, 65, 0, 1]);
        assert!(is_of(&packet(us, them, [40_000, 6443]), server));
        assert!(is_of(&packet(them, us, [6443, 40_000]), server));
        assert!(!is_of(&packet(us, them, [40_000, 6444]), server));
        assert!(!is_of(&packet(us, them, [6443, 40_000]), server));
        assert!(!is_of(&[0x45, 0, 0], server));
    }

    #[test]
    fn so_many_of_a_thousand_packets_are_lost() {
        let lost = (0..100_000).filter(|count| is_lost(*count, 0, 10)).count();
        assert!((900..1100).contains(&lost), "{lost}");
        assert!(!(0..1000).any(|count| is_lost(count, 1, 0)));
    }

    #[test]
    fn a_wire_is_read_from_its_arguments() {
        let server = "10.65.0.1:6443".parse().unwrap();
        let (namespace, device) = ("nave-1-agent".to_owned(), "nv1w1".to_owned());
        let ends = Ends { namespace, address: Ipv4Addr::new(10, 65, 0, 151), device, server };
        let distance = Distance { round_trip: Duration::from_millis(150), lost_per_mille: 10 };
        let (read, same) = Ends::parse(&ends.arguments(distance)).unwrap();
        assert_eq!((read.arguments(same), same), (ends.arguments(distance), distance));
    }
}
