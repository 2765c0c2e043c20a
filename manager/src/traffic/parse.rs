//! What a statistic of Envoy's is about, from its name, and what its value is worth. Pure; knows how our statistics are named, and
//! nothing of who sends them.
//!
//! To read one more statistic: a variant of [`Sum`] or [`Level`] and a line in [`Statistic::named`]; Envoy sends it when the
//! bootstrap's list of statistics has it.

use nave_api::names;
use nave_manager_core::{Key, of_stat_prefix};

/// The longest name of a statistic: a scope, a cluster's name and a word.
const NAME: usize = 600;
/// Beyond this not every whole number is a `double`; no counter of ours grows by so much in the years of an Envoy.
const MOST: f64 = 9_007_199_254_740_992.0;

/// One statistic of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Statistic {
    /// The load balancer.
    pub(super) of: Key,
    /// The cluster, where the statistic is one cluster's.
    pub(super) cluster: Option<String>,
    /// What is counted or measured.
    pub(super) what: What,
}

/// What a statistic counts or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// It counts: what it grew by is sent.
    Sum(Sum),
    /// It measures: what is now is sent.
    Level(Level),
    /// It measures the TCP connections at one port, by those to its backends: Envoy has no such number of clients.
    Port,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sum {
    Connections,
    Sessions,
    Received,
    Sent,
    Failures,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Connections,
    Sessions,
}

impl Statistic {
    /// Reads a name such as `tcp.<namespace>/<name>.downstream_cx_total`; nothing where it is not about a load balancer, or not kept.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = (name.len() <= NAME).then_some(name)?;
        let (scope, rest) = name.split_once('.')?;
        let (owner, word) = rest.rsplit_once('.')?;
        let what = match (scope, word) {
            ("tcp", "downstream_cx_total") => What::Sum(Sum::Connections),
            ("udp", "downstream_sess_total") => What::Sum(Sum::Sessions),
            ("tcp", "downstream_cx_rx_bytes_total") | ("udp", "downstream_sess_rx_bytes") => What::Sum(Sum::Received),
            ("tcp", "downstream_cx_tx_bytes_total") | ("udp", "downstream_sess_tx_bytes") => What::Sum(Sum::Sent),
            (
                "cluster",
                "upstream_cx_connect_fail"
                | "upstream_cx_connect_timeout"
                | "upstream_cx_none_healthy"
                | "upstream_cx_overflow",
            ) => What::Sum(Sum::Failures),
            ("listener", "downstream_cx_active") => What::Level(Level::Connections),
            ("cluster", "upstream_cx_active") => What::Port,
            ("udp", "downstream_sess_active") => What::Level(Level::Sessions),
            _ => return None,
        };
        let of = of_stat_prefix(owner)?;
        names::tenant_of(&of.namespace)?;
        let cluster = (scope == "cluster").then(|| owner.to_owned());
        let is_whole = cluster.is_some() || owner.matches('/').count() == 1;
        is_whole.then_some(Self { of, cluster, what })
    }
}

/// A value that a counter may grow by or a gauge may have: finite, not negative, whole.
pub(super) fn count(value: f64) -> Option<u64> {
    let is_count = value.is_finite() && (0.0..=MOST).contains(&value);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at just now")]
    is_count.then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_load_balancer_and_what() {
        let of = Key::new("tenant-shop", "web-1");
        let statistic =
            |cluster: Option<&str>, what| Some(Statistic { of: of.clone(), cluster: cluster.map(str::to_owned), what });
        for (name, expected) in [
            ("tcp.tenant-shop/web-1.downstream_cx_total", statistic(None, What::Sum(Sum::Connections))),
            ("listener.tenant-shop/web-1.downstream_cx_active", statistic(None, What::Level(Level::Connections))),
            ("udp.tenant-shop/web-1.downstream_sess_active", statistic(None, What::Level(Level::Sessions))),
            (
                "cluster.tenant-shop/web-1/tcp/80.upstream_cx_connect_fail",
                statistic(Some("tenant-shop/web-1/tcp/80"), What::Sum(Sum::Failures)),
            ),
        ] {
            assert_eq!(Statistic::named(name), expected, "{name}");
        }
    }

    #[test]
    fn other_names_are_nothing() {
        let long = format!("tcp.tenant-shop/{}.downstream_cx_total", "x".repeat(1 << 20));
        for name in [
            "",
            "tcp",
            "server.live",
            "tcp.downstream_cx_total",
            "tcp.tenant-shop.downstream_cx_total",
            "tcp.kube-system/web-1.downstream_cx_total",
            "tcp.tenant-shop/web-1/more.downstream_cx_total",
            "tcp./.downstream_cx_total",
            "tcp.tenant-shop/web-1.downstream_cx_destroy",
            "cluster.nave_xds.upstream_cx_connect_fail",
            long.as_str(),
        ] {
            assert_eq!(Statistic::named(name), None, "{name:.80}");
        }
    }

    #[test]
    fn c1_no_value_but_a_whole_number_of_a_sensible_size_counts() {
        assert_eq!([0.0, 1.0, 2.5, MOST].map(count), [Some(0), Some(1), Some(2), Some(1 << 53)]);
        for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -1.0, -f64::MIN_POSITIVE, 1e300, MOST * 2.0] {
            assert_eq!(count(value), None, "{value}");
        }
    }
}
