//! Reports as tables for people. Knows layout only.

use std::fmt::Write;

use crate::convergence::{Report, Row};
use crate::engine;
use crate::measure::Percentiles;
use crate::nodes::{Nodes, WorstWrite};
use crate::tenants::Tenants;

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

/// The engine by itself.
pub(crate) fn engine(report: &engine::Report) -> String {
    let engine::Report { pools, engine, start, nodes, worst_write_ms, tenants } = report;
    let mut text = String::from("pool                     taken   allocate us    free us\n");
    for engine::Pool { pool, taken, allocate_us, free_us } in pools {
        let _ = writeln!(text, "{pool:<20} {taken:>9} {allocate_us:>13.1} {free_us:>10.1}");
    }
    text.push_str("\nload balancers   event us p50     p99  pool edit us    RSS MB\n");
    for engine::Present { load_balancers, event_us, pool_edit_us, rss_mb } in engine {
        let _ = writeln!(
            text,
            "{load_balancers:>14} {:>14.1} {:>7.1} {pool_edit_us:>13.1} {rss_mb:>9.1}",
            event_us.p50, event_us.p99
        );
    }
    let _ = writeln!(
        text,
        "\na start with {} load balancers: {:.2} s from the lists to the first xDS response, of {} resources",
        start.load_balancers, start.seconds, start.resources
    );
    text.push_str("\na node that goes: load balancers   nodes   changed  xDS bytes  manager ms\n");
    for Nodes { load_balancers, nodes, changed_load_balancers, xds_bytes, manager_ms } in nodes {
        let _ = writeln!(
            text,
            "{load_balancers:>32} {nodes:>7} {changed_load_balancers:>9} {xds_bytes:>10} {manager_ms:>11.1}"
        );
    }
    let WorstWrite { node_set, endpoints, ports } = worst_write_ms;
    let _ =
        writeln!(text, "\nthe worst write, ms: a NodeSet {node_set:.1}, endpoints {endpoints:.1}, ports {ports:.1}");
    let Tenants { tenants, ready_seconds, start_seconds, rss_mb } = tenants;
    let _ = writeln!(
        text,
        "\n{tenants} tenants: all ready after {ready_seconds:.1} s; a start beside them {start_seconds:.2} s, {rss_mb:.1} MB"
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
