//! The least and the most that settings of traffic may be. Beyond them one load balancer could take from an Envoy what others
//! need: its descriptors, or its time. Knows numbers; knows nothing of what they are for.

use std::fmt;
use std::time::Duration;

use kube::core::Rule;

/// A UDP session holds a descriptor of each Envoy for so long after its last datagram.
pub const UDP_SESSION: Bounds = Bounds { least: Duration::from_secs(1), most: Duration::from_hours(1) };
/// The time between two checks of a backend.
pub const CHECK_INTERVAL: Bounds = Bounds { least: Duration::from_secs(1), most: Duration::from_hours(1) };
/// A check that is not answered holds a descriptor of each Envoy for so long.
pub const CHECK_TIMEOUT: Bounds = Bounds { least: Duration::from_millis(1), most: Duration::from_mins(1) };

/// TCP connections at once, on each Envoy and port, where nothing is said.
pub const CONNECTIONS: u32 = 10_000;
/// UDP sessions at once, on each Envoy and port, where nothing is said.
pub const SESSIONS: u32 = 1_000;
/// Connections or sessions at once, on each Envoy and port, at most.
pub const CONNECTIONS_AT_MOST: u32 = 200_000;

/// The shortest and the longest that a setting may be, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
}

impl Bounds {
    /// The nearest length that lies within.
    pub fn nearest(&self, length: Duration) -> Duration {
        length.clamp(self.least, self.most)
    }

    /// The rule of the schema; what is no duration at all is another rule's matter.
    pub(crate) fn rule(&self, what: &str) -> Rule {
        let Self { least, most } = self;
        let (least, most) = (crate::Duration::of(*least).0, crate::Duration::of(*most).0);
        Rule::new(format!(
            "!self.matches('^([0-9]{{1,6}}(ms|s|m|h))+$') || (duration(self) >= duration('{least}') && duration(self) <= duration('{most}'))"
        ))
        .message(&*format!("{what} is {self}"))
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", people(self.least), people(self.most))
    }
}

/// In whole hours or minutes, where it is.
fn people(length: Duration) -> String {
    match length.as_secs() {
        seconds if length.subsec_nanos() > 0 || seconds == 0 || !seconds.is_multiple_of(60) => {
            crate::Duration::of(length).0
        }
        seconds if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        seconds => format!("{}m", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g1_the_nearest_bound_is_what_a_length_beyond_becomes() {
        let nearest = |millis: u64| UDP_SESSION.nearest(Duration::from_millis(millis)).as_millis();
        assert_eq!([0, 999, 1000, 60_000, 3_600_001].map(nearest), [1000, 1000, 1000, 60_000, 3_600_000]);
    }

    #[test]
    fn bounds_read_as_people_write_them() {
        assert_eq!([UDP_SESSION, CHECK_TIMEOUT].map(|bounds| bounds.to_string()), ["1s to 1h", "1ms to 1m"]);
    }
}
