//! What peers may have of a server at most. Knows numbers; the counting is next door.

/// The bounds. An Envoy needs one connection and two streams on it; a manager one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that have not proven yet who they are from. One more ends the oldest of them.
    pub handshakes: usize,
    /// The same from one address, for IPv6 from one /64.
    pub handshakes_from_one: usize,
    /// Connections of all peers. One more is closed.
    pub connections: usize,
    /// Connections of one peer. One more ends the oldest: an Envoy whose node lost power comes back before its last
    /// connection is known to be dead.
    pub connections_of_one: usize,
    /// Streams on one connection; what is beyond waits, as HTTP/2 has it.
    pub streams_on_one: u32,
    /// Discovery streams of one node. One more ends the oldest.
    pub streams_of_one: usize,
    /// Work for one node in a second, in names that it sends and resources that it is sent. Beyond it its requests wait.
    pub work_in_a_second: u64,
    /// Work for one node at once, besides four times what its fleet has: it starts, or comes back, several times in a row.
    pub work_at_once: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 512,
            handshakes_from_one: 64,
            connections: 4096,
            connections_of_one: 3,
            streams_on_one: 8,
            streams_of_one: 2,
            work_in_a_second: 10_000,
            work_at_once: 500_000,
        }
    }
}
