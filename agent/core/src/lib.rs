//! What a spoke wants from the hub, and what its Services show. Knows Services, Nodes, EndpointSlices and the hub's
//! answers as values; knows no client, no clock and no thread.
//!
//! The agent's shell feeds what it sees into a [`World`] and performs the [`Plan`]s that the world decides:
//!
//! ```
//! use nave_agent_core::{Policy, Work, World};
//! let mut world = World::new(Policy::default());
//! // Nothing is decided before everything has been listed.
//! assert!(world.decide(&Work::NodeSet).plan.is_empty());
//! ```

pub mod annotations;
pub mod backends;
pub mod cluster;
pub mod credential;
pub mod events;
pub mod intent;
pub mod lookup;
pub mod mirror;
pub mod nodes;
pub mod ownership;
pub mod places;
pub mod ports;
pub mod problem;
pub mod request;
pub mod slices;
pub mod status;
pub mod tenancy;
pub mod waiting;
pub mod world;

pub use cluster::Cluster;
pub use events::{Notice, Tone};
pub use mirror::{Change, Key, Unreadable};
pub use problem::Problem;
pub use tenancy::Tenancy;
pub use world::{Decision, Doomed, Plan, Saying, Step, Target, Touched, Work, World};

/// What an agent is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether Services of type LoadBalancer that name no class are ours, too.
    pub default_load_balancer: bool,
    /// Which addresses of a node to use, most preferred first.
    pub address_types: Vec<nodes::AddressType>,
    /// Labels that nodes must have to get traffic.
    pub node_selector: Vec<nodes::LabelRule>,
    /// Whether we are to let go of everything and end.
    pub leaving: bool,
    /// The way to backends for Services that do not say.
    pub backends: backends::Mode,
}

impl Default for Policy {
    fn default() -> Self {
        use nodes::AddressType::{ExternalIp, InternalIp};
        Self {
            default_load_balancer: false,
            address_types: vec![InternalIp, ExternalIp],
            node_selector: Vec::new(),
            leaving: false,
            backends: backends::Mode::NodePort,
        }
    }
}
