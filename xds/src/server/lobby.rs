//! Connections that have not proven yet who they are from: how many there are, over all and from one source. Knows addresses;
//! knows no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::Limits;

/// Where connections wait. A proof takes milliseconds, and only connections that bring none stay for longer: where there are
/// too many, the oldest ends, so that one that can prove itself always may.
#[derive(Clone)]
pub(super) struct Lobby {
    limits: Limits,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    entered: u64,
    visits: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    by_source: BTreeMap<IpAddr, BTreeSet<u64>>,
}

/// One connection in the lobby; it leaves when this is dropped.
pub(super) struct Visit {
    lobby: Lobby,
    number: u64,
    sent_away: oneshot::Receiver<()>,
}

impl Lobby {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, inner: Arc::default() }
    }

    /// Lets a connection in; another one may have to go.
    pub(super) fn enter(&self, from: IpAddr) -> Visit {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let source = source(from);
        let crowd = inner.by_source.get(&source).filter(|all| all.len() >= self.limits.handshakes_from_one);
        let oldest_here = crowd.and_then(BTreeSet::first).copied();
        let is_full = inner.visits.len() >= self.limits.handshakes;
        let oldest = oldest_here.or_else(|| inner.visits.keys().next().copied().filter(|_| is_full));
        if let Some(oldest) = oldest {
            inner.leave(oldest);
        }
        inner.entered += 1;
        let number = inner.entered;
        let (send_away, sent_away) = oneshot::channel();
        inner.visits.insert(number, (source, send_away));
        inner.by_source.entry(source).or_default().insert(number);
        Visit { lobby: self.clone(), number, sent_away }
    }
}

impl Inner {
    /// Ends a visit. The connection learns it, since its sender is dropped.
    fn leave(&mut self, number: u64) {
        let Some((source, _)) = self.visits.remove(&number) else { return };
        if let Some(all) = self.by_source.get_mut(&source) {
            all.remove(&number);
            if all.is_empty() {
                self.by_source.remove(&source);
            }
        }
    }
}

impl Visit {
    /// Ends when the connection has to go.
    pub(super) async fn sent_away(&mut self) {
        let _ = (&mut self.sent_away).await;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.lobby.inner.lock().unwrap_or_else(PoisonError::into_inner).leave(self.number);
    }
}

/// A client that has one IPv6 address has its whole /64.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lobby() -> Lobby {
        Lobby::new(Limits { handshakes: 3, handshakes_from_one: 2, ..Limits::default() })
    }

    fn is_there(visit: &mut Visit) -> bool {
        visit.sent_away.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    #[test]
    fn one_more_connection_of_a_source_ends_the_oldest_of_that_source() {
        let lobby = lobby();
        let mut other = lobby.enter("192.0.2.9".parse().unwrap());
        let mut crowd: Vec<Visit> =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|from| lobby.enter(from.parse().unwrap())).into();
        assert_eq!(crowd.iter_mut().map(is_there).collect::<Vec<_>>(), [false, true, true]);
        assert!(is_there(&mut other));
    }

    #[test]
    fn one_more_connection_than_all_may_be_ends_the_oldest_of_all() {
        let lobby = lobby();
        let sources = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
        let mut visits: Vec<Visit> = sources.map(|from| lobby.enter(from.parse().unwrap())).into();
        assert_eq!(visits.iter_mut().map(is_there).collect::<Vec<_>>(), [false, true, true, true]);
        drop(visits);
        let inner = lobby.inner.lock().unwrap();
        assert!(inner.visits.is_empty() && inner.by_source.is_empty());
    }
}
