//! What this manager counts, as Prometheus reads it. Knows names and units; the rooms say when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nave_xds::server::Server;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// All metrics. Clones are the same.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    observations: Counter,
    settling: Histogram,
    writes: Histogram,
    leader: Gauge,
    missing_policies: Gauge,
}

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("nave");
        let settling = Histogram::new([0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]);
        let writes = Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]);
        let (observations, leader, missing_policies) = (Counter::default(), Gauge::default(), Gauge::default());
        registry.register("observations", "What the engine was told", observations.clone());
        registry.register("leader", "1 where this manager writes", leader.clone());
        let help = "Admission policies of the manager's chart that are not in force";
        registry.register("missing_policies", help, missing_policies.clone());
        let help = "From the first of some observations to what follows from them";
        registry.register_with_unit("settling", help, Unit::Seconds, settling.clone());
        registry.register_with_unit("api_writes", "Writes to the hub's API", Unit::Seconds, writes.clone());
        Self { registry: Arc::new(Mutex::new(registry)), observations, settling, writes, leader, missing_policies }
    }

    /// Adds somebody's own metrics.
    pub(crate) fn add(&self, collector: impl Collector) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(collector));
    }

    /// The engine has settled some observations.
    pub(crate) fn settled(&self, observations: u64, took: Duration) {
        self.observations.inc_by(observations);
        self.settling.observe(took.as_secs_f64());
    }

    /// The API has answered a write.
    pub(crate) fn written(&self, took: Duration) {
        self.writes.observe(took.as_secs_f64());
    }

    /// Whether this manager leads.
    pub(crate) fn lead(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// How many admission policies of the chart are not in force.
    pub(crate) fn missing_policies(&self) -> Gauge {
        self.missing_policies.clone()
    }

    /// The page.
    pub(crate) fn page(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(page)
    }
}

/// What the xDS server counts itself.
pub(crate) struct Xds(pub(crate) Server);

impl std::fmt::Debug for Xds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Xds")
    }
}

impl Collector for Xds {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(self.0.sent_bytes());
        let kind = counter.metric_type();
        let help = "Bytes of xDS responses, before framing and encryption";
        counter.encode(encoder.encode_descriptor("xds_sent_bytes", help, None, kind)?)
    }
}
