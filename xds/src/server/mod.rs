//! The server: fleets, the streams that read them, and the port they come in by. Knows gRPC and tasks; what is sent
//! when is decided in [`crate::protocol`].

mod accept;
mod caller;
mod codec;
mod dialect;
mod limits;
mod lobby;
mod pace;
mod read;
mod register;
mod service;
mod stream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::identity::Peer;
use crate::protocol::{Patience, Quarantine};
use crate::report::{Event, Observer, Report};
use crate::store::{Keep, Store};
use register::{Register, Seat};

pub use accept::{Connection, ServeError, TlsSource};
pub use caller::Caller;
pub use limits::Limits;
pub use pace::Pace;
pub use service::Ads;

/// What may be tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long streams wait for the order of things.
    pub patience: Patience,
    /// A stream whose client leaves a response unanswered for so long is ended: it is dead, or too slow to be of use,
    /// and may come back.
    pub answer_within: Duration,
    /// The largest request that is read, in bytes. A client that comes back lists everything that it holds in one.
    pub request_limit: usize,
    /// What peers may have at most.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience: Patience::default(),
            answer_within: Duration::from_mins(1),
            request_limit: 16 * 1024 * 1024,
            limits: Limits::default(),
        }
    }
}

/// A fleet and one of its nodes.
type Node = (Arc<str>, Arc<str>);

/// An xDS server. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// The fleets, and what the clients of all of them keep.
#[derive(Default)]
struct Fleets {
    stores: BTreeMap<Arc<str>, Store>,
    keep: Keep,
}

struct Shared {
    settings: Settings,
    observer: Box<dyn Observer>,
    fleets: Mutex<Fleets>,
    /// What each node refused; it outlives the node's streams.
    quarantines: Mutex<BTreeMap<Node, Arc<Mutex<Quarantine>>>>,
    register: Arc<Register>,
    streams: AtomicU64,
    /// Bytes of responses, before framing and encryption.
    sent: AtomicU64,
    closing: watch::Sender<bool>,
}

impl Server {
    /// A server without fleets, whose events go to this observer.
    pub fn new(observer: impl Observer + 'static, settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                observer: Box::new(observer),
                fleets: Mutex::default(),
                quarantines: Mutex::default(),
                register: Arc::new(Register::new(settings.limits)),
                streams: AtomicU64::new(0),
                sent: AtomicU64::new(0),
                closing: watch::Sender::new(false),
            }),
        }
    }

    /// The store of a fleet; empty and closed when it is asked for the first time.
    pub fn fleet(&self, name: &str) -> Store {
        let mut fleets = self.shared.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = fleets.stores.get(name) {
            return store.clone();
        }
        let store = Store::default();
        store.keep(fleets.keep.clone());
        fleets.stores.insert(name.into(), store.clone());
        store
    }

    /// From now on the clients of all fleets keep these though no fleet has them; see [`Keep`].
    pub fn keep(&self, keep: &Keep) {
        let mut fleets = self.shared.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        fleets.keep = keep.clone();
        for store in fleets.stores.values() {
            store.keep(keep.clone());
        }
    }

    /// The discovery service, to be added to the routes of [`Server::serve`]. It finds the [`Caller`] in the request's extensions.
    pub fn service(&self) -> Ads {
        Ads::new(self.clone())
    }

    /// Says which certificates of a fleet's nodes are no longer good: those that are valid from before the second that is given
    /// (of Unix time). They open no stream, and what they opened ends within a second. Replaces what was said before.
    pub fn revoke(&self, fleet: &str, revoked: BTreeMap<Arc<str>, i64>) {
        self.shared.register.revoke(fleet, revoked);
    }

    /// How many bytes of responses were sent since the server began, before framing and encryption.
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Ends all streams, now and in future: clients go to another server.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    fn session(&self, fleet: &Arc<str>, node: &Arc<str>, caller: Caller) -> Session {
        let stream = self.shared.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let id = (Arc::clone(fleet), Arc::clone(node));
        let quarantine = {
            let mut all = self.shared.quarantines.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(id.clone()).or_default())
        };
        let seat = caller.end.is_some().then(|| self.shared.register.open(&id, stream));
        let session = Session {
            store: self.fleet(fleet),
            shared: Arc::clone(&self.shared),
            fleet: Arc::clone(fleet),
            node: Arc::clone(node),
            stream,
            quarantine,
            caller,
            seat,
        };
        session.report(Event::Connected);
        session
    }
}

/// One stream of one node, from its first moment to its last: reports both.
struct Session {
    shared: Arc<Shared>,
    store: Store,
    fleet: Arc<str>,
    node: Arc<str>,
    stream: u64,
    quarantine: Arc<Mutex<Quarantine>>,
    caller: Caller,
    /// Where the caller has proven who it is.
    seat: Option<Seat>,
}

impl Session {
    fn report_all(&self, events: Vec<Event>) {
        for event in events {
            self.report(event);
        }
    }

    fn report(&self, event: Event) {
        let Self { shared, store: _, fleet, node, stream, quarantine: _, caller: _, seat: _ } = self;
        shared.observer.report(Report { fleet: Arc::clone(fleet), node: Arc::clone(node), stream: *stream, event });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.report(Event::Disconnected);
    }
}

/// The fleet and the node of a request and who brings it, or why it may not have a stream.
#[allow(clippy::result_large_err, reason = "tonic's status is what the caller returns")]
fn envoy_of(extensions: &http::Extensions) -> Result<(Arc<str>, Arc<str>, Caller), tonic::Status> {
    let caller = extensions.get::<Caller>().ok_or_else(|| tonic::Status::unauthenticated("no client certificate"))?;
    match caller.peer() {
        Peer::Envoy { fleet, node } => Ok((Arc::clone(fleet), Arc::clone(node), caller.clone())),
        Peer::Manager { .. } => Err(tonic::Status::permission_denied("discovery is for Envoys")),
    }
}
