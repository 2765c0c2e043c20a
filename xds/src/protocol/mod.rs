//! The two dialects of the discovery protocol as plain state machines, one per stream. They know no gRPC, no task and
//! no clock: requests, changes and the time come in, responses and events come out.

mod blame;
pub mod delta;
mod parking;
mod quarantine;
pub mod sotw;
mod users;

use std::time::Duration;

pub use quarantine::Quarantine;

/// How long a stream waits for the order of things before it goes on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a cluster and its endpoints, before a listener that leads there is sent.
    pub warming: Duration,
    /// For listeners to be gone, before the cluster that they led to is removed.
    pub draining: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { warming: Duration::from_secs(1), draining: Duration::from_secs(15) }
    }
}
