//! A hub that is far away: how long one Service and a burst of them take when each packet between agent and hub is late, and
//! some are lost. Knows the lab; counts in round trips.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::PostParams;
use nave_e2e::Lab;
use nave_e2e::network::wire::Distance;
use serde::Serialize;
use serde_json::json;

use crate::measure::Percentiles;

/// How many Services of a burst are made at a time.
const AT_ONCE: usize = 16;

/// What to measure.
pub(crate) struct Plan {
    /// How far the hub is.
    pub(crate) distance: Distance,
    /// Services one after another.
    pub(crate) samples: u32,
    /// Services at once.
    pub(crate) burst: u32,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The round trip between agent and hub, in milliseconds.
    pub(crate) round_trip_ms: u64,
    /// Lost packets of a thousand, each way.
    pub(crate) lost_per_mille: u16,
    /// From a Service's creation to the address in its status.
    pub(crate) one_ms: Percentiles,
    /// How many Services the burst has.
    pub(crate) burst: u32,
    /// From the first creation of the burst to the last address.
    pub(crate) burst_ms: f64,
    /// How often the agent found a connection lost meanwhile.
    pub(crate) lost_connections: usize,
}

/// Measures in a lab of its own; `progress` hears what it does.
pub(crate) async fn run(plan: &Plan, progress: impl Fn(&str)) -> anyhow::Result<Report> {
    let Plan { distance, samples, burst } = plan;
    let lab = Lab::full().nodes(0).far(*distance).start().await?;
    progress("one Service after another ...");
    let mut times = Vec::new();
    for sample in 0..*samples {
        times.push(show(&lab, &format!("one-{sample}")).await?);
    }
    progress("a burst ...");
    let begun = Instant::now();
    let all = futures::stream::iter(0..*burst).map(|number| make(&lab, format!("many-{number}")));
    all.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    for number in 0..*burst {
        lab.spokes[0].addresses("default", &format!("many-{number}")).await?;
    }
    let burst_ms = crate::measure::millis(begun.elapsed());
    let log = std::fs::read_to_string(lab.spokes[0].agent()?.process().log()).context("read the agent's log")?;
    Ok(Report {
        round_trip_ms: u64::try_from(distance.round_trip.as_millis()).unwrap_or(u64::MAX),
        lost_per_mille: distance.lost_per_mille,
        one_ms: Percentiles::of(times),
        burst: *burst,
        burst_ms,
        lost_connections: log.matches("Connection timed out").count(),
    })
}

/// As a table.
pub(crate) fn table(report: &Report) -> String {
    let Report { round_trip_ms, lost_per_mille, one_ms, burst, burst_ms, lost_connections } = report;
    let trips = |ms: f64| {
        if *round_trip_ms == 0 { f64::NAN } else { ms / Duration::from_millis(*round_trip_ms).as_secs_f64() / 1000.0 }
    };
    format!(
        "| round trip | lost | one Service, p50 (p99) | round trips | burst of {burst} | round trips | lost connections |\n\
         |---|---|---|---|---|---|---|\n\
         | {round_trip_ms} ms | {:.1} % | {:.0} ({:.0}) ms | {:.1} ({:.1}) | {:.1} s | {:.0} | {lost_connections} |\n",
        f64::from(*lost_per_mille) / 10.0,
        one_ms.p50,
        one_ms.p99,
        trips(one_ms.p50),
        trips(one_ms.p99),
        burst_ms / 1000.0,
        trips(*burst_ms),
    )
}

/// Makes a Service and waits for its address.
async fn show(lab: &Lab, name: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    make(lab, name.to_owned()).await?;
    lab.spokes[0].addresses("default", name).await?;
    Ok(begun.elapsed())
}

async fn make(lab: &Lab, name: String) -> anyhow::Result<()> {
    let services: Api<Service> = Api::namespaced(lab.spokes[0].client(), "default");
    let service = json!({"metadata": {"name": name}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    Ok(())
}
