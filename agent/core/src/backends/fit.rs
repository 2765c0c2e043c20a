//! What of many backends fits into one object of the hub. Knows the bounds of its schema and sizes; knows no Service.

use nave_api::limits::{ENDPOINT_ADDRESSES, ENDPOINTS, LIST_BYTES, NODES};
use nave_api::node_set;
use nave_api::tcp_load_balancer::{Endpoint, EndpointPort};

/// How many there are, and how many of them fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// All of them.
    pub present: usize,
    /// Those that are written.
    pub written: usize,
}

impl Fit {
    /// Whether something is left out.
    pub fn is_short(self) -> bool {
        self.written < self.present
    }

    fn note(&mut self, fits: bool) -> bool {
        self.present += 1;
        self.written += usize::from(fits);
        fits
    }
}

/// Bytes that are still free in a list.
#[derive(Clone, Copy, Debug)]
struct Budget(usize);

impl Budget {
    /// Of a list that has its brackets already.
    fn list() -> Self {
        Self(LIST_BYTES - "[]".len())
    }

    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// A string in a JSON list: its quotes and a comma.
fn string(text: &str) -> usize {
    text.len() + 3
}

/// Names of nodes, the first ones.
pub fn names(all: impl Iterator<Item = String>) -> (Vec<String>, Fit) {
    let (mut fit, mut budget, mut names) = (Fit::default(), Budget::list(), Vec::new());
    for name in all {
        if fit.note(names.len() < NODES && budget.take(string(&name))) {
            names.push(name);
        }
    }
    (names, fit)
}

/// Nodes of a NodeSet, the first ones.
pub fn nodes<'a>(all: impl Iterator<Item = &'a node_set::Node>) -> (Vec<node_set::Node>, Fit) {
    let (mut fit, mut budget, mut nodes) = (Fit::default(), Budget::list(), Vec::new());
    for node in all {
        let node_set::Node { name, addresses, zone } = node;
        let values = string(name) + addresses.iter().map(|address| string(address)).sum::<usize>();
        let keys = r#"{"name":,"addresses":[],"zone":},"#.len();
        if fit.note(nodes.len() < NODES && budget.take(values + keys + zone.as_deref().map_or(0, string))) {
            nodes.push(node.clone());
        }
    }
    (nodes, fit)
}

/// Endpoints of any length, the first addresses; each is cut into as many as it needs.
pub fn endpoints(all: Vec<Endpoint>) -> (Vec<Endpoint>, Fit) {
    let (mut fit, mut budget, mut endpoints) = (Fit::default(), Budget::list(), Vec::new());
    for Endpoint { addresses, ports, state } in all {
        for part in addresses.chunks(ENDPOINT_ADDRESSES) {
            let fits = endpoints.len() < ENDPOINTS && budget.take(frame(&ports));
            let within: Vec<String> =
                part.iter().filter(|address| fit.note(fits && budget.take(string(address)))).cloned().collect();
            if !within.is_empty() {
                endpoints.push(Endpoint { addresses: within, ports: ports.clone(), state });
            }
        }
    }
    (endpoints, fit)
}

/// An endpoint without its addresses.
fn frame(ports: &[EndpointPort]) -> usize {
    let port = |EndpointPort { name, port: _ }: &EndpointPort| {
        r#"{"name":,"port":65535},"#.len() + name.as_deref().map_or(0, string)
    };
    r#"{"addresses":[],"ports":[],"state":"Terminating"},"#.len() + ports.iter().map(port).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_api::tcp_load_balancer::EndpointState;

    /// What the list costs, as JSON.
    fn bytes(list: &impl serde::Serialize) -> usize {
        serde_json::to_vec(list).unwrap().len()
    }

    #[test]
    fn kind_k_endpoints_beyond_the_schemas_count_are_left_out_and_counted() {
        let port = |number: u16| EndpointPort { name: Some("web".to_owned()), port: number };
        let one = |number: u16| Endpoint {
            addresses: vec!["10.0.0.1".to_owned()],
            ports: vec![port(number)],
            state: EndpointState::Ready,
        };
        let (written, fit) = endpoints((1..=1500).map(one).collect());
        assert_eq!((written.len(), fit), (ENDPOINTS, Fit { present: 1500, written: ENDPOINTS }));
        let many = (0..2500_u32).map(|n| std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).to_string()).collect();
        let (written, fit) =
            endpoints(vec![Endpoint { addresses: many, ports: Vec::new(), state: EndpointState::Ready }]);
        let lengths: Vec<usize> = written.iter().map(|endpoint| endpoint.addresses.len()).collect();
        assert_eq!((lengths, fit.is_short()), (vec![1000, 1000, 500], false));
    }

    #[test]
    fn kind_k_a_list_stays_within_its_bytes_whatever_is_in_it() {
        let long = |n: usize| format!("{n:0>253}");
        let (written, fit) = names((0..6000).map(long));
        assert!(bytes(&written) <= LIST_BYTES && written.len() > 4000 && fit.written == written.len(), "{fit:?}");
        let node = |n: usize| node_set::Node {
            name: long(n),
            addresses: vec!["2001:db8:1111:2222:3333:4444:5555:6666".to_owned(); 8],
            zone: Some("z".repeat(63)),
        };
        let all: Vec<_> = (0..5000).map(node).collect();
        let (written, fit) = nodes(all.iter());
        assert!(bytes(&written) <= LIST_BYTES && written.len() > 1000 && fit.is_short(), "{fit:?}");
        let ports: Vec<_> = (0..100).map(|n| EndpointPort { name: Some(format!("{n:0>63}")), port: 65535 }).collect();
        let addresses = vec!["2001:db8:1111:2222:3333:4444:5555:6666".to_owned(); 100];
        let group = Endpoint { addresses, ports, state: EndpointState::Terminating };
        let (written, fit) = endpoints(vec![group; 1000]);
        assert!(bytes(&written) <= LIST_BYTES && written.len() > 70 && fit.is_short(), "{fit:?}");
    }
}
