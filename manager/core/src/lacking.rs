//! What was found out of each pool that a load balancer might have an address of, and gets none. Knows causes and their words;
//! knows not how they were found.
//!
//! A cause stands here only after it was checked. A tenant reads these words: they name no other tenant, and no pool that is
//! closed to the tenant but the one that the load balancer names itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use nave_api::tcp_load_balancer::IpFamily;

use crate::problem::{any, join};

/// What a load balancer lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Any(IpFamily),
    Exactly(IpAddr),
}

/// Why a pool does not give that. The causes come in the order of hope: the first ones end without an edit of the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Every address of the family is taken.
    Exhausted,
    /// Besides, ports are taken on the addresses that it might share.
    Crowded,
    /// Every Envoy port of a pool with `source.service` is taken.
    NoEnvoyPort,
    /// It needs one of each family, and not both are free at once.
    NotBoth,
    /// The address is taken.
    Taken(By),
    PortTaken {
        protocol: &'static str,
        port: u16,
    },
    /// The pool has the family outside of its dynamic part alone.
    OnRequest,
    /// It asks for more ports than the pool's range has.
    NoPort,
    FamilyMissing,
    /// The pool that it names does not give the address.
    Absent,
    /// No pool that lets it in gives the address.
    Nowhere,
    /// The pool overlaps an older one.
    Overlap,
    PortOverlap,
    Invalid,
    Unreadable,
    Namespace {
        own: Option<String>,
    },
    Fleet {
        fleet: String,
        own: String,
    },
    /// The pool that it names is closed to the tenant, or does not exist: the tenant cannot tell the one from the other.
    NotOpen,
    /// No pool lets it in that serves load balancers which name none.
    NoPool,
}

/// What has an address that a load balancer asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// Load balancers of the same tenant.
    Own(Vec<String>),
    OtherTenant,
    /// Its last owner, for `holdFor`.
    LastOwner,
    /// The hub's cloud.
    Cloud,
    /// An allocation that cannot be read.
    Unreadable,
    /// A write that is under way.
    Moving,
    /// The load balancer itself, from another pool, with why the allocation does not move.
    Itself {
        pool: String,
        why: String,
    },
}

/// Whatever it lacks, each with the pools that were looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lacking {
    found: BTreeMap<(Why, Vec<What>), BTreeSet<Arc<str>>>,
    /// The cause that gives the reason, and is said first.
    decides: Option<Why>,
}

/// One thing that it lacks, and why each pool does not give it. A cause without a pool is one of all pools.
pub(crate) type Lack = (What, Vec<(Option<Arc<str>>, Why)>);

impl Lacking {
    /// `is_all`: it needs all that is missing, and `lacks` holds every family of which any address would do, be one free or not.
    pub fn new(mut lacks: Vec<Lack>, is_all: bool) -> Self {
        if is_all {
            lacks = pairs(lacks);
        }
        let best = |(_, looked): &Lack| looked.iter().map(|(_, why)| why.clone()).min();
        let hopes: Vec<Why> = lacks.iter().filter_map(best).collect();
        let decides = if is_all { hopes.into_iter().max() } else { hopes.into_iter().min() };
        let mut by_pool: BTreeMap<(Option<Arc<str>>, Why), BTreeSet<What>> = BTreeMap::new();
        for (what, looked) in lacks {
            for (pool, why) in looked {
                by_pool.entry((pool, why)).or_default().insert(what);
            }
        }
        if !is_all {
            forget_other_families(&mut by_pool);
        }
        let mut found: BTreeMap<(Why, Vec<What>), BTreeSet<Arc<str>>> = BTreeMap::new();
        for ((pool, why), whats) in by_pool {
            let whats = if why.is_of_pool() { Vec::new() } else { whats.into_iter().collect() };
            found.entry((why, whats)).or_default().extend(pool);
        }
        Self { found, decides }
    }

    pub fn reason(&self) -> &'static str {
        self.decides.as_ref().map_or("NoPool", Why::reason)
    }
}

/// What keeps a pair from coming about. Which of two families is free just now changes with every other load balancer, and the
/// words must not: where something else is missing, only that counts; else that not both are free.
fn pairs(mut lacks: Vec<Lack>) -> Vec<Lack> {
    let is_passing = |why: &Why| matches!(why, Why::Exhausted | Why::Crowded | Why::NoEnvoyPort);
    let is_vague = |(what, looked): &Lack| {
        matches!(what, What::Any(_)) && looked.iter().map(|(_, why)| why).min().is_some_and(is_passing)
    };
    if !lacks.iter().all(is_vague) {
        lacks.retain(|lack| !is_vague(lack));
    } else if lacks.len() > 1 {
        for (_, looked) in &mut lacks {
            looked.retain(|(_, why)| *why != Why::FamilyMissing);
            looked.iter_mut().filter(|(_, why)| is_passing(why)).for_each(|(_, why)| *why = Why::NotBoth);
        }
    }
    lacks
}

/// Where either family does, that a pool lacks the other one says nothing.
fn forget_other_families(by_pool: &mut BTreeMap<(Option<Arc<str>>, Why), BTreeSet<What>>) {
    let is_of_family = |why: &Why| matches!(why, Why::FamilyMissing);
    let others: BTreeSet<Option<Arc<str>>> =
        by_pool.keys().filter(|(_, why)| !is_of_family(why)).map(|(pool, _)| pool.clone()).collect();
    by_pool.retain(|(pool, why), _| !is_of_family(why) || !others.contains(pool));
}

impl Why {
    fn reason(&self) -> &'static str {
        match self {
            Self::Exhausted | Self::Crowded | Self::NoEnvoyPort | Self::NotBoth => "PoolExhausted",
            Self::Taken(_) => "AddressTaken",
            Self::PortTaken { .. } => "PortTaken",
            Self::OnRequest | Self::FamilyMissing => "FamilyMissing",
            Self::NoPort => "PortsOutOfRange",
            Self::Absent | Self::Nowhere => "AddressNotOffered",
            Self::Overlap | Self::PortOverlap | Self::Invalid | Self::Unreadable => "PoolNotReady",
            Self::Namespace { .. } | Self::Fleet { .. } | Self::NotOpen => "PoolNotOpen",
            Self::NoPool => "NoPool",
        }
    }

    /// Whether the cause is the pool's alone, whatever is asked for.
    fn is_of_pool(&self) -> bool {
        match self {
            Self::NoPort
            | Self::NoEnvoyPort
            | Self::NotBoth
            | Self::Overlap
            | Self::PortOverlap
            | Self::Invalid
            | Self::Unreadable
            | Self::Namespace { .. }
            | Self::Fleet { .. }
            | Self::NotOpen
            | Self::NoPool => true,
            Self::Exhausted
            | Self::Crowded
            | Self::Taken(_)
            | Self::PortTaken { .. }
            | Self::OnRequest
            | Self::FamilyMissing
            | Self::Absent
            | Self::Nowhere => false,
        }
    }

    /// One clause. Of these pools, for these things.
    fn says(&self, whats: &[What], pools: &BTreeSet<Arc<str>>) -> String {
        let families: Vec<IpFamily> = whats.iter().map(What::family).collect();
        let addresses: Vec<String> = whats.iter().filter_map(What::address).map(|a| a.to_string()).collect();
        let (families, address, at) = (any(&families), addresses.join(" and "), named(pools));
        match self {
            Self::Exhausted => {
                format!("no {families} address is free in {at}: the load balancer that waits longest gets the next one")
            }
            Self::Crowded => format!(
                "no {families} address is free in {at}, and on the addresses that it may share there its ports are taken: the \
                 load balancer that waits longest gets the next one"
            ),
            Self::NoEnvoyPort => {
                format!("no Envoy port is free in {at}: the load balancer that waits longest gets the next one")
            }
            Self::NotBoth => format!(
                "IPv4 and IPv6 addresses are not both free in {at}: the load balancer that waits longest gets the next ones"
            ),
            Self::Taken(by) => format!("{address} is taken{by}"),
            Self::PortTaken { protocol, port } => {
                format!(
                    "{protocol} port {port} of {address} is taken by another load balancer: ask for another port or address"
                )
            }
            Self::OnRequest => {
                format!("{at} gives {families} addresses only by request: name one (nave.dev/addresses on the Service, spec.address.requested here)")
            }
            Self::NoPort => format!("{at} has fewer ports in its spec.portRange than the load balancer asks for: ask for fewer ports, or name another pool"),
            Self::FamilyMissing => format!("{at} has no {families} addresses"),
            Self::Absent => format!("{address} is not among the addresses of {at}"),
            Self::Nowhere => format!("{address} is in no pool that gives addresses to this tenant"),
            Self::Overlap => {
                format!("{at} gives no addresses: an older pool has some of them, ask the hub's administrators")
            }
            Self::PortOverlap => {
                format!(
                    "{at} gives no addresses: an older pool has some of its Envoy ports, ask the hub's administrators"
                )
            }
            Self::Invalid => {
                format!("{at} gives no addresses: its spec.addresses has a mistake, ask the hub's administrators")
            }
            Self::Unreadable if pools.is_empty() => {
                "a pool cannot be read by this manager: ask the hub's administrators".into()
            }
            Self::Unreadable => format!("{at} cannot be read by this manager: ask the hub's administrators"),
            Self::Namespace { own: Some(own) } => format!("{at} is not open to namespace {own} of the spoke"),
            Self::Namespace { own: None } => {
                format!("{at} is open to some namespaces of the spoke alone, and spec.origin names none")
            }
            Self::Fleet { fleet, own } => format!("{at} is served by fleet {fleet}, and the Tenant by fleet {own}"),
            Self::NotOpen => {
                let names: Vec<&str> = pools.iter().map(AsRef::as_ref).collect();
                format!(
                    "no pool named {} gives addresses to this tenant: ask the hub's administrators",
                    names.join(", ")
                )
            }
            Self::NoPool => "no pool serves load balancers of this tenant that name no pool: name one (nave.dev/pool on the Service, \
                             spec.address.pool here), or ask the hub's administrators for a pool with use.default"
                .into(),
        }
    }
}

impl What {
    fn family(&self) -> IpFamily {
        match self {
            Self::Any(family) => *family,
            Self::Exactly(address) => IpFamily::of(*address),
        }
    }

    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Any(_) => None,
            Self::Exactly(address) => Some(*address),
        }
    }
}

/// So many pools, and load balancers, are named.
const NAMED: usize = 5;

fn named(pools: &BTreeSet<Arc<str>>) -> String {
    let first: Vec<Arc<str>> = pools.iter().take(NAMED).cloned().collect();
    join(&first) + &more(pools.len())
}

fn more(count: usize) -> String {
    if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SOON: &str = "it is given as soon as it is free";
        match self {
            Self::Own(names) => {
                let noun = if names.len() == 1 { "load balancer" } else { "load balancers" };
                let listed: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
                write!(f, " by {noun} {}{} of this tenant: {SOON}", listed.join(", "), more(names.len()))
            }
            Self::OtherTenant => write!(f, " by another tenant: {SOON}"),
            Self::LastOwner => write!(f, ", it is kept for its last owner: {SOON}"),
            Self::Cloud => f.write_str(" by the hub's cloud: ask for another address"),
            Self::Unreadable => f.write_str(", its IPAllocation cannot be read: ask the hub's administrators"),
            Self::Moving => write!(f, " by a change that is under way: {SOON}"),
            Self::Itself { pool, why } => {
                write!(f, " by this load balancer itself, from pool {pool}, and serves on as it is: {why}")
            }
        }
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut found: Vec<_> = self.found.iter().collect();
        found.sort_by_key(|((why, _), _)| Some(why) != self.decides.as_ref());
        let clauses: Vec<String> = found.into_iter().map(|((why, whats), pools)| why.says(whats, pools)).collect();
        f.write_str(&clauses.join("; "))
    }
}
