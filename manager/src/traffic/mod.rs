//! Traffic per load balancer: what Envoys count and measure, as metrics of this manager. Knows which load balancers a fleet serves;
//! keeps sums and what is open now, nothing of time.
//!
//! Envoys send what their counters grew by. Each manager shows what came to it: the sum over managers is the traffic.

mod open;
mod parse;
mod read;
mod service;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nave_api::{TCPLoadBalancer, names};
use nave_manager_core::{Key, Open, Sight, stat_prefix};
use nave_xds::resource::ResourceType;
use nave_xds::server::Server;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::peers::Relay;
use open::Gauges;
use parse::{Level, Statistic, Sum, What, count};
use read::Sample;
pub(crate) use service::Metrics;

/// What Envoys counted and measure. Clones are the same.
#[derive(Clone)]
pub(crate) struct Traffic {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    sums: BTreeMap<Key, Sums>,
    /// What is open at each Envoy that is heard, by its stream.
    levels: BTreeMap<u64, BTreeMap<(Key, Level), u64>>,
    streams: u64,
    /// Statistics that were not counted.
    refused: u64,
}

/// Of one load balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    connections: u64,
    sessions: u64,
    received: u64,
    sent: u64,
    failures: u64,
}

impl Sums {
    const ALL: [(Sum, &'static str, &'static str); 5] = [
        (Sum::Connections, "connections", "TCP connections accepted for a load balancer"),
        (Sum::Sessions, "udp_sessions", "UDP sessions begun at a load balancer"),
        (Sum::Received, "received_bytes", "Bytes from clients"),
        (Sum::Sent, "sent_bytes", "Bytes to clients"),
        (Sum::Failures, "backend_failures", "Connections to backends that failed, or had none to go to"),
    ];

    fn of(&self, sum: Sum) -> u64 {
        let Self { connections, sessions, received, sent, failures } = *self;
        match sum {
            Sum::Connections => connections,
            Sum::Sessions => sessions,
            Sum::Received => received,
            Sum::Sent => sent,
            Sum::Failures => failures,
        }
    }

    fn add(&mut self, sum: Sum, grown: u64) {
        let Self { connections, sessions, received, sent, failures } = self;
        let place = match sum {
            Sum::Connections => connections,
            Sum::Sessions => sessions,
            Sum::Received => received,
            Sum::Sent => sent,
            Sum::Failures => failures,
        };
        *place = place.saturating_add(grown);
    }
}

const LEVELS: [(Level, &str, &str); 2] = [
    (Level::Connections, "open_connections", "TCP connections of a load balancer that are open now"),
    (Level::Sessions, "open_udp_sessions", "UDP sessions of a load balancer that are open now"),
];

impl Traffic {
    /// Nothing counted yet. The server knows what each fleet serves.
    pub(crate) fn new(server: Server) -> Self {
        Self { server, state: Arc::default() }
    }

    /// Envoy's metrics service. What is open at an Envoy also goes to the relay.
    pub(crate) fn service(&self, relay: Relay) -> Metrics {
        Metrics::new(self.clone(), relay)
    }

    /// Which load balancers there are. What Envoys still say of one that is gone is not counted.
    pub(crate) fn know(&self, sight: &Sight<TCPLoadBalancer>) {
        let mut state = self.state();
        match sight {
            Sight::All { objects, unreadable } => {
                let mut before = std::mem::take(&mut state.sums);
                let known = objects.iter().map(Key::of).chain(unreadable.iter().map(|one| one.key.clone()));
                state.sums = known.map(|key| (key.clone(), before.remove(&key).unwrap_or_default())).collect();
            }
            Sight::One(balancer) => drop(state.sums.entry(Key::of(balancer)).or_default()),
            Sight::Unreadable(balancer) => drop(state.sums.entry(balancer.key.clone()).or_default()),
            Sight::Gone(key) => {
                state.sums.remove(key);
                for levels in state.levels.values_mut() {
                    for (level, ..) in LEVELS {
                        levels.remove(&(key.clone(), level));
                    }
                }
            }
        }
    }

    /// One stream of an Envoy of this fleet.
    fn hear(&self, fleet: &Arc<str>) -> Heard {
        let mut state = self.state();
        state.streams += 1;
        let stream = state.streams;
        drop(state);
        Heard { traffic: self.clone(), fleet: Arc::clone(fleet), stream, gauges: Gauges::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream, from its first message to its last. What it said to be open is forgotten with it.
struct Heard {
    traffic: Traffic,
    fleet: Arc<str>,
    stream: u64,
    gauges: Gauges,
}

impl Heard {
    /// Takes statistics in: those of load balancers that the Envoy's own fleet serves, whose values are counts.
    fn take(&mut self, samples: Vec<Sample>) {
        let Self { traffic, fleet, stream, gauges } = self;
        let store = traffic.server.fleet(fleet);
        let is_served = |Statistic { of, cluster, what: _ }: &Statistic| {
            store.read(|catalog| match cluster {
                Some(cluster) => catalog.find(ResourceType::Cluster, cluster).is_some(),
                None => catalog.has_prefix(ResourceType::Cluster, &format!("{}/", stat_prefix(of))),
            })
        };
        let (good, bad): (Vec<_>, Vec<_>) = samples
            .into_iter()
            .map(|Sample { statistic, value }| (count(value).filter(|_| is_served(&statistic)), statistic))
            .partition(|(count, _)| count.is_some());
        let mut state = traffic.state();
        let State { sums, levels, streams: _, refused } = &mut *state;
        *refused = refused.saturating_add(bad.len() as u64);
        for (count, Statistic { of, cluster, what }) in good {
            let (Some(known), Some(count)) = (sums.get_mut(&of), count) else { continue };
            match what {
                What::Sum(sum) => known.add(sum, count),
                What::Port => gauges.port(cluster, count),
                What::Level(level) => {
                    if level == Level::Connections {
                        gauges.balancer(&of, count);
                    }
                    levels.entry(*stream).or_default().insert((of, level), count);
                }
            }
        }
    }
}

impl Heard {
    /// Whether the Envoy measured something since [`Heard::open`].
    fn is_fresh(&self) -> bool {
        self.gauges.is_fresh()
    }

    /// The TCP connections that are open at the Envoy of this node.
    fn open(&mut self, node: &Arc<str>) -> Open {
        let Self { traffic, fleet, stream: _, gauges } = self;
        let store = traffic.server.fleet(fleet);
        let open = store.read(|catalog| {
            gauges.retain(
                |balancer| catalog.has_prefix(ResourceType::Cluster, &format!("{}/", stat_prefix(balancer))),
                |cluster| catalog.find(ResourceType::Cluster, cluster).is_some(),
            );
            gauges.open()
        });
        Open { fleet: Arc::clone(fleet), node: Arc::clone(node), ..open }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.traffic.state().levels.remove(&self.stream);
    }
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traffic")
    }
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let (sums, open, refused) = {
            let state = self.state();
            let mut open: BTreeMap<Level, BTreeMap<Key, u64>> = BTreeMap::new();
            for ((key, level), count) in
                state.levels.values().flatten().filter(|((key, _), _)| state.sums.contains_key(key))
            {
                let sum = open.entry(*level).or_default().entry(key.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
            (state.sums.clone(), open, state.refused)
        };
        for (sum, name, help) in Sums::ALL {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (key, all) in sums.iter().filter(|(_, all)| **all != Sums::default()) {
                ConstCounter::new(all.of(sum)).encode(family.encode_family(&labels(key))?)?;
            }
        }
        for (level, name, help) in LEVELS {
            let kind = ConstGauge::new(0_i64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (key, count) in open.get(&level).into_iter().flatten() {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                ConstGauge::new(count).encode(family.encode_family(&labels(key))?)?;
            }
        }
        let refused = ConstCounter::new(refused);
        let help = "Statistics of Envoys that were not counted: of load balancers that their fleet does not serve, or no count";
        refused.encode(encoder.encode_descriptor("refused_statistics", help, None, refused.metric_type())?)
    }
}

fn labels(Key { namespace, name }: &Key) -> [(&'static str, String); 2] {
    let tenant = names::tenant_of(namespace).unwrap_or_default();
    [("tenant", tenant.to_owned()), ("name", name.to_string())]
}

#[cfg(test)]
mod tests {
    use nave_xds::resource::Resource;
    use nave_xds::server::Settings;
    use nave_xds::store::Change;

    use super::*;

    /// Two fleets: `default` serves web, `other` serves app.
    fn traffic() -> Traffic {
        let server = Server::new((), Settings::default());
        for (fleet, name) in [("default", "tenant-shop/web/tcp/80"), ("other", "tenant-shop/app/tcp/80")] {
            let cluster = Resource::new(ResourceType::Cluster, name, b"cluster");
            server.fleet(fleet).apply(Change { upsert: vec![cluster], remove: Vec::new() });
        }
        let traffic = Traffic::new(server);
        for name in ["web", "app"] {
            traffic.state().sums.insert(Key::new("tenant-shop", name), Sums::default());
        }
        traffic
    }

    fn sample(name: &str, value: f64) -> Sample {
        Sample { statistic: Statistic::named(name).unwrap(), value }
    }

    fn sums(traffic: &Traffic, name: &str) -> Sums {
        traffic.state().sums.get(&Key::new("tenant-shop", name)).copied().unwrap_or_default()
    }

    fn open(traffic: &Traffic) -> Vec<u64> {
        traffic.state().levels.values().flat_map(|levels| levels.values().copied()).collect()
    }

    #[test]
    fn what_counters_grow_by_adds_up_per_load_balancer() {
        let traffic = traffic();
        let mut heard = traffic.hear(&"default".into());
        heard.take(vec![
            sample("tcp.tenant-shop/web.downstream_cx_total", 2.0),
            sample("tcp.tenant-shop/web.downstream_cx_total", 1.0),
            sample("cluster.tenant-shop/web/tcp/80.upstream_cx_connect_fail", 4.0),
        ]);
        assert_eq!(sums(&traffic, "web"), Sums { connections: 3, failures: 4, ..Sums::default() });
        traffic.know(&Sight::Gone(Key::new("tenant-shop", "web")));
        heard.take(vec![sample("tcp.tenant-shop/web.downstream_cx_total", 1.0)]); // its last words come late
        assert_eq!(sums(&traffic, "web"), Sums::default());
    }

    #[test]
    fn c1_an_envoy_adds_nothing_to_load_balancers_that_its_fleet_does_not_serve() {
        let traffic = traffic();
        let mut heard = traffic.hear(&"other".into());
        heard.take(vec![
            sample("tcp.tenant-shop/web.downstream_cx_total", 1000.0),
            sample("cluster.tenant-shop/web/tcp/80.upstream_cx_overflow", 1000.0),
            sample("listener.tenant-shop/web.downstream_cx_active", 1000.0),
            sample("cluster.tenant-shop/app/tcp/81.upstream_cx_overflow", 1000.0),
            sample("tcp.tenant-shop/ap.downstream_cx_total", 1000.0),
        ]);
        assert_eq!((sums(&traffic, "web"), sums(&traffic, "app")), (Sums::default(), Sums::default()));
        assert_eq!((open(&traffic), traffic.state().refused), (Vec::new(), 5));
    }

    #[test]
    fn c1_no_value_overflows_a_sum_or_takes_from_it() {
        let traffic = traffic();
        let mut heard = traffic.hear(&"default".into());
        let name = "tcp.tenant-shop/web.downstream_cx_total";
        heard.take([1.0, f64::INFINITY, 1.0, f64::NAN, -5.0, f64::NEG_INFINITY, 1e300].map(|v| sample(name, v)).into());
        assert_eq!(sums(&traffic, "web").connections, 2);
        traffic
            .state()
            .sums
            .insert(Key::new("tenant-shop", "web"), Sums { connections: u64::MAX - 1, ..Sums::default() });
        heard.take(vec![sample(name, 9_007_199_254_740_992.0), sample(name, 1.0)]);
        assert_eq!(sums(&traffic, "web").connections, u64::MAX);
    }

    #[test]
    fn what_is_open_is_the_latest_word_of_each_stream_and_ends_with_it() {
        let traffic = traffic();
        let (mut one, mut two) = (traffic.hear(&"default".into()), traffic.hear(&"default".into()));
        let name = "listener.tenant-shop/web.downstream_cx_active";
        one.take(vec![sample(name, 9.0), sample(name, 7.0)]);
        two.take(vec![sample(name, 1.0), sample(name, f64::INFINITY)]);
        assert_eq!(open(&traffic), [7, 1]);
        drop(one);
        assert_eq!(open(&traffic), [1]);
    }
}
