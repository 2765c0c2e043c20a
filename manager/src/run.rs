//! One manager from start to end. Knows which room needs which; each does its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nave_api::tenant::Quota;
use nave_manager_core::Settings;
use nave_proto::fleet::fleet_server::FleetServer;
use nave_watch::Unreadables;
use nave_xds::server::{Server, TlsSource};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::authority::{self, Authority, Serving};
use crate::conductor::{Conductor, Inbox, Input};
use crate::election::{self, Leadership, Timing};
use crate::events::Events;
use crate::metrics::{Metrics, Xds};
use crate::options::{Hub, Run, host_and_port};
use crate::peers::{self, Relay};
use crate::perform::Performer;
use crate::pools::Pools;
use crate::provider::Providers;
use crate::revocations::Revocations;
use crate::traffic::Traffic;
use crate::watch::{self as watches, Watches};
use crate::{client, http, logging, policies, tenants};

/// How long each part may take to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Between two looks at everything.
const COMPARE: Duration = Duration::from_mins(10);
/// Between two looks at the authority's Secret.
const AUTHORITY: Duration = Duration::from_secs(10);

/// Runs until a signal comes.
pub(crate) async fn run(options: Run) -> anyhow::Result<()> {
    logging::start(&options.log)?;
    let Run {
        hub: Hub { kubeconfig, namespace },
        xds_address,
        advertise,
        xds_names,
        http_address,
        hub_api_url,
        hub_networks,
        default_load_balancers,
        default_endpoints,
        insecure_allow_loopback_backends: allow_loopback_backends,
        lease_duration,
        unnamed_copies_last,
        log: _,
    } = options;
    if allow_loopback_backends {
        tracing::warn!("backends on loopback addresses are let in: tenants reach what listens on the edge nodes");
    }
    let name = instance();
    let shutdown = on_signal()?;
    let config = client::config(kubeconfig.as_deref()).await?;
    let url = hub_api_url.unwrap_or_else(|| config.cluster_url.to_string());
    let default_quota =
        Quota { load_balancers: Some(default_load_balancers), endpoints: Some(default_endpoints), ..Quota::default() };
    let hub = tenants::HubApi { url, authority: client::authority_pem(&config)? };
    let tenant_settings = tenants::Settings {
        default_quota: default_quota.clone(),
        ..tenants::Settings::new(hub, namespace.clone(), unnamed_copies_last)
    };
    let client = client::connect(config)?;
    // From here on callers wait instead of being refused.
    let listener = TcpListener::bind(xds_address).await.with_context(|| format!("listen on {xds_address}"))?;
    let (host, _) = host_and_port(&advertise)?;
    let hosts = std::iter::once(host).chain(xds_names).collect();
    let authority = Authority::of_hub(client.clone(), &namespace).await?;
    let kept = authority::Kept::new(client.clone(), &namespace);
    let serving = authority::serve(kept, authority, name.clone(), hosts, AUTHORITY, shutdown.clone())?;

    let metrics = Metrics::new();
    let pools = Pools::default();
    metrics.add(pools.clone());
    let unreadables = Unreadables::default();
    metrics.add(unreadables.clone());
    let (inbox, inputs) = Inbox::new();
    let (relay, reports) = Relay::new(inbox.clone());
    let server = Server::new(relay.clone(), nave_xds::server::Settings::default());
    metrics.add(Xds(server.clone()));
    let traffic = Traffic::new(server.clone());
    metrics.add(traffic.clone());
    let (synced, is_synced) = watch::channel(false);
    let events = Events::new(client.clone(), name.clone());
    let providers = Arc::new(Providers::new(&client, &namespace));
    let performer =
        Performer::new(client.clone(), Arc::clone(&providers), inbox.clone(), events.clone(), metrics.clone());
    let settings = Settings { hub_networks, allow_loopback_backends, default_quota };
    let conductor = Conductor::new(settings, server.clone(), performer, metrics.clone(), synced);
    tokio::spawn(conductor.run(inputs));
    let hub = Watches::new(client.clone(), unreadables);
    watches::start(&hub, &providers, &inbox, &traffic, &pools, Revocations::new(server.clone()));

    let (leadership, who_leads) = watch::channel(Leadership::default());
    let timing = Timing::of(lease_duration);
    let electing = tokio::spawn(elect(
        client.clone(),
        namespace,
        name,
        advertise,
        timing,
        leadership,
        is_synced.clone(),
        shutdown.clone(),
    ));
    let leads = tell_who_leads(who_leads.clone(), inbox.clone(), metrics.clone());
    tokio::spawn(peers::relay(reports, who_leads, serving.issued.clone(), shutdown.clone()));
    tokio::spawn(tenants::run(hub, leads, tenant_settings, events, shutdown.clone()));
    let web = tokio::spawn(http::serve(http_address, metrics.clone(), inbox.clone(), is_synced, shutdown.clone()));
    tokio::spawn(compare(inbox.clone()));
    tokio::spawn(policies::watch_over(client, metrics.missing_policies(), policies::PACE));
    tracing::info!(address = %xds_address, "serving Envoys");
    let routes = Routes::new(server.service())
        .add_service(FleetServer::new(peers::Leader::new(inbox)))
        .add_service(traffic.service(relay));
    serve_xds(&server, listener, serving, routes, shutdown.clone()).await?;
    shutdown.cancel();
    let _ = tokio::time::timeout(FAREWELL, electing).await;
    match tokio::time::timeout(FAREWELL, web).await {
        Ok(ended) => ended.context("serve /metrics, /healthz and /readyz")?,
        Err(_) => Ok(()), // somebody keeps a connection open: let them
    }
}

/// From time to time compares everything with what was seen: where the world is as it should be, nothing follows.
async fn compare(inbox: Inbox) {
    let mut due = tokio::time::interval(COMPARE);
    due.tick().await; // the first is now
    loop {
        due.tick().await;
        inbox.send(Input::Compare);
    }
}

/// Envoys and other managers, until shut down.
async fn serve_xds(
    server: &Server,
    listener: TcpListener,
    serving: Serving,
    routes: Routes,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let tls = TlsSource::Mutual(serving.config);
    server.serve(listener, tls, routes, shutdown.cancelled_owned()).await.context("serve Envoys")
}

/// Stands for election once everything has been seen: who has not cannot lead.
#[allow(clippy::too_many_arguments, reason = "they go on to `election::run` as they are")]
async fn elect(
    client: kube::Client,
    namespace: String,
    name: String,
    advertise: String,
    timing: Timing,
    leadership: watch::Sender<Leadership>,
    mut synced: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let seen = shutdown.run_until_cancelled(async { synced.wait_for(|synced| *synced).await.is_ok() }).await;
    if seen == Some(true) {
        election::run(client, namespace, name, advertise, timing, leadership, shutdown).await;
    }
}

/// Whether we lead, for those to whom nothing else of it matters.
fn tell_who_leads(
    mut leadership: watch::Receiver<Leadership>,
    inbox: Inbox,
    metrics: Metrics,
) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        while leadership.changed().await.is_ok() {
            let ours = leadership.borrow_and_update().ours;
            if sender.send_replace(ours) != ours {
                metrics.lead(ours);
                inbox.send(Input::Lead(ours));
            }
        }
    });
    receiver
}

/// Cancelled by SIGTERM or Ctrl-C. A second signal ends the process at once.
fn on_signal() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(1);
            }
            tracing::info!("stopping");
            token.cancel();
        }
    });
    Ok(shutdown)
}

/// A name of this process among all managers there ever were.
fn instance() -> String {
    let host =
        std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "manager".to_owned());
    let word: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).collect();
    let life = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{word}-{:x}-{:x}", std::process::id(), life.as_millis())
}
