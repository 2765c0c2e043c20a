//! Reports as tables for people. Knows layout only.

use std::fmt::Write;

use crate::convergence::{Report, Row};
use crate::measure::Percentiles;

/// The convergence bench.
pub(crate) fn convergence(report: &Report) -> String {
    let Report { rows, burst } = report;
    let mut text = String::from(
        "milliseconds p50 (p99)     first byte         floor    ratio |        status          floor    ratio | xDS bytes  CPU ms   RSS MB\n",
    );
    for row in rows {
        let _ = writeln!(text, "{}", line(row));
    }
    let _ = writeln!(
        text,
        "burst of {}: {:.2} s until all serve and show their status; the API writes alone {:.2} s; ratio {:.2}",
        burst.services,
        burst.seconds,
        burst.floor_seconds,
        burst.seconds / burst.floor_seconds
    );
    text
}

fn line(row: &Row) -> String {
    let Row { present, samples: _, first_byte_ms, status_ms, floor_first_byte_ms, floor_status_ms, .. } = row;
    format!(
        "{present:>6} present     {} {} {:>8.2} | {} {} {:>8.2} | {:>9.0} {:>7.2} {:>8.1}",
        pair(first_byte_ms),
        pair(floor_first_byte_ms),
        first_byte_ms.p50 / floor_first_byte_ms.p50,
        pair(status_ms),
        pair(floor_status_ms),
        status_ms.p50 / floor_status_ms.p50,
        row.xds_bytes_per_change,
        row.manager_cpu_ms_per_change,
        row.manager_rss_mb
    )
}

fn pair(of: &Percentiles) -> String {
    format!("{:>6.1} ({:>5.1})", of.p50, of.p99)
}
