//! What agents and managers do alike at an API server: they read objects leniently, watch from the beginning after every
//! failure, ever less often, and send Events beside their work. Knows no object of theirs.

mod anew;
pub mod connection;
mod decode;
mod news;
#[cfg(feature = "stub")]
pub mod stub;
mod unreadable;

pub use anew::anew;
pub use decode::{Decoded, Metadata, Raw, Unreadable};
pub use news::News;
pub use unreadable::Unreadables;
