//! The descriptors of a fleet's Envoys: who may promise how many UDP sessions, which tenant is held to fewer TCP connections, and who
//! may change listeners. Knows keys, ports and numbers; knows no Envoy and no object.

mod changes;
mod connections;
mod sessions;

pub(crate) use changes::Changes;
pub(crate) use connections::{Hold, hold};
pub use connections::{Open, OpenOfTenant};
pub(crate) use sessions::{Ask, Room, Sessions};
