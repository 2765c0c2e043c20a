//! An xDS server for Envoy.
pub mod bootstrap;
pub mod catalog;
pub mod identity;
pub mod model;
pub mod protocol;
pub mod report;
pub mod resource;
pub mod server;
pub mod store;
pub mod translate;
mod wire;
