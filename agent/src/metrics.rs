//! What the agent counts. Knows names and labels; knows no meaning.

use std::sync::atomic::AtomicU64;

use nave_watch::Unreadables;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;

/// One step that was performed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabels {
    /// Which.
    pub step: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// As it should.
    Done,
    /// It waits for something else.
    Waits,
    /// The world failed.
    Failed,
}

/// A watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WatchLabels {
    /// The kind that is watched.
    pub kind: &'static str,
}

/// Everything that is counted.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Steps by outcome.
    pub steps: Family<StepLabels, Counter>,
    /// From seeing a change to sending what follows from it: our own part of the latency.
    pub own: Histogram,
    /// Works that are due.
    pub due: Gauge,
    /// Works that wait after a failure.
    pub delayed: Gauge,
    /// Services of the spoke.
    pub services: Gauge,
    /// Load balancers of ours in the hub.
    pub intents: Gauge,
    /// Nodes that may get traffic.
    pub nodes: Gauge,
    /// Watches that failed and were begun anew.
    pub watch_failures: Family<WatchLabels, Counter>,
    /// Objects that cannot be read.
    pub unreadables: Unreadables,
    /// When the hub's token ends.
    pub token_expires: Gauge<f64, AtomicU64>,
    /// Tokens that were renewed.
    pub renewals: Counter,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut this = Self {
            registry: Arc::default(),
            steps: Family::default(),
            own: Histogram::new(exponential_buckets(0.000_05, 2.0, 14)),
            due: Gauge::default(),
            delayed: Gauge::default(),
            services: Gauge::default(),
            intents: Gauge::default(),
            nodes: Gauge::default(),
            watch_failures: Family::default(),
            unreadables: Unreadables::default(),
            token_expires: Gauge::default(),
            renewals: Counter::default(),
        };
        this.registry = Arc::new(this.registered());
        this
    }

    /// The page that is scraped.
    pub fn page(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn registered(&self) -> Registry {
        let mut all = Registry::with_prefix("nave_agent");
        all.register("steps", "Steps performed, by outcome", self.steps.clone());
        all.register_with_unit("own", "From seeing a change to sending what follows", Unit::Seconds, self.own.clone());
        all.register("works_due", "Works that are due", self.due.clone());
        all.register("works_delayed", "Works that wait after a failure", self.delayed.clone());
        all.register("services", "Services in the spoke", self.services.clone());
        all.register("load_balancers", "TCPLoadBalancers of this spoke in the hub", self.intents.clone());
        all.register("ready_nodes", "Nodes that may get traffic", self.nodes.clone());
        all.register("watch_failures", "Watches that failed and were begun anew", self.watch_failures.clone());
        all.register_collector(Box::new(self.unreadables.clone()));
        all.register(
            "hub_token_expires",
            "When the hub's token ends, in the epoch's seconds",
            self.token_expires.clone(),
        );
        all.register("hub_token_renewals", "Tokens that were renewed", self.renewals.clone());
        all
    }
}
