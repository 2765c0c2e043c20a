//! What the manager's engine costs by itself: pools with many taken addresses, one event among many load balancers, a start with
//! ten thousand. Knows observations and steps; nothing is written, nothing is waited for but the first xDS response. Many tenants
//! are measured beside it, in a lab.

use std::time::{Duration, Instant};

use anyhow::Result;
use nave_manager_core::{Engine, Key, Role, Seen, Sight, Step, Timestamp};
use serde::Serialize;

use crate::nodes;
use crate::start;
use crate::tenants;
use crate::world::{self, World};

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) pools: Vec<Pool>,
    pub(crate) engine: Vec<Present>,
    pub(crate) start: start::Start,
    pub(crate) nodes: Vec<nodes::Nodes>,
    pub(crate) worst_write_ms: nodes::WorstWrite,
    pub(crate) tenants: tenants::Tenants,
}

/// A pool of which much is taken.
#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "the field is named as readers of the JSON know it")]
pub(crate) struct Pool {
    pub(crate) pool: &'static str,
    pub(crate) taken: usize,
    /// From a load balancer's appearance to the decision which address it gets, with all that else is decided: microseconds, median.
    pub(crate) allocate_us: f64,
    /// From the news that a record has ended to the address being free for others: microseconds, median.
    pub(crate) free_us: f64,
}

/// An engine with so many load balancers.
#[derive(Debug, Serialize)]
pub(crate) struct Present {
    pub(crate) load_balancers: usize,
    /// One event, from the observation to the decision: microseconds.
    pub(crate) event_us: Quantiles,
    /// An edit of a pool that none of them has an address of: microseconds, median.
    pub(crate) pool_edit_us: f64,
    /// What it keeps in memory, resident, in MB.
    pub(crate) rss_mb: f64,
}

/// Of many measurements.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Quantiles {
    fn of(mut costs: Vec<Duration>) -> Self {
        costs.sort_unstable();
        let at = |percent: usize| costs.get(costs.len() * percent / 100).map_or(0.0, |cost| cost.as_secs_f64() * 1e6);
        Self { p50: at(50), p99: at(99) }
    }
}

const POOLS: [(&str, usize); 3] = [("203.0.113.0/24", 200), ("10.0.0.0/8", 100_000), ("2001:db8::/64", 100_000)];
const PRESENT: [usize; 3] = [100, 1000, 10_000];
const LIVES: usize = 2000;
const EDITS: usize = 200;

/// Measures all of it; `say` hears what is measured now.
pub(crate) async fn run(say: impl Fn(&str)) -> Result<Report> {
    // From small to large: what a larger one freed would count as the smaller one's.
    let mut engine = Vec::new();
    for present in PRESENT {
        say(&format!("an engine with {present} load balancers"));
        engine.push(one_event_among(present));
    }
    let mut pools = Vec::new();
    for (pool, taken) in POOLS {
        say(&format!("a pool of {pool} with {taken} taken"));
        pools.push(of_pool(pool, taken));
    }
    say("a start with 10000 load balancers");
    let start = start::measure(10_000).await?;
    let (nodes, worst_write_ms) = (nodes::measure(&say), nodes::worst_write(&say));
    say("a light lab with 1000 tenants");
    let tenants = tenants::measure(1000).await?;
    Ok(Report { pools, engine, start, nodes, worst_write_ms, tenants })
}

fn one_event_among(present: usize) -> Present {
    let before = resident();
    let mut engine = world::engine(&World { pool: "10.0.0.0/8", balancers: present, ..World::default() });
    let kib = u32::try_from(resident().saturating_sub(before)).unwrap_or(u32::MAX);
    let rss_mb = f64::from(kib) / 1024.0;
    let Life { came, recorded, gone, freed } = lives(&mut engine, present);
    let all = [came, recorded, gone, freed].concat();
    let pool_edit_us = Quantiles::of(pool_edits(&mut engine)).p50;
    Present { load_balancers: present, event_us: Quantiles::of(all), pool_edit_us, rss_mb }
}

/// What edits of another pool cost.
fn pool_edits(engine: &mut Engine) -> Vec<Duration> {
    let mut costs = Vec::new();
    for n in 0..EDITS {
        let include = ["198.51.100.0/24", "198.51.100.0/25"][n % 2];
        cost(engine, &mut costs, Seen::Pools(Sight::One(world::pool("more", include, n + 1))));
    }
    costs
}

fn of_pool(pool: &'static str, taken: usize) -> Pool {
    let mut engine = world::engine(&World { pool, strangers: taken, ..World::default() });
    let Life { came, freed, .. } = lives(&mut engine, taken);
    Pool { pool, taken, allocate_us: Quantiles::of(came).p50, free_us: Quantiles::of(freed).p50 }
}

/// What each event in the lives of load balancers cost: it comes, its address is recorded, it goes, its address is free.
#[derive(Default)]
struct Life {
    came: Vec<Duration>,
    recorded: Vec<Duration>,
    gone: Vec<Duration>,
    freed: Vec<Duration>,
}

fn lives(engine: &mut Engine, present: usize) -> Life {
    let mut life = Life::default();
    for n in 0..LIVES {
        let (name, revision) = (format!("new-{n}"), present + 10 + n * 4);
        let came = cost(engine, &mut life.came, Seen::LoadBalancers(Sight::One(world::balancer(&name, revision))));
        let created = came.into_iter().find_map(|step| world::recorded(step, revision + 1));
        let Some(created) = created else { continue };
        let key = Key::of(&created);
        cost(engine, &mut life.recorded, Seen::Allocations(Sight::One(created)));
        cost(engine, &mut life.gone, Seen::LoadBalancers(Sight::Gone(Key::new(world::NAMESPACE, name))));
        cost(engine, &mut life.freed, Seen::Allocations(Sight::Gone(key)));
    }
    life
}

fn cost(engine: &mut Engine, costs: &mut Vec<Duration>, seen: Seen) -> Vec<Step> {
    let begun = Instant::now();
    engine.observe(seen);
    let outcome = engine.settle(Role::Leader, Timestamp::UNIX_EPOCH);
    costs.push(begun.elapsed());
    outcome.steps
}

/// Resident memory in KiB, as Linux counts it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0)
}
