//! What Kubernetes asks of Services of type LoadBalancer, from the spoke through the hub to the backend. Tests share labs, and
//! each uses names of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod beside;
mod full;
mod holding;
mod local;
mod names;
mod ports;
mod shared;
mod traffic;
