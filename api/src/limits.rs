//! Bounds that a schema sets and a writer keeps: one number for both, so that no program of ours writes what the API server
//! refuses. Knows numbers; knows no kind.

/// A number of things, or a limit on one, where nothing smaller bounds it: what its Rust type holds.
pub const COUNT: u32 = u32::MAX;
/// Addresses in a status. A cloud may give a load balancer several.
pub const SHOWN_ADDRESSES: usize = 256;
/// Conditions of an object: ours, and those that other controllers add.
pub const CONDITIONS: usize = 32;
/// The longest text of a condition's message, in characters; `metav1.Condition` has the same bound.
pub const MESSAGE: usize = 32_768;
/// The longest annotation that a pool gives to its Services, in characters.
pub const ANNOTATION: usize = 8192;
/// Ports of a TCPLoadBalancer.
pub const PORTS: usize = 100;
/// Entries of `backends.endpoints`.
pub const ENDPOINTS: usize = 1000;
/// Addresses of one entry of `backends.endpoints`.
pub const ENDPOINT_ADDRESSES: usize = 1000;
/// Nodes of a NodeSet, and names in `backends.nodes.only` and `backends.nodes.terminating`.
pub const NODES: usize = 5000;
/// Nodes that a load balancer uses under the policy Cluster, where it says nothing else.
pub const SUBSET: u32 = 32;
/// Pairs of a port and a backend of one load balancer.
pub const SOCKETS: u32 = 50_000;
/// Addresses of one node of a NodeSet.
pub const NODE_ADDRESSES: usize = 8;
/// Networks in `traffic.sourceRanges`.
pub const SOURCE_RANGES: usize = 200;
/// Bytes, as JSON, of what an agent writes into one list of backends or nodes. The API server takes objects of 1.5 MiB
/// (etcd's `--max-request-bytes`); the other fields, the status and the managed fields need the rest.
pub const LIST_BYTES: usize = 1024 * 1024;
