//! /metrics, /healthz and /readyz. Knows what they mean: alive is answering at all; ready is having seen everything once.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Serves until shut down.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    synced: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let stopping = shutdown.clone();
    let ready = move || async move {
        if stopping.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
        } else if *synced.borrow() {
            (StatusCode::OK, "ready\n")
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "not everything in the hub has been seen yet: is its API reachable, are the CRDs there?\n",
            )
        }
    };
    let page = move || async move {
        match metrics.page() {
            Ok(page) => {
                let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, form)], page).into_response()
            }
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    let router = Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready));
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .context("serve /metrics, /healthz and /readyz")
}
