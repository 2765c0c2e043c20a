//! What users of five other systems rely on, row by row. Knows their rows by number; `docs/compatibility.md` says what each is,
//! and names the test that shows it. Knows no API server: agents' worlds and the engine are the real ones, what lies between is maps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../../../manager/core/tests/support/mod.rs"]
mod support;

mod feitnomore;
mod k8slb;
mod kubelb;
mod matrix;
mod page;
mod paper;
mod plenus;
mod wheel;
