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

/// So many names one stream may keep besides as many as its fleet has resources: of what it wants and of what it says that it
/// holds. An Envoy that comes back after many load balancers were deleted lists theirs as well.
pub const NAMES_BESIDES: usize = 200_000;

/// A stream asks for more names than it may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream may keep as many names as its fleet has resources, and {NAMES_BESIDES} besides")]
pub struct Excess;

impl Excess {
    fn unless(fits: bool) -> Result<(), Self> {
        if fits { Ok(()) } else { Err(Self) }
    }
}

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
