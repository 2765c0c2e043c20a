//! /metrics, /healthz and /readyz. Knows what they mean: alive is that decisions are made; ready is having seen everything
//! once, and not being about to stop.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::conductor::{Inbox, Input};
use crate::metrics::Metrics;

/// Decisions take milliseconds. Who has not come to ours after this will not.
const ALIVE: Duration = Duration::from_secs(20);

/// Serves until shut down.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    inbox: Inbox,
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
        .route("/healthz", get(move || alive(inbox)))
        .route("/readyz", get(ready));
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .context("serve /metrics, /healthz and /readyz")
}

/// Whether the conductor still gets to its inputs.
async fn alive(inbox: Inbox) -> (StatusCode, &'static str) {
    let (question, answer) = oneshot::channel();
    inbox.send(Input::Asked(question));
    match tokio::time::timeout(ALIVE, answer).await {
        Ok(Ok(())) => (StatusCode::OK, "alive\n"),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no decisions are made any more\n"),
    }
}
