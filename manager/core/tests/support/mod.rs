//! A small model of the hub's API that performs the engine's steps, and objects to put into it. Knows resourceVersions and
//! uids; knows no network.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::expect_used, clippy::panic, reason = "a broken fixture ends the test")]

pub mod hub;
pub mod objects;
pub mod specs;
