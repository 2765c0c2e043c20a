//! What the tests share: a server on a free port, Envoy as a child process, clients of both.
#![allow(dead_code, reason = "each test uses its part")]

pub mod certificates;
pub mod client;
pub mod conversation;
pub mod envoy;
pub mod server;
pub mod stream;
