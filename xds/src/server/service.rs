//! The aggregated discovery service as tonic serves it, with responses that splice encoded resources. Knows paths and
//! codecs; the streams themselves are driven next door.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Body, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::codec::Codec;
use super::dialect::Dialect;
use super::stream::drive;
use super::{Server, envoy_of};
use crate::protocol::{delta::Delta, sotw::Sotw};

/// Responses that wait for the connection to take them. One per type may be unanswered, so this is never full unless
/// the connection is stuck.
const OUTBOUND: usize = 8;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`.
#[derive(Clone)]
pub struct Ads {
    server: Server,
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<tonic::body::Body>, Infallible>> + Send>>;

impl Ads {
    pub(super) fn new(server: Server) -> Self {
        Self { server }
    }

    fn stream<D, B>(&self, request: http::Request<B>) -> Answer
    where
        D: Dialect,
        B: Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let server = self.server.clone();
        Box::pin(async move {
            let limit = server.shared.settings.request_limit;
            let mut grpc = Grpc::new(Codec::<D>::default()).apply_max_message_size_config(Some(limit), None);
            Ok(grpc.streaming(Method::<D> { server, dialect: std::marker::PhantomData }, request).await)
        })
    }
}

impl NamedService for Ads {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for Ads
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
        match request.uri().path().rsplit('/').next() {
            Some("DeltaAggregatedResources") => self.stream::<Delta, B>(request),
            Some("StreamAggregatedResources") => self.stream::<Sotw, B>(request),
            Some(_) | None => Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}

struct Method<D> {
    server: Server,
    dialect: std::marker::PhantomData<D>,
}

impl<D: Dialect> StreamingService<Option<D::Request>> for Method<D> {
    type Response = D::Wire;
    type ResponseStream = ReceiverStream<Result<D::Wire, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Option<D::Request>>>) -> Self::Future {
        let server = self.server.clone();
        Box::pin(async move {
            let (fleet, node, caller) = envoy_of(request.extensions())?;
            let session = server.session(&fleet, &node, caller);
            let (sender, receiver) = mpsc::channel(OUTBOUND);
            tokio::spawn(drive::<D>(session, request.into_inner(), sender));
            Ok(Response::new(ReceiverStream::new(receiver)))
        })
    }
}
