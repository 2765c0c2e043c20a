//! The engine: what it was told, what it said, and what follows. Knows the order of decisions; each is made in its own room.

use crate::Timestamp;
use crate::seen::{Role, Seen, Settings};
use crate::step::{Outcome, Step};

/// Decides who gets which address and what Envoy serves.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Takes note, and marks what it touches.
    pub fn observe(&mut self, seen: Seen) {
        let _ = (&self.settings, seen);
    }

    /// Whether every kind was listed once. Until then [`Engine::settle`] yields nothing.
    pub fn is_synced(&self) -> bool {
        false
    }

    /// Decides what the observations since the last call change.
    pub fn settle(&mut self, role: Role, now: Timestamp) -> Outcome {
        let _ = (role, now);
        Outcome::default()
    }

    /// Forgets what was said, so that the next [`Engine::settle`] compares everything with what was seen: after an
    /// election, and from time to time. Where the world is as it should be, nothing follows.
    pub fn replan(&mut self) {}

    /// A step could not be performed, for good; what was met instead has been observed before this call.
    pub fn failed(&mut self, step: &Step) {
        let _ = step;
    }
}
