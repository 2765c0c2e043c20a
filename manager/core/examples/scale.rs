//! Measures the engine by hand: what one event costs with many load balancers present, what a pool with many taken addresses
//! costs, and how long a start takes. `cargo run --release -p nave-manager-core --example scale`.

use std::time::{Duration, Instant};

use nave_api::{IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use nave_manager_core::{Engine, Key, Outcome, Role, Seen, Settings, Sight, Step, Timestamp};
use serde_json::{Value, json};

fn main() {
    for present in [100, 1000, 10_000] {
        let before = resident();
        let (mut engine, start, first) = start(present, &json!({"include": ["10.0.0.0/8"]}));
        let mut events = events(&mut engine, present);
        events.sort();
        println!(
            "engine: {present} present: start {:.3} s ({first} resources), event p50 {} us, p99 {} us, {} MB",
            start.as_secs_f64(),
            events[events.len() / 2].as_micros(),
            events[events.len() * 99 / 100].as_micros(),
            resident().saturating_sub(before) / 1024,
        );
    }
    for (pool, taken) in [("203.0.113.0/24", 200), ("10.0.0.0/8", 100_000), ("2001:db8::/64", 100_000)] {
        let (mut engine, ..) = start(taken, &json!({"include": [pool]}));
        let mut events = events(&mut engine, taken);
        events.sort();
        println!("pool: {pool} with {taken} taken: event p50 {} us", events[events.len() / 2].as_micros());
    }
}

fn object<K: serde::de::DeserializeOwned>(kind: &str, namespace: &str, name: &str, revision: usize, spec: &Value) -> K {
    let namespace = if namespace.is_empty() { Value::Null } else { json!(namespace) };
    let metadata = json!({
        "namespace": namespace, "name": name, "uid": format!("uid-{name}"), "resourceVersion": revision.to_string(),
        "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let whole = json!({"apiVersion": "nave.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    serde_json::from_value(whole).unwrap_or_else(|e| unreachable!("{kind} {name}: {e}"))
}

fn balancer(name: &str, revision: usize) -> TCPLoadBalancer {
    let spec = json!({"ports": [{"port": 80, "backendPort": 30080}], "backends": {"nodes": {"nodeSet": "default"}}});
    object("TCPLoadBalancer", "tenant-shop", name, revision, &spec)
}

/// An engine beside `present` load balancers, whose addresses are recorded.
fn start(present: usize, addresses: &Value) -> (Engine, Duration, usize) {
    let mut engine = Engine::new(Settings::default());
    let tenant: Tenant = object("Tenant", "", "shop", 1, &json!({"backends": {"allow": ["192.168.0.0/16"]}}));
    let nodes: Vec<Value> =
        (1..=10).map(|n| json!({"name": format!("n{n}"), "addresses": [format!("192.168.0.{n}")]})).collect();
    let nodes: NodeSet = object("NodeSet", "tenant-shop", "default", 1, &json!({"nodes": nodes}));
    let pool: IPPool = object(
        "IPPool",
        "",
        "public",
        1,
        &json!({"source": {"static": {}}, "use": {"default": true}, "addresses": addresses}),
    );
    let lists = vec![
        Seen::Fleets(Sight::All(Vec::new())),
        Seen::Tenants(Sight::All(vec![tenant])),
        Seen::NodeSets(Sight::All(vec![nodes])),
        Seen::Pools(Sight::All(vec![pool])),
        Seen::HubNetworks(Vec::new()),
        Seen::LoadBalancers(Sight::All((0..present).map(|n| balancer(&format!("lb-{n}"), 2)).collect())),
    ];
    for seen in lists {
        engine.observe(seen);
    }
    engine.observe(Seen::Allocations(Sight::All(Vec::new())));
    let steps = engine.settle(Role::Leader, Timestamp::UNIX_EPOCH).steps;
    let recorded: Vec<IPAllocation> = steps.into_iter().filter_map(|step| recorded(step, 3)).collect();
    let begin = Instant::now();
    engine.observe(Seen::Allocations(Sight::All(recorded)));
    let outcome = engine.settle(Role::Leader, Timestamp::UNIX_EPOCH);
    (engine, begin.elapsed(), published(&outcome))
}

/// The allocation that a step creates, as the API answers.
fn recorded(step: Step, revision: usize) -> Option<IPAllocation> {
    let Step::CreateAllocation(mut object) = step else { return None };
    object.metadata.uid = Some(format!("uid-{revision}"));
    object.metadata.resource_version = Some(revision.to_string());
    Some(object)
}

fn published(outcome: &Outcome) -> usize {
    outcome.publish.values().map(|change| change.upsert.len()).sum()
}

/// What each event in the life of a load balancer costs: it comes, its address is recorded, it goes, its address is free.
fn events(engine: &mut Engine, present: usize) -> Vec<Duration> {
    let mut costs = Vec::new();
    for n in 0..500 {
        let (name, revision) = (format!("new-{n}"), present + 10 + n * 4);
        let mut cost = |seen: Seen| {
            let begin = Instant::now();
            engine.observe(seen);
            let outcome = engine.settle(Role::Leader, Timestamp::UNIX_EPOCH);
            costs.push(begin.elapsed());
            outcome
        };
        let came = cost(Seen::LoadBalancers(Sight::One(balancer(&name, revision))));
        let created = came.steps.into_iter().find_map(|step| recorded(step, revision + 1));
        let Some(created) = created else { continue };
        let key = Key::of(&created);
        cost(Seen::Allocations(Sight::One(created)));
        cost(Seen::LoadBalancers(Sight::Gone(Key::new("tenant-shop", name))));
        cost(Seen::Allocations(Sight::Gone(key)));
    }
    costs
}

/// Resident memory in KiB, as Linux counts it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0)
}
