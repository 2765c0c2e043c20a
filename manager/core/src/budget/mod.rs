//! The descriptors of a fleet's Envoys: who may promise how many UDP sessions, and who may change listeners. Knows keys, ports and
//! numbers; knows no Envoy and no object.

mod changes;
mod sessions;

pub(crate) use changes::Changes;
pub(crate) use sessions::{Ask, Room, Sessions};
