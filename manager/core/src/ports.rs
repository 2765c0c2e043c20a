//! Which ports of an address a load balancer gets, where ports are given one by one. Knows numbers; knows no address.

use std::collections::BTreeSet;

use nave_api::ip_allocation::OwnedPort;
use nave_api::ip_pool::PortRange;
use nave_api::tcp_load_balancer::{Port, Protocol};

/// A protocol and a port.
pub(crate) type Door = (Protocol, u16);

/// The ports that a load balancer asks for, each once.
pub(crate) fn wanted(ports: &[Port]) -> BTreeSet<Door> {
    ports.iter().map(|port| (port.protocol, port.port)).collect()
}

/// So many ports an allocation records at most: one of 10,000 is half of what the API takes in one object.
pub(crate) const MOST_PORTS: usize = 10_000;

/// Whether it has all that is wanted, and nothing else.
pub(crate) fn covers(has: &[OwnedPort], wanted: &BTreeSet<Door>) -> bool {
    has.len() == wanted.len() && has.iter().all(|port| wanted.contains(&(port.protocol, port.wanted())))
}

/// Ports of an address that are others'.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    pub doors: BTreeSet<Door>,
    /// How many of them the same allocation records.
    pub here: usize,
}

impl Taken {
    /// An owner of the allocation has these no longer.
    pub fn leave(&mut self, ports: &[OwnedPort]) {
        for port in ports {
            self.doors.remove(&(port.protocol, port.port));
        }
        self.here = self.here.saturating_sub(ports.len());
    }

    /// An owner of the allocation has these from now on.
    pub fn enter(&mut self, ports: &[OwnedPort]) {
        self.doors.extend(ports.iter().map(|port| (port.protocol, port.port)));
        self.here += ports.len();
    }
}

/// Gives each wanted port one of the address: what it has already, else the same number where that is free and in the range,
/// else the lowest free one of the range. Also returns the wanted ports that get none.
pub(crate) fn assign(
    wanted: &BTreeSet<Door>,
    has: &[OwnedPort],
    range: Option<PortRange>,
    taken: &Taken,
) -> (Vec<OwnedPort>, Vec<Door>) {
    let is_wanted = |port: &&OwnedPort| wanted.contains(&(port.protocol, port.wanted()));
    let mut given: Vec<OwnedPort> = has.iter().filter(is_wanted).copied().collect();
    // What others have is looked up, not copied: a shared address has thousands of ports.
    let mut own: BTreeSet<Door> = given.iter().map(|g| (g.protocol, g.port)).collect();
    let mut takes = |door: Door| !taken.doors.contains(&door) && own.insert(door);
    let met: BTreeSet<Door> = given.iter().map(|port| (port.protocol, port.wanted())).collect();
    let mut open: Vec<Door> = wanted.difference(&met).copied().collect();
    if taken.here.saturating_add(given.len()).saturating_add(open.len()) > MOST_PORTS {
        return (sorted(given), open);
    }
    open.retain(|door| {
        let is_free = range.is_none_or(|range| (range.low..=range.high).contains(&door.1)) && takes(*door);
        if is_free {
            given.push(OwnedPort { protocol: door.0, port: door.1, stands_for: None });
        }
        !is_free
    });
    let Some(PortRange { low, high }) = range else { return (sorted(given), open) };
    open.retain(|(protocol, wanted)| {
        let free = (low..=high).find(|port| takes((*protocol, *port)));
        given.extend(free.map(|port| OwnedPort { protocol: *protocol, port, stands_for: Some(*wanted) }));
        free.is_none()
    });
    (sorted(given), open)
}

fn sorted(mut ports: Vec<OwnedPort>) -> Vec<OwnedPort> {
    ports.sort();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Option<PortRange> = Some(PortRange { low: 8100, high: 8101 });

    fn doors(ports: &[u16]) -> BTreeSet<Door> {
        ports.iter().map(|port| (Protocol::Tcp, *port)).collect()
    }

    fn taken(ports: &[u16]) -> Taken {
        Taken { doors: doors(ports), here: ports.len() }
    }

    fn given(ports: &[(u16, u16)]) -> Vec<OwnedPort> {
        let owned = |(port, wanted): &(u16, u16)| {
            let stands_for = (port != wanted).then_some(*wanted);
            OwnedPort { protocol: Protocol::Tcp, port: *port, stands_for }
        };
        ports.iter().map(owned).collect()
    }

    #[test]
    fn a_port_in_the_range_and_free_is_given_as_it_is_and_the_others_get_the_lowest() {
        assert_eq!(assign(&doors(&[80, 8100]), &[], RANGE, &taken(&[])), (given(&[(8100, 8100), (8101, 80)]), vec![]));
    }

    #[test]
    fn without_a_range_a_taken_port_is_not_given() {
        assert_eq!(
            assign(&doors(&[80, 443]), &[], None, &taken(&[80])),
            (given(&[(443, 443)]), vec![(Protocol::Tcp, 80)])
        );
    }

    #[test]
    fn what_it_has_stays_whatever_the_range_says_now() {
        let has = given(&[(9000, 80), (443, 443)]);
        assert_eq!(assign(&doors(&[80]), &has, RANGE, &taken(&[])), (given(&[(9000, 80)]), vec![]));
    }

    #[test]
    fn a_full_range_says_what_is_missing() {
        let full = taken(&[8100, 8101]);
        assert_eq!(assign(&doors(&[80]), &[], RANGE, &full), (vec![], vec![(Protocol::Tcp, 80)]));
    }

    #[test]
    fn what_another_allocation_records_takes_no_room_in_this_one() {
        let elsewhere = (1..=u16::try_from(MOST_PORTS).unwrap()).map(|port| (Protocol::Tcp, port)).collect();
        let range = Some(PortRange { low: 20_000, high: 20_001 });
        let taken = |here| Taken { doors: BTreeSet::clone(&elsewhere), here };
        assert_eq!(assign(&doors(&[80]), &[], range, &taken(0)).0, given(&[(20_000, 80)]));
        assert_eq!(assign(&doors(&[80]), &[], range, &taken(MOST_PORTS)).0, []);
    }
}
