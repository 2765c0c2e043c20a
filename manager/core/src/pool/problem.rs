//! Why a pool gives no addresses, as its condition says it. Knows words; judges no pool.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::InvalidRange;

/// Why a pool gives no addresses. What it gave is served on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PoolProblem {
    NoAddresses,
    Invalid { text: String, why: InvalidRange },
    Forbidden { address: IpAddr },
    Outside { text: String },
    Overlap { pool: Arc<str>, address: IpAddr },
    PortOverlap { pool: Arc<str>, port: u16 },
}

impl PoolProblem {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoAddresses => "NoAddresses",
            Self::Invalid { .. } | Self::Forbidden { .. } | Self::Outside { .. } => "InvalidAddresses",
            Self::Overlap { .. } | Self::PortOverlap { .. } => "Overlap",
        }
    }
}

impl fmt::Display for PoolProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddresses => f.write_str("spec.addresses leaves no address: include networks, ranges or addresses"),
            Self::Invalid { text, why } => write!(f, "\"{text}\" in spec.addresses {why}"),
            Self::Forbidden { address } => {
                write!(
                    f,
                    "spec.addresses include {address}: unspecified, broadcast and multicast addresses cannot be given"
                )
            }
            Self::Outside { text } => {
                write!(
                    f,
                    "\"{text}\" in spec.addresses.dynamic is not within spec.addresses.include: add it there, or remove it; until then the pool gives no addresses"
                )
            }
            Self::Overlap { pool, address } => {
                write!(
                    f,
                    "{address} is also in the older pool {pool}: remove it from one of the two; until then this pool gives no addresses"
                )
            }
            Self::PortOverlap { pool, port } => {
                write!(
                    f,
                    "port {port} of the fleet's Envoys is pool {pool}'s, too, which is older: give each pool with \
                     source.service ports of its own, by source.service.envoyPorts, or by portRange where it has per: Fleet"
                )
            }
        }
    }
}
