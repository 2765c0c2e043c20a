//! An xDS server for Envoy. Knows listeners, clusters and endpoints, and who may have them; knows no Kubernetes, and
//! nothing of where they come from.
//!
//! The way of a change: the [`model`] says what is bound and where it leads; [`translate`] makes it a [`resource`],
//! encoded once and versioned by its content; a [`store`] holds the latest of each for one fleet; every stream runs a
//! dialect of the [`protocol`], delta or state-of-the-world; the [`server`] puts that on a port where clients prove their
//! [`identity`]; and a [`report`] says which Envoy holds or refuses what. [`bootstrap`] is what an Envoy starts with.
//!
//! What it promises:
//!
//! - A change costs what it changes, however much is there: a store keeps a log, streams look only at what is due, bodies
//!   are spliced into responses as they were encoded.
//! - Versions are hashes of content: replicas agree without talking, and a client that comes back to any of them is sent
//!   what differs, which mostly is nothing.
//! - Additions go clusters, endpoints, listeners, routes; removals the other way round, each step when the one before it
//!   is done, or when its time is up.
//! - What a node refuses is not sent to it again until it changes. Who is to blame is read from the node's words, or
//!   found by trying halves; everybody else in that response is served.
//! - A stream that is slow, dead or flapping costs itself only.
//!
//! A server with one load balancer, complete:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use nave_xds::identity::Peer;
//! use nave_xds::model::{Balancing, Bind, Cluster, Endpoints, Listener, Protocol};
//! use nave_xds::server::{Server, Settings, TlsSource};
//! use nave_xds::store::Change;
//! use nave_xds::translate;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::new((), Settings::default()); // `()` observes nothing
//! let fleet = server.fleet("default");
//! fleet.apply(Change {
//!     upsert: vec![
//!         translate::listener(&Listener {
//!             bind: Bind { protocol: Protocol::Tcp, address: "203.0.113.7".parse()?, port: 443 },
//!             cluster: "shop-web".to_owned(),
//!             stat_prefix: "shop-web".to_owned(),
//!             idle_timeout: Duration::from_secs(3600),
//!             source_ranges: Vec::new(),
//!             not_on: Vec::new(),
//!         }),
//!         translate::cluster(&Cluster {
//!             name: "shop-web".to_owned(),
//!             connect_timeout: Duration::from_secs(5),
//!             balancing: Balancing::RoundRobin,
//!             max_connections: 10_000,
//!             proxy_protocol: None,
//!             health_check: None,
//!             ejection: None,
//!         }),
//!         translate::endpoints(&Endpoints {
//!             cluster: "shop-web".to_owned(),
//!             addresses: vec!["10.20.0.11:31443".parse()?, "10.20.0.12:31443".parse()?],
//!             fallback: Vec::new(),
//!             is_checked: false,
//!             health_port: None,
//!         }),
//!     ],
//!     remove: Vec::new(),
//! });
//! fleet.open(); // complete: what is missing now, Envoy may remove
//!
//! // On a socket that only Envoy reaches; otherwise `TlsSource::Mutual`.
//! let everybody = Peer::Envoy { fleet: "default".into(), node: "edge-1".into() };
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:18000").await?;
//! let routes = tonic::service::Routes::new(server.service()); // other services may be added
//! let shutdown = async { drop(tokio::signal::ctrl_c().await) };
//! server.serve(listener, TlsSource::Insecure(everybody), routes, shutdown).await?;
//! # Ok(())
//! # }
//! ```

pub mod bootstrap;
pub mod catalog;
pub mod fields;
pub mod files;
pub mod identity;
pub mod model;
pub mod protocol;
pub mod report;
pub mod resource;
pub mod server;
pub mod store;
pub mod text;
pub mod translate;
mod wire;
