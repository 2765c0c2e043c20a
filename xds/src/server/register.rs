//! Who is connected: the connections and streams of every peer, bounded in number, and the certificates that are no longer
//! good. Knows numbers and ends; knows no socket and no protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use super::pace::Pace;
use super::{Limits, Node};
use crate::identity::{Certified, Peer};

/// Why the server ends a connection or a stream though nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The certificate is revoked.
    Revoked,
    /// The peer has opened another one and has too many.
    Crowded,
}

impl From<End> for Status {
    fn from(end: End) -> Self {
        match end {
            End::Revoked => Self::unauthenticated("the certificate of this node is revoked"),
            End::Crowded => {
                Self::resource_exhausted("this node has opened more streams or connections than it may have")
            }
        }
    }
}

/// Ends when an [`End`] is told, never otherwise.
pub(super) async fn told(end: &mut watch::Receiver<Option<End>>) -> End {
    let told = end.wait_for(Option::is_some).await.ok().and_then(|end| *end);
    match told {
        Some(end) => end,
        None => std::future::pending().await,
    }
}

/// Everything that is open.
pub(super) struct Register {
    limits: Limits,
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    numbers: u64,
    connections: BTreeMap<u64, Connected>,
    by_peer: BTreeMap<Peer, BTreeSet<u64>>,
    nodes: BTreeMap<Node, State>,
    /// By fleet and node: certificates that are valid from before this second are no longer good.
    revoked: BTreeMap<Arc<str>, BTreeMap<Arc<str>, i64>>,
    /// Nodes whose revoked certificate the log has named.
    named: BTreeSet<Node>,
}

struct Connected {
    certified: Certified,
    end: watch::Sender<Option<End>>,
}

/// One node's streams, the oldest first, and the work that it has asked for.
#[derive(Default)]
struct State {
    streams: BTreeMap<u64, watch::Sender<Option<End>>>,
    pace: Pace,
}

/// A connection's place in the register; left when it is dropped.
pub(super) struct Place {
    register: Arc<Register>,
    number: u64,
    pub(super) end: watch::Receiver<Option<End>>,
}

/// A stream's place in the register; left when it is dropped.
pub(super) struct Seat {
    register: Arc<Register>,
    node: Node,
    number: u64,
    pub(super) end: watch::Receiver<Option<End>>,
}

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("its certificate is revoked")]
    Revoked,
    #[error("there are too many connections")]
    Full,
}

impl Register {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, began: Instant::now(), inner: Mutex::default() }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a connection in, unless its certificate is revoked or there are too many; the oldest of a peer that has too many ends.
    pub(super) fn connect(self: &Arc<Self>, certified: &Certified) -> Result<Place, Refusal> {
        let mut inner = self.lock();
        if inner.is_revoked(certified) {
            return Err(Refusal::Revoked);
        }
        if inner.connections.len() >= self.limits.connections {
            return Err(Refusal::Full);
        }
        let number = inner.number();
        let (sender, end) = watch::channel(None);
        inner.connections.insert(number, Connected { certified: certified.clone(), end: sender });
        let own = inner.by_peer.entry(certified.peer.clone()).or_default();
        own.insert(number);
        let oldest = own.first().copied().filter(|_| own.len() > self.limits.connections_of_one);
        if let Some(oldest) = oldest.and_then(|oldest| inner.leave(oldest)) {
            oldest.end.send_replace(Some(End::Crowded));
        }
        Ok(Place { register: Arc::clone(self), number, end })
    }

    /// Takes a stream of a node in; the oldest of a node that has too many ends.
    pub(super) fn open(self: &Arc<Self>, node: &Node, number: u64) -> Seat {
        let (sender, end) = watch::channel(None);
        let mut inner = self.lock();
        let streams = &mut inner.nodes.entry(node.clone()).or_default().streams;
        streams.insert(number, sender);
        if streams.len() > self.limits.streams_of_one
            && let Some((_, oldest)) = streams.pop_first()
        {
            oldest.send_replace(Some(End::Crowded));
        }
        Seat { register: Arc::clone(self), node: node.clone(), number, end }
    }

    /// Replaces what is revoked in a fleet, and ends what is open with such certificates.
    pub(super) fn revoke(&self, fleet: &str, revoked: BTreeMap<Arc<str>, i64>) {
        let mut inner = self.lock();
        if revoked.is_empty() {
            inner.revoked.remove(fleet);
        } else {
            inner.revoked.insert(fleet.into(), revoked);
        }
        inner.named.retain(|(named, _)| **named != *fleet);
        for connected in inner.connections.values().filter(|connected| inner.is_revoked(&connected.certified)) {
            connected.end.send_replace(Some(End::Revoked));
        }
    }

    /// Whether the log has yet to name the node of this revoked certificate: once for each edit of what is revoked.
    pub(super) fn is_news(&self, certified: &Certified) -> bool {
        match &certified.peer {
            Peer::Envoy { fleet, node } => self.lock().named.insert((Arc::clone(fleet), Arc::clone(node))),
            Peer::Manager { .. } => true,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn is_revoked(&self, certified: &Certified) -> bool {
        match &certified.peer {
            Peer::Envoy { fleet, node } => {
                let before = self.revoked.get(fleet).and_then(|nodes| nodes.get(node));
                before.is_some_and(|before| certified.not_before < *before)
            }
            Peer::Manager { .. } => false,
        }
    }

    fn leave(&mut self, number: u64) -> Option<Connected> {
        let left = self.connections.remove(&number)?;
        if let Some(own) = self.by_peer.get_mut(&left.certified.peer) {
            own.remove(&number);
            if own.is_empty() {
                self.by_peer.remove(&left.certified.peer);
            }
        }
        Some(left)
    }
}

impl Seat {
    /// Notes work for the node.
    pub(super) fn spend(&self, units: usize) {
        let now = self.register.began.elapsed();
        if let Some(state) = self.register.lock().nodes.get_mut(&self.node) {
            state.pace.spend(units as u64, self.register.limits.work_in_a_second, now);
        }
    }

    /// How long the node's next request waits, where its fleet has so many resources.
    pub(super) fn wait(&self, resources: usize) -> Duration {
        let Limits { work_in_a_second, work_at_once, .. } = self.register.limits;
        let at_once = work_at_once.saturating_add(4 * resources as u64);
        let now = self.register.began.elapsed();
        let inner = self.register.lock();
        inner.nodes.get(&self.node).map_or(Duration::ZERO, |state| state.pace.wait(at_once, work_in_a_second, now))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.register.lock().leave(self.number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(state) = self.register.lock().nodes.get_mut(&self.node) {
            state.streams.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envoy(node: &str, not_before: i64) -> Certified {
        Certified { peer: Peer::Envoy { fleet: "default".into(), node: node.into() }, not_before }
    }

    fn register() -> Arc<Register> {
        let limits = Limits { connections: 4, connections_of_one: 2, streams_of_one: 1, ..Limits::default() };
        Arc::new(Register::new(limits))
    }

    fn ends(places: &[Place]) -> Vec<Option<End>> {
        places.iter().map(|place| *place.end.borrow()).collect()
    }

    #[test]
    fn a_certificate_of_before_opens_nothing_and_what_it_opened_ends() {
        let register = register();
        let places: Vec<Place> =
            [envoy("a", 9), envoy("a", 10), envoy("b", 1)].iter().map(|c| register.connect(c).ok().unwrap()).collect();
        register.revoke("default", BTreeMap::from([("a".into(), 10)]));
        assert_eq!(ends(&places), [Some(End::Revoked), None, None]);
        assert_eq!(register.connect(&envoy("a", 9)).err(), Some(Refusal::Revoked));
        assert!(register.is_news(&envoy("a", 9)) && !register.is_news(&envoy("a", 8)));
        register.revoke("other", BTreeMap::from([("b".into(), 10)]));
        assert!(register.connect(&envoy("b", 1)).is_ok());
    }

    #[test]
    fn the_oldest_connection_of_a_peer_that_has_too_many_ends() {
        let register = register();
        let places: Vec<Place> = (0..3).map(|_| register.connect(&envoy("a", 0)).ok().unwrap()).collect();
        assert_eq!(ends(&places), [Some(End::Crowded), None, None]);
        let others: Vec<Place> =
            ["b", "c"].iter().map(|node| register.connect(&envoy(node, 0)).ok().unwrap()).collect();
        assert_eq!(register.connect(&envoy("d", 0)).err(), Some(Refusal::Full));
        drop((places, others));
        let inner = register.lock();
        assert!(inner.connections.is_empty() && inner.by_peer.is_empty());
    }

    #[test]
    fn the_oldest_stream_of_a_node_that_has_too_many_ends() {
        let register = register();
        let node: Node = ("default".into(), "a".into());
        let seats = [register.open(&node, 7), register.open(&node, 8)];
        assert_eq!(seats.each_ref().map(|seat| *seat.end.borrow()), [Some(End::Crowded), None]);
    }
}
