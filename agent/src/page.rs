//! `/metrics`, `/healthz`, `/readyz`. Knows how to say how the agent is; the agent itself tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use nave_agent_core::Tenancy;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The agent's loop turns at least every few seconds; when it has not for so long, it never will.
const STUCK: Duration = Duration::from_mins(1);

/// What has not been listed, and whether the hub knows us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// What has not been listed yet.
    pub missing: Vec<&'static str>,
    /// Whether the hub knows us.
    pub tenancy: Tenancy,
}

/// The agent's end: tells how it is.
#[derive(Debug)]
pub struct Health {
    condition: watch::Sender<Condition>,
    turned: Arc<AtomicU64>,
    start: Instant,
}

/// The page's end.
#[derive(Clone, Debug)]
pub struct Seen {
    condition: watch::Receiver<Condition>,
    /// What is wrong with the credential of the hub; empty when nothing is.
    trouble: watch::Receiver<String>,
    turned: Arc<AtomicU64>,
    start: Instant,
}

impl Health {
    /// Not ready, just begun.
    pub fn new(trouble: watch::Receiver<String>) -> (Self, Seen) {
        let first = Condition { missing: vec!["anything"], tenancy: Tenancy::There };
        let (condition, seen) = watch::channel(first);
        let (turned, start) = (Arc::<AtomicU64>::default(), Instant::now());
        (Self { condition, turned: turned.clone(), start }, Seen { condition: seen, trouble, turned, start })
    }

    /// The loop has turned.
    pub fn turned(&self) {
        self.turned.store(self.start.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// How it is now.
    pub fn tell(&self, now: Condition) {
        self.condition.send_if_modified(|condition| {
            let changed = *condition != now;
            *condition = now;
            changed
        });
    }
}

impl Seen {
    fn ready(&self) -> Result<(), String> {
        let Condition { missing, tenancy } = self.condition.borrow().clone();
        let trouble = self.trouble.borrow().clone();
        let mut reasons = Vec::new();
        if !missing.is_empty() {
            reasons.push(format!("not listed yet: {}", missing.join(", ")));
        }
        match tenancy {
            Tenancy::There => {}
            Tenancy::Refused => reasons.push("the hub refuses our account: the tenant is gone".to_owned()),
            Tenancy::Ended => reasons.push("our namespace in the hub has ended: the tenant is gone".to_owned()),
        }
        if !reasons.is_empty() && !trouble.is_empty() {
            reasons.push(trouble);
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }

    fn healthy(&self) -> Result<(), String> {
        let turned = Duration::from_secs(self.turned.load(Ordering::Relaxed));
        let still = self.start.elapsed().saturating_sub(turned);
        if still < STUCK { Ok(()) } else { Err(format!("the agent has not moved for {} s", still.as_secs())) }
    }
}

/// Serves the pages until told to stop.
pub async fn serve(listener: TcpListener, metrics: Metrics, seen: Seen, stop: CancellationToken) {
    let (ready, healthy) = (seen.clone(), seen);
    let router = Router::new()
        .route("/metrics", get(page).with_state(metrics))
        .route("/readyz", get(|| async move { answer(ready.ready()) }))
        .route("/healthz", get(|| async move { answer(healthy.healthy()) }));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "serving /metrics ended");
    }
}

async fn page(State(metrics): State<Metrics>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.page() {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn answer(outcome: Result<(), String>) -> (StatusCode, String) {
    match outcome {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
