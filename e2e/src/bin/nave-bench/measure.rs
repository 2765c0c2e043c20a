//! Figures: percentiles of samples, and what a process has used. Knows no bench.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

/// Two percentiles of samples, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// Half of the samples took at most this.
    pub(crate) p50: f64,
    /// All but one in a hundred took at most this (nearest rank: with fewer than a hundred samples, the largest).
    pub(crate) p99: f64,
}

impl Percentiles {
    /// Of these samples.
    pub(crate) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort();
        Self { p50: rank(&samples, 50), p99: rank(&samples, 99) }
    }
}

fn rank(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(0.0, |sample| millis(*sample))
}

/// Milliseconds, to the hundredth.
pub(crate) fn millis(length: Duration) -> f64 {
    (length.as_secs_f64() * 100_000.0).round() / 100.0
}

/// What a process has used since it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Processor time, user and system, in milliseconds.
    pub(crate) cpu_ms: f64,
    /// Resident memory in MB.
    pub(crate) rss_mb: f64,
}

/// Reads the run time of all threads, in nanoseconds, and the memory, in pages.
pub(crate) fn usage(pid: u32) -> anyhow::Result<Usage> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("list a process's threads")? {
        // A thread that has just ended has nothing more to say.
        let Ok(times) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += times.split_whitespace().next().and_then(|t| t.parse::<f64>().ok()).context("read run times")?;
    }
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).context("read a process's memory")?;
    let resident: f64 = pages.split_whitespace().nth(1).context("read a process's memory")?.parse()?;
    Ok(Usage { cpu_ms: nanoseconds / 1e6, rss_mb: (resident * 4096.0 / 1e6 * 10.0).round() / 10.0 })
}

/// The sum of all samples of a metric in a Prometheus text page.
pub(crate) fn metric(page: &str, name: &str) -> f64 {
    page.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(Percentiles::of(samples), Percentiles { p50: 100.0, p99: 198.0 });
        assert_eq!(Percentiles::of(vec![]), Percentiles::default());
    }

    #[test]
    fn a_metric_is_the_sum_of_its_samples_and_of_no_longer_name() {
        let page = "# TYPE sent counter\nsent_total{fleet=\"a\"} 2\nsent_total{fleet=\"b\"} 3.5\nsent_total_more 9\n";
        assert!((metric(page, "sent_total") - 5.5).abs() < f64::EPSILON);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage(std::process::id()).unwrap().rss_mb > 1.0);
    }
}
