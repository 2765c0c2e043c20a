//! Nave's own gRPC: what the managers of one hub tell each other. Messages only; knows no server and no client of ours.

/// Package `nave.fleet.v1`: which Envoy acknowledged what. Rendered from `proto/nave/fleet/v1/fleet.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated: the comments are in the .proto")]
pub mod fleet {
    include!("generated/nave.fleet.v1.rs");
}
