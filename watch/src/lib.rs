//! How agents and managers watch: from the beginning after every failure, and ever less often. Knows no object.

mod anew;
#[cfg(feature = "stub")]
pub mod stub;

pub use anew::anew;
