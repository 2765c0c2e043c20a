//! The descriptors of one Envoy, and how they are divided. Knows numbers; knows no socket.
//!
//! At the end of its descriptors Envoy 1.40 aborts, and with it every connection of its edge node. So they are a budget:
//!
//! | part | of the limit | what keeps it |
//! |---|---|---|
//! | a reserve for xDS, admin, checks, connections under way | a tenth | nothing else is given it |
//! | TCP connections, two descriptors each | three tenths | Envoy's overload manager refuses what is beyond |
//! | UDP sessions, one each | two fifths of what the reserve leaves, or less where there are many listeners | limits of the ports, which the manager divides |
//! | listeners, one for each worker | the rest | the manager adds none where there is no more |

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::Value as Field;
use envoy_types::pb::google::protobuf::value::Kind;
use serde_json::{Value, json};

/// What an Envoy may open, as it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Files {
    /// The hard limit of its open files, `RLIMIT_NOFILE`: Envoy raises its own to that when it starts.
    pub limit: u32,
    /// Its workers, `--concurrency`. Each opens every listener's socket for itself.
    pub workers: u32,
    /// TCP connections that it accepts at once.
    pub connections: u32,
}

/// The key in the node's metadata.
const METADATA: &str = "nave.dev/files";

impl Files {
    /// What is counted of a limit at most: as many as Linux allows a process by default.
    const MOST: u32 = 1 << 20;
    /// What is counted at least, whatever an Envoy says.
    const LEAST: u32 = 1024;
    const WORKERS: u32 = 1024;

    /// The share of an Envoy with this limit and so many workers.
    pub fn of(limit: u64, workers: u64) -> Self {
        let limit = u32::try_from(limit).unwrap_or(Self::MOST).clamp(Self::LEAST, Self::MOST);
        let workers = u32::try_from(workers).unwrap_or(Self::WORKERS).clamp(1, Self::WORKERS);
        Self { limit, workers, connections: limit / 20 * 3 }
    }

    /// The same with fewer connections; more are not to be had.
    #[must_use]
    pub fn with_connections(self, connections: u64) -> Self {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX).min(self.connections).max(1);
        Self { connections, ..self }
    }

    /// What is left for UDP sessions and listeners.
    fn shared(&self) -> u64 {
        let Self { limit, workers: _, connections } = *self;
        u64::from(limit - limit / 10).saturating_sub(2 * u64::from(connections))
    }

    /// UDP sessions that may be promised to all ports together beside so many listeners: their limits add up to no more.
    pub fn sessions(&self, listeners: u64) -> u32 {
        let share = u64::from(self.limit - self.limit / 10) * 2 / 5;
        let left = self.shared().saturating_sub(listeners.saturating_mul(u64::from(self.workers)));
        u32::try_from(share.min(left)).unwrap_or(u32::MAX)
    }

    /// Listeners that there may be, those that drain among them, beside so many promised UDP sessions.
    pub fn listeners(&self, sessions: u64) -> u64 {
        self.shared().saturating_sub(sessions) / u64::from(self.workers)
    }

    /// As the metadata of a node has it.
    pub(crate) fn metadata(&self) -> Value {
        let Self { limit, workers, connections } = self;
        json!({METADATA: {"limit": limit, "workers": workers, "connections": connections}})
    }

    /// What a node says of itself, within what is believed; nothing where it says nothing.
    pub fn read(node: &Node) -> Option<Self> {
        let Kind::StructValue(said) = node.metadata.as_ref()?.fields.get(METADATA)?.kind.as_ref()? else { return None };
        let number = |name: &str| said.fields.get(name).and_then(whole);
        let files = Self::of(number("limit")?, number("workers").unwrap_or(1));
        Some(number("connections").map_or(files, |connections| files.with_connections(connections)))
    }
}

/// A number of JSON that is whole and not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
fn whole(field: &Field) -> Option<u64> {
    match field.kind.as_ref()? {
        Kind::NumberValue(number) if number.is_finite() && (0.0..=1e15).contains(number) => Some(*number as u64),
        Kind::NumberValue(_)
        | Kind::NullValue(_)
        | Kind::StringValue(_)
        | Kind::BoolValue(_)
        | Kind::StructValue(_)
        | Kind::ListValue(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use envoy_types::pb::google::protobuf::Struct;

    use super::*;

    fn node(numbers: &[(&str, f64)]) -> Node {
        let field = |number: f64| Field { kind: Some(Kind::NumberValue(number)) };
        let said: HashMap<String, Field> = numbers.iter().map(|(name, n)| ((*name).to_owned(), field(*n))).collect();
        let said = Field { kind: Some(Kind::StructValue(Struct { fields: said })) };
        let metadata = Struct { fields: [(METADATA.to_owned(), said)].into() };
        Node { metadata: Some(metadata), ..Default::default() }
    }

    #[test]
    fn g_the_parts_never_exceed_the_limit() {
        for limit in [0, 1024, 4096, 20_000, 65_536, 1 << 20, u64::MAX] {
            for (workers, listeners) in [(1, 0), (2, 100), (2, 5000), (64, 300), (64, 100_000)] {
                let files = Files::of(limit, workers);
                let sessions = u64::from(files.sessions(listeners));
                let more = files.listeners(sessions);
                let listed = listeners.min(more) * u64::from(files.workers);
                let all = u64::from(files.limit / 10) + 2 * u64::from(files.connections) + sessions + listed;
                assert!(all <= u64::from(files.limit), "{files:?} with {listeners}: {all}");
            }
        }
        let files = Files::of(20_000, 2);
        assert_eq!(
            (files.connections, files.sessions(100), files.sessions(5900), files.listeners(0)),
            (3000, 7200, 200, 6000)
        );
    }

    #[test]
    fn g_what_a_node_says_of_itself_is_read_within_bounds() {
        let said = |numbers: &[(&str, f64)]| Files::read(&node(numbers));
        let files = Files::of(20_000, 2);
        assert_eq!(said(&[("limit", 20_000.0), ("workers", 2.0), ("connections", 3000.0)]), Some(files));
        assert_eq!(said(&[("limit", 20_000.0), ("workers", 2.0), ("connections", 9e9)]), Some(files));
        assert_eq!(said(&[("limit", 1.0), ("workers", 0.0)]), Some(Files::of(1024, 1)));
        assert_eq!(said(&[("limit", 1e14), ("workers", 1e14)]), Some(Files::of(1 << 20, 1024)));
        for nonsense in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(said(&[("limit", nonsense)]), None);
        }
        assert_eq!((said(&[]), Files::read(&Node::default())), (None, None));
    }
}
