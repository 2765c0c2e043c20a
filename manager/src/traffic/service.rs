//! Envoy's metrics service as tonic serves it, with messages that are read field by field. Knows paths and codecs, and who may
//! send; what statistics are worth is decided next door.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsResponse;
use nave_xds::identity::Peer;
use nave_xds::server::{Caller, Pace};
use prost::bytes::Buf;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::codegen::{Body, Service, StdError};
use tonic::server::{ClientStreamingService, Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstEncoder;

use super::Traffic;
use super::read::{Message, message};
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
            let (mut heard, mut pace, begun) = (traffic.hear(fleet), Pace::default(), Instant::now());
            let mut messages = request.into_inner();
            loop {
                let next = if heard.is_fresh() {
                    tokio::time::timeout(COMPLETE, messages.message()).await
                } else {
                    Ok(messages.message().await)
                };
                let Ok(next) = next else {
                    relay.measured(heard.open(node));
                    continue;
                };
                let Some(Message { samples, bytes }) = next? else { break };
                heard.take(samples);
                pace.spend(bytes as u64, A_SECOND, begun.elapsed());
                let wait = pace.wait(AT_ONCE, A_SECOND, begun.elapsed());
                if wait > Duration::ZERO {
                    tokio::time::sleep(wait).await;
                }
            }
            Ok(Response::new(StreamMetricsResponse {}))
        })
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
