//! The lab: real API servers, nodes and Envoys for tests, the demo and the benches. Knows how to start, reach, break and
//! remove them; knows no rule of the product.
//!
//! ```no_run
//! # async fn example() -> nave_e2e::Result<()> {
//! let cluster = nave_e2e::ControlPlane::start(nave_e2e::control_plane::Options::default()).await?;
//! let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(cluster.client());
//! # drop(namespaces); Ok(()) }
//! ```
pub mod account;
pub mod agent;
pub mod apply;
pub mod backend;
pub mod client;
pub mod conformance;
pub mod control_plane;
pub mod demo;
pub mod edge;
pub mod error;
pub mod image;
pub mod lab;
pub mod manager;
pub mod network;
pub mod node;
pub mod pki;
pub mod ports;
pub mod process;
pub mod supervisor;
pub mod sweep;
pub mod tools;
pub mod wait;

pub use account::{Chart, account};
pub use agent::Agent;
pub use apply::apply;
pub use backend::{Backend, Protocol};
pub use control_plane::ControlPlane;
pub use edge::Edge;
pub use error::{Error, Result};
pub use lab::{Lab, Weight};
pub use manager::Manager;
pub use process::Process;
pub use supervisor::Supervisor;
