//! A hostile neighbour: a tenant with the quota of docs/tenants.md writes its worst objects for a while, and another tenant's
//! Services are measured meanwhile, beside the floor of the same run. Knows the lab; judges nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use nave_e2e::{Lab, control_plane};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::convergence::{Bench, Row};
use crate::worst::{self, Write};

/// Requests of the hostile tenant at once.
const AT_ONCE: u32 = 4;
/// The tenant that writes; the Services are of the other spoke.
const HOSTILE: &str = "spoke-2";
/// Services of the other tenant before the writes.
const QUIET: u32 = 30;

/// What to measure.
pub(crate) struct Plan {
    /// How long the tenant writes.
    pub(crate) length: Duration,
    /// How many writes a second at most.
    pub(crate) rate: u32,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) writes: Writes,
    /// What the hostile tenant has in the hub at the end.
    pub(crate) stored_mb: f64,
    /// The manager's memory before the writes, and the most during them.
    pub(crate) manager_before_mb: f64,
    pub(crate) manager_most_mb: f64,
    /// The other tenant's Services before the writes, and during them.
    pub(crate) quiet: Row,
    pub(crate) beside: Row,
}

/// What the API server answered to the hostile tenant.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Writes {
    pub(crate) taken: usize,
    pub(crate) refused: usize,
    pub(crate) megabytes: f64,
}

/// Measures in a lab of its own; `say` hears what is being done.
pub(crate) async fn run(plan: &Plan, say: impl Fn(&str)) -> Result<Report> {
    say("starting a light lab");
    let mut bench = Bench::start(Lab::light().spokes(2)).await?;
    bench.lab.spokes[1].agent = None;
    let nodes = bench.lab.plan().nodes(2);
    let quota = json!({"loadBalancers": worst::BALANCERS, "addresses": 10, "ports": 500, "endpoints": 5000});
    let spec = json!({"backends": {"allow": [nodes]}, "quota": quota});
    let tenant =
        json!({"apiVersion": "nave.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": HOSTILE}, "spec": spec});
    bench.lab.hub.apply(&tenant).await?;
    let hostile = control_plane::connect(&bench.lab.hub.credential(HOSTILE).await?).await?;
    say("nobody else writes");
    let quiet = bench.row(0, |passes| passes < QUIET).await?;
    let manager_before_mb = bench.usage()?.rss_mb;

    say(&format!("a hostile tenant writes for {} s", plan.length.as_secs()));
    let until = Instant::now() + plan.length;
    let writes = tokio::spawn(pour(hostile.clone(), Arc::new(worst::writes(nodes)), plan.rate, until));
    let memory = tokio::spawn(most(bench.manager()?, until));
    let beside = bench.row(0, |_| Instant::now() < until).await?;
    let writes = writes.await.context("the writer ended early")??;
    let manager_most_mb = memory.await.context("the watch of the memory ended early")??;
    let stored_mb = stored(&hostile).await?;
    Ok(Report { writes, stored_mb, manager_before_mb, manager_most_mb, quiet, beside })
}

/// Writes the objects in turns until then.
async fn pour(client: Client, writes: Arc<Vec<Write>>, rate: u32, until: Instant) -> Result<Writes> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, writes, next) = (client.clone(), Arc::clone(&writes), Arc::clone(&next));
        workers
            .spawn(async move { work(&client, &writes, &next, Duration::from_secs(1) * AT_ONCE / rate, until).await });
    }
    let mut sum = Writes::default();
    while let Some(done) = workers.join_next().await {
        let Writes { taken, refused, megabytes } = done??;
        sum = Writes { taken: sum.taken + taken, refused: sum.refused + refused, megabytes: sum.megabytes + megabytes };
    }
    Ok(sum)
}

async fn work(
    client: &Client,
    writes: &[Write],
    next: &AtomicUsize,
    every: Duration,
    until: Instant,
) -> Result<Writes> {
    let mut done = Writes::default();
    let mut pace = tokio::time::interval(every);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while Instant::now() < until {
        pace.tick().await;
        let write = &writes[next.fetch_add(1, Ordering::Relaxed) % writes.len()];
        if send(client, write).await? {
            done.taken += 1;
            done.megabytes += megabytes(write.body.len());
        } else {
            done.refused += 1;
        }
    }
    Ok(done)
}

/// Whether the API server took it.
async fn send(client: &Client, write: &Write) -> Result<bool> {
    let request = Request::patch(&write.path).header("content-type", "application/apply-patch+yaml");
    let answer = client.send(request.body(write.body.clone().into()).context("make a request")?).await?;
    let taken = answer.status().is_success();
    // The connection is free for the next request when the answer has been read.
    answer.into_body().collect_bytes().await.context("read an answer")?;
    Ok(taken)
}

/// The most memory that the process has until then, in MB.
async fn most(pid: u32, until: Instant) -> Result<f64> {
    let mut most: f64 = 0.0;
    while Instant::now() < until {
        most = most.max(crate::measure::usage(pid)?.rss_mb);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(most)
}

/// What the tenant has, as JSON.
async fn stored(client: &Client) -> Result<f64> {
    let mut bytes = 0;
    for kind in ["nodesets", "tcploadbalancers"] {
        let path = format!("/apis/nave.dev/v1alpha1/namespaces/tenant-{HOSTILE}/{kind}");
        bytes += client.request_text(Request::get(path).body(Vec::new())?).await?.len();
    }
    Ok(megabytes(bytes))
}

fn megabytes(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1e6
}

/// As a table.
pub(crate) fn table(report: &Report) -> String {
    let Report {
        writes: Writes { taken, refused, megabytes },
        stored_mb,
        manager_before_mb,
        manager_most_mb,
        quiet,
        beside,
    } = report;
    let line = |name: &str, row: &Row| {
        let Row { samples, first_byte_ms, floor_first_byte_ms, status_ms, floor_status_ms, .. } = row;
        format!(
            "{name:<28} {samples:>7} {:>9.1} {:>9.1} {:>7.2} {:>9.1} {:>9.1} {:>7.2}\n",
            first_byte_ms.p50,
            floor_first_byte_ms.p50,
            first_byte_ms.p50 / floor_first_byte_ms.p50,
            status_ms.p50,
            floor_status_ms.p50,
            status_ms.p50 / floor_status_ms.p50,
        )
    };
    let head = "another tenant's Service, ms   passes first byte     floor   ratio    status     floor   ratio\n";
    format!(
        "{head}{}{}\nwrites taken {taken}, refused {refused}, {megabytes:.0} MB; stored at the end {stored_mb:.1} MB\n\
         the manager's memory: {manager_before_mb:.1} MB before, {manager_most_mb:.1} MB at most\n",
        line("alone", quiet),
        line("beside a hostile tenant", beside),
    )
}
