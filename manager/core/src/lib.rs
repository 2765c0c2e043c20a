//! Who gets which address and what Envoy serves. Knows the resources and decides; knows no clock, no socket and no dice.
//!
//! An [`Engine`] is told what is ([`Engine::observe`]) and answers what follows ([`Engine::settle`]): the Envoy resources
//! that change, and the steps that the leader takes on the hub's API. The same observations in any order give the same
//! resources, byte for byte.

mod backends;
mod budget;
mod chosen;
mod compile;
mod engine;
mod former;
pub mod fuzz;
mod hold;
mod key;
mod lacking;
mod ledger;
mod limits;
mod order;
mod pool;
mod ports;
mod problem;
mod records;
mod seen;
mod shelf;
mod step;
mod supply;
mod targets;
mod waits;

pub use budget::{Open, OpenOfTenant};
pub use compile::{of_stat_prefix, stat_prefix};
pub use engine::Engine;
pub use key::Key;
pub use order::{Answer, Delivery, Order, OrderedPort};
pub use seen::{HubNode, Role, Seen, Settings, Sight, Unreadable};
pub use step::{Announcement, Kind, Outcome, Step, Tone, UnreadableReport};

/// A moment, as Kubernetes' types carry it.
pub use k8s_openapi::jiff::Timestamp;
