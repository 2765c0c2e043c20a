//! What must hold of every text that a user may write. Knows the parsers and their properties; knows no fuzzer, no file
//! and no time.
//!
//! A property panics when it does not hold: that is how a fuzzer, and a test, learn of it.
#![allow(clippy::panic, clippy::expect_used, reason = "a property that does not hold has no other way to say so")]

mod annotations;
mod backends;
mod durations;
pub mod objects;
mod ranges;
mod services;

/// The variable that names the target which the binary runs.
pub const VARIABLE: &str = "NAVE_FUZZ_TARGET";

/// One theme: everything that is parsed of one kind of text.
#[derive(Debug)]
pub struct Target {
    /// Also the name of its directory of seeds.
    pub name: &'static str,
    /// Panics when a property does not hold of the input.
    pub run: fn(&[u8]),
}

/// Every target there is, sorted.
pub const TARGETS: &[Target] = &[
    Target { name: "annotations", run: annotations::hold },
    Target { name: "backends", run: backends::hold },
    Target { name: "durations", run: durations::hold },
    Target { name: "objects", run: objects::hold },
    Target { name: "ranges", run: ranges::hold },
    Target { name: "services", run: services::hold },
];

/// The input as text. What is no UTF-8 never reaches a parser: the API server refuses it.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
