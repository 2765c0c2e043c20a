//! Traffic per load balancer: what Envoys count, as metrics of this manager. Knows Envoy's metrics service and how our
//! statistics are named; keeps sums, nothing of time.
//!
//! Envoys send what their counters grew by. Each manager shows what came to it: the sum over managers is the traffic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::service::metrics::v3::metrics_service_server::MetricsService;
use envoy_types::pb::envoy::service::metrics::v3::{StreamMetricsMessage, StreamMetricsResponse};
use envoy_types::pb::io::prometheus::client::MetricFamily;
use nave_api::{TCPLoadBalancer, names};
use nave_manager_core::{Key, Sight};
use nave_xds::identity::Peer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use tonic::{Request, Response, Status, Streaming};

/// Sums of what Envoys counted. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    sums: Arc<Mutex<BTreeMap<Key, Sums>>>,
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

/// One of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    Connections,
    Sessions,
    Received,
    Sent,
    Failures,
}

impl Sum {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Connections, "connections", "TCP connections accepted for a load balancer"),
        (Self::Sessions, "udp_sessions", "UDP sessions begun at a load balancer"),
        (Self::Received, "received_bytes", "Bytes from clients"),
        (Self::Sent, "sent_bytes", "Bytes to clients"),
        (Self::Failures, "backend_failures", "Connections to backends that failed, or had none to go to"),
    ];

    fn of(self, sums: &Sums) -> u64 {
        let Sums { connections, sessions, received, sent, failures } = *sums;
        match self {
            Self::Connections => connections,
            Self::Sessions => sessions,
            Self::Received => received,
            Self::Sent => sent,
            Self::Failures => failures,
        }
    }
}

impl Traffic {
    /// Which load balancers there are. What Envoys still say of one that is gone is not counted.
    pub(crate) fn know(&self, sight: &Sight<TCPLoadBalancer>) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        match sight {
            Sight::All { objects, unreadable } => {
                let keys = objects.iter().map(Key::of).chain(unreadable.iter().map(|one| one.key.clone()));
                *sums = keys.map(|key| (key.clone(), sums.remove(&key).unwrap_or_default())).collect();
            }
            Sight::One(balancer) => drop(sums.entry(Key::of(balancer)).or_default()),
            Sight::Unreadable(balancer) => drop(sums.entry(balancer.key.clone()).or_default()),
            Sight::Gone(key) => drop(sums.remove(key)),
        }
    }

    fn add(&self, families: Vec<MetricFamily>) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        for family in families {
            let Some((key, sum)) = family.name.as_deref().and_then(read) else { continue };
            let grown: f64 = family.metric.iter().filter_map(|m| m.counter.as_ref()?.value).sum();
            // Counters are whole numbers far below 2^53.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter grows by whole numbers"
            )]
            let grown = grown.max(0.0) as u64;
            if let Some(Sums { connections, sessions, received, sent, failures }) = sums.get_mut(&key) {
                *match sum {
                    Sum::Connections => connections,
                    Sum::Sessions => sessions,
                    Sum::Received => received,
                    Sum::Sent => sent,
                    Sum::Failures => failures,
                } += grown;
            }
        }
    }
}

/// Which load balancer and what, from the name of a statistic: `tcp.<namespace>/<name>/<port>.downstream_cx_total`.
fn read(statistic: &str) -> Option<(Key, Sum)> {
    let (scope, rest) = statistic.split_once('.')?;
    let (owner, what) = rest.rsplit_once('.')?;
    let sum = match (scope, what) {
        ("tcp", "downstream_cx_total") => Sum::Connections,
        ("udp", "downstream_sess_total") => Sum::Sessions,
        ("tcp", "downstream_cx_rx_bytes_total") | ("udp", "downstream_sess_rx_bytes") => Sum::Received,
        ("tcp", "downstream_cx_tx_bytes_total") | ("udp", "downstream_sess_tx_bytes") => Sum::Sent,
        (
            "cluster",
            "upstream_cx_connect_fail"
            | "upstream_cx_connect_timeout"
            | "upstream_cx_none_healthy"
            | "upstream_cx_overflow",
        ) => Sum::Failures,
        _ => return None,
    };
    let mut parts = owner.split('/');
    let (namespace, name) = (parts.next()?, parts.next()?);
    names::tenant_of(namespace)?;
    Some((Key::new(namespace, name), sum))
}

#[tonic::async_trait]
impl MetricsService for Traffic {
    async fn stream_metrics(
        &self,
        request: Request<Streaming<StreamMetricsMessage>>,
    ) -> Result<Response<StreamMetricsResponse>, Status> {
        match request.extensions().get::<Peer>() {
            Some(Peer::Envoy { .. }) => {}
            Some(Peer::Manager { .. }) | None => return Err(Status::permission_denied("metrics come from Envoys")),
        }
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            self.add(message.envoy_metrics);
        }
        Ok(Response::new(StreamMetricsResponse {}))
    }
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (sum, name, help) in Sum::ALL {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (Key { namespace, name }, all) in sums.iter().filter(|(_, all)| **all != Sums::default()) {
                let tenant = names::tenant_of(namespace).unwrap_or_default();
                let labels = [("tenant", tenant), ("name", name.as_ref())];
                ConstCounter::new(sum.of(all)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::io::prometheus::client::{Counter, Metric};

    fn grown(name: &str, by: f64) -> MetricFamily {
        let counter = Counter { value: Some(by), ..Counter::default() };
        let metric = Metric { counter: Some(counter), ..Metric::default() };
        MetricFamily { name: Some(name.to_owned()), metric: vec![metric], ..MetricFamily::default() }
    }

    #[test]
    fn what_counters_grow_by_adds_up_per_load_balancer() {
        let traffic = Traffic::default();
        let key = Key::new("tenant-shop", "web-1");
        traffic.sums.lock().unwrap().insert(key.clone(), Sums::default());
        traffic.add(vec![
            grown("tcp.tenant-shop/web-1/tcp-443.downstream_cx_total", 2.0),
            grown("tcp.tenant-shop/web-1/tcp-80.downstream_cx_total", 1.0),
            grown("cluster.tenant-shop/web-1/tcp-80.upstream_cx_connect_fail", 4.0),
            grown("cluster.nave_xds.upstream_cx_connect_fail", 9.0),
        ]);
        let sums = traffic.sums.lock().unwrap().get(&key).copied();
        assert_eq!(sums, Some(Sums { connections: 3, failures: 4, ..Sums::default() }));
        traffic.know(&Sight::Gone(key));
        traffic.add(vec![grown("tcp.tenant-shop/web-1/tcp-443.downstream_cx_total", 1.0)]); // its last words come late
        assert!(traffic.sums.lock().unwrap().is_empty());
    }
}
