//! Envoy's metrics service as tonic serves it, with messages that are read field by field. Knows paths and codecs, and who may
//! send; what statistics are worth is decided next door.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsResponse;
use futures::{Stream, StreamExt};
use nave_xds::identity::Peer;
use nave_xds::server::{Caller, Pace};
use prost::bytes::Buf;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::codegen::{Body, Service, StdError};
use tonic::server::{ClientStreamingService, Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstEncoder;

use super::Traffic;
use super::read::{Message, Sample, message};
use crate::peers::Relay;

/// Envoy sends what it measures in several messages, one right after the other. After so long they are complete.
const COMPLETE: Duration = Duration::from_millis(100);
/// Bytes of one message. Envoy sends a thousand statistics in one, about 200 KB.
const MESSAGE: usize = 4 * 1024 * 1024;
/// Bytes that one stream may send in a second: ten thousand load balancers are 4 MB.
const A_SECOND: u64 = 16 * 1024 * 1024;
/// Bytes that it may send at once.
const AT_ONCE: u64 = 64 * 1024 * 1024;

/// `envoy.service.metrics.v3.MetricsService`.
#[derive(Clone)]
pub(crate) struct Metrics {
    traffic: Traffic,
    relay: Relay,
}

impl Metrics {
    pub(super) fn new(traffic: Traffic, relay: Relay) -> Self {
        Self { traffic, relay }
    }
}

impl NamedService for Metrics {
    const NAME: &'static str = "envoy.service.metrics.v3.MetricsService";
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<tonic::body::Body>, Infallible>> + Send>>;

impl<B> Service<http::Request<B>> for Metrics
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Answer {
        if !request.uri().path().ends_with("/StreamMetrics") {
            return Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) });
        }
        let method = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Messages).apply_max_message_size_config(Some(MESSAGE), None);
            Ok(grpc.client_streaming(method, request).await)
        })
    }
}

impl ClientStreamingService<Message> for Metrics {
    type Response = StreamMetricsResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<StreamMetricsResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Message>>) -> Self::Future {
        let Self { traffic, relay } = self.clone();
        Box::pin(async move {
            let caller = request.extensions().get::<Caller>().cloned();
            let Some(Peer::Envoy { fleet, node }) = caller.as_ref().map(Caller::peer) else {
                return Err(Status::permission_denied("metrics come from Envoys"));
            };
            let mut heard = traffic.hear(fleet);
            let take = |samples| {
                match samples {
                    Some(samples) => heard.take(samples),
                    None => relay.measured(heard.open(node)),
                }
                heard.is_fresh()
            };
            paced(request.into_inner(), take).await?;
            Ok(Response::new(StreamMetricsResponse {}))
        })
    }
}

/// Takes what the messages hold until there are no more, not faster than an Envoy may send. `take` answers whether more belongs to it:
/// then it gets nothing (`None`) when no message has come for a moment.
async fn paced(
    mut messages: impl Stream<Item = Result<Message, Status>> + Unpin,
    mut take: impl FnMut(Option<Vec<Sample>>) -> bool,
) -> Result<(), Status> {
    let (mut pace, begun, mut is_fresh) = (Pace::default(), Instant::now(), false);
    loop {
        let next =
            if is_fresh { tokio::time::timeout(COMPLETE, messages.next()).await } else { Ok(messages.next().await) };
        let Ok(next) = next else {
            is_fresh = take(None);
            continue;
        };
        let Some(message) = next else { return Ok(()) };
        let Message { samples, bytes } = message?;
        is_fresh = take(Some(samples));
        pace.spend(bytes as u64, A_SECOND, begun.elapsed());
        let wait = pace.wait(AT_ONCE, A_SECOND, begun.elapsed());
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Reads messages.
#[derive(Clone, Copy, Debug)]
struct Messages;

impl Codec for Messages {
    type Encode = StreamMetricsResponse;
    type Decode = Message;
    type Encoder = ProstEncoder<StreamMetricsResponse>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Decoder for Messages {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        let length = bytes.remaining();
        message(&bytes.copy_to_bytes(length)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many messages of so many bytes are taken within half a second from an Envoy that always has one more.
    async fn taken(bytes: usize) -> u64 {
        let mut taken = 0;
        let messages = futures::stream::repeat_with(|| Ok(Message { samples: Vec::new(), bytes }));
        let outcome = tokio::time::timeout(
            Duration::from_millis(500),
            paced(messages, |_| {
                taken += 1;
                false
            }),
        )
        .await;
        assert!(outcome.is_err(), "it goes on");
        taken
    }

    #[tokio::test]
    async fn d_an_envoy_that_sends_statistics_without_a_pause_is_read_at_its_pace() {
        for bytes in [MESSAGE, 200 * 1024] {
            let (taken, bytes) = (taken(bytes).await, bytes as u64);
            let (at_once, more) = (AT_ONCE / bytes, A_SECOND / bytes);
            assert!((at_once..=at_once + more + 2).contains(&taken), "{taken} messages of {bytes} bytes");
        }
    }
}
