//! Messages of Envoy's metrics service from their bytes: only the statistics that are kept, however much there is besides. Knows
//! Envoy's message definitions; knows no stream.

use nave_xds::fields::{Fields, Malformed, Value};
use tonic::Status;

use super::parse::Statistic;

/// Statistics of load balancers in one message. Envoy sends a thousand of all kinds.
const SAMPLES: usize = 100_000;
/// Values of one statistic: Envoy sends one.
const VALUES: usize = 8;

/// A statistic and its value as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) statistic: Statistic,
    pub(super) value: f64,
}

/// What a message holds, and how many bytes it was.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) samples: Vec<Sample>,
    pub(super) bytes: usize,
}

/// `envoy.service.metrics.v3.StreamMetricsMessage`.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
pub(super) fn message(bytes: &[u8]) -> Result<Message, Status> {
    let malformed = |_: Malformed| Status::invalid_argument("the message is not one of statistics");
    let mut samples = Vec::new();
    for field in Fields::of(bytes) {
        let field = field.map_err(malformed)?;
        let Some(family) = field.value.bytes().filter(|_| field.number == 2) else { continue };
        family_of(family, &mut samples).map_err(malformed)?;
        if samples.len() > SAMPLES {
            return Err(Status::resource_exhausted(format!(
                "a message may have {SAMPLES} statistics of load balancers"
            )));
        }
    }
    Ok(Message { samples, bytes: bytes.len() })
}

/// `io.prometheus.client.MetricFamily`.
fn family_of(family: &[u8], samples: &mut Vec<Sample>) -> Result<(), Malformed> {
    let name = Fields::of(family).last(1)?.and_then(Value::bytes).and_then(|name| str::from_utf8(name).ok());
    let Some(statistic) = name.and_then(Statistic::named) else { return Ok(()) };
    let metrics = Fields::of(family).filter(|field| field.is_err() || field.is_ok_and(|field| field.number == 4));
    for metric in metrics.take(VALUES) {
        let Some(metric) = metric?.value.bytes() else { continue };
        // A gauge, or a counter; each has its value in its first field.
        for kind in [2, 3] {
            let held = Fields::of(metric).last(kind)?.and_then(Value::bytes);
            let value = held.map(|held| Fields::of(held).last(1)).transpose()?.flatten().and_then(Value::double);
            samples.extend(value.map(|value| Sample { statistic: statistic.clone(), value }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
    use envoy_types::pb::io::prometheus::client::{Counter, Gauge, Metric, MetricFamily};
    use nave_manager_core::Key;
    use prost::Message as _;
    use tonic::Code;

    use super::super::parse::{Level, Sum, What};
    use super::*;

    fn family(name: &str, metric: Metric) -> MetricFamily {
        MetricFamily { name: Some(name.to_owned()), metric: vec![metric], ..MetricFamily::default() }
    }

    fn counter(name: &str, value: f64) -> MetricFamily {
        family(
            name,
            Metric { counter: Some(Counter { value: Some(value), ..Counter::default() }), ..Metric::default() },
        )
    }

    fn gauge(name: &str, value: f64) -> MetricFamily {
        family(name, Metric { gauge: Some(Gauge { value: Some(value) }), ..Metric::default() })
    }

    fn read(envoy_metrics: Vec<MetricFamily>) -> Result<Vec<(What, f64)>, Code> {
        let sent = StreamMetricsMessage { identifier: None, envoy_metrics }.encode_to_vec();
        let read = message(&sent).map_err(|status| status.code())?;
        assert_eq!(read.bytes, sent.len());
        assert!(read.samples.iter().all(|sample| sample.statistic.of == Key::new("tenant-shop", "web")));
        Ok(read.samples.into_iter().map(|sample| (sample.statistic.what, sample.value)).collect())
    }

    #[test]
    fn counters_and_gauges_of_load_balancers_are_read_and_nothing_else() {
        let read = read(vec![
            counter("tcp.tenant-shop/web.downstream_cx_total", 2.0),
            counter("cluster_manager.cds.update_success", 7.0),
            gauge("udp.tenant-shop/web.downstream_sess_active", 3.0),
            family("tcp.tenant-shop/web.downstream_cx_total", Metric::default()),
        ]);
        assert_eq!(read, Ok(vec![(What::Sum(Sum::Connections), 2.0), (What::Level(Level::Sessions), 3.0)]));
    }

    #[test]
    fn c1_a_message_of_too_many_statistics_or_of_garbage_is_refused() {
        let one = counter("tcp.tenant-shop/web.downstream_cx_total", 1.0);
        assert_eq!(read(vec![one; SAMPLES + 1]), Err(Code::ResourceExhausted));
        assert_eq!(message(&[0x12, 0x7f]).unwrap_err().code(), Code::InvalidArgument);
        // A metric for every two bytes costs nothing: all but the first few are passed over.
        let name = "tcp.tenant-shop/web.downstream_cx_total";
        let many = MetricFamily { metric: vec![Metric::default(); 1 << 20], ..counter(name, 1.0) };
        assert_eq!(read(vec![many]), Ok(Vec::new()));
    }
}
