//! How full pools are, as Prometheus reads it: what their statuses say, on every manager. Knows numbers; decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nave_api::IPPool;
use nave_manager_core::{Key, Sight};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// The pools as last seen. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools {
    counts: Arc<Mutex<BTreeMap<Key, Counts>>>,
}

/// Addresses by state. An IPv6 pool has more than a whole number here could say.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    total: f64,
    free: f64,
    used: f64,
    held: f64,
}

impl Pools {
    /// Takes a look in.
    pub(crate) fn know(&self, sight: &Sight<IPPool>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match sight {
            Sight::All { objects, unreadable } => {
                let unreadable = unreadable.iter().filter_map(|one| counts.remove_entry(&one.key)).collect::<Vec<_>>();
                *counts = objects.iter().map(|pool| (Key::of(pool), Counts::of(pool))).chain(unreadable).collect();
            }
            Sight::Unreadable(_) => {}
            Sight::One(pool) => drop(counts.insert(Key::of(pool), Counts::of(pool))),
            Sight::Gone(key) => drop(counts.remove(key)),
        }
    }
}

impl Counts {
    fn of(pool: &IPPool) -> Self {
        let status = pool.status.clone().unwrap_or_default();
        let number = |text: Option<&String>| text.and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Self {
            total: number(status.total.as_ref()),
            free: number(status.free.as_ref()),
            used: status.used.into(),
            held: status.held.into(),
        }
    }
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let help = "Addresses of a pool, as its status says";
        let mut family = encoder.encode_descriptor("pool_addresses", help, None, MetricType::Gauge)?;
        for (key, counts) in &*self.counts.lock().unwrap_or_else(PoisonError::into_inner) {
            let Counts { total, free, used, held } = *counts;
            for (state, count) in [("total", total), ("free", free), ("used", used), ("held", held)] {
                let labels = [("pool", &*key.name), ("state", state)];
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
