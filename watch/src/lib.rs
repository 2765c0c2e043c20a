//! What agents and managers do alike at an API server: they watch from the beginning after every failure, ever less often, and
//! tell Events beside their work. Knows no object of theirs.

mod anew;
pub mod connection;
mod news;
#[cfg(feature = "stub")]
pub mod stub;

pub use anew::anew;
pub use news::News;
