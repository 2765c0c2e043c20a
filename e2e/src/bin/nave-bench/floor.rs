//! The floor: the least that any hub of this shape must do for a Service, done by a bare client. Knows the API servers and
//! an Envoy of its own; knows nothing of what Nave does in between.
//!
//! Create a Service → seen by a watch → one resource applied in the hub → seen by a watch → one resource created there →
//! a cluster and a listener sent by a server that replays bytes → connected. For the status: a patch in the hub → seen by
//! a watch → a patch of the Service → seen by a watch.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use nave_api::{HTTPLoadBalancer, NodeSet, NodeSetSpec};
use nave_e2e::process::{Process, Spec};
use nave_e2e::{Supervisor, tools};
use serde_json::json;

use crate::probe;
use crate::replay::Replay;
use crate::seen::Seen;

const NAMESPACE: &str = "floor";

/// A bare client with an Envoy of its own.
pub(crate) struct Floor {
    replay: Replay,
    services: Api<Service>,
    services_seen: Seen<Service>,
    requests: Api<HTTPLoadBalancer>,
    requests_seen: Seen<HTTPLoadBalancer>,
    records: Api<NodeSet>,
    backend: SocketAddr,
    _envoy: Process,
}

/// One pass over the floor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    /// From the creation of the Service to its first byte.
    pub(crate) first_byte: Duration,
    /// From the creation of the Service to its status, seen by a watch.
    pub(crate) status: Duration,
}

impl Floor {
    /// Prepares namespaces and watches in both clusters, and starts an Envoy.
    pub(crate) async fn start(
        supervisor: &Arc<Supervisor>,
        hub: Client,
        spoke: Client,
        backend: SocketAddr,
    ) -> anyhow::Result<Self> {
        for client in [&hub, &spoke] {
            let namespace = Namespace {
                metadata: ObjectMeta { name: Some(NAMESPACE.into()), ..ObjectMeta::default() },
                ..Namespace::default()
            };
            Api::all(client.clone()).create(&PostParams::default(), &namespace).await.context("make a namespace")?;
        }
        let replay = Replay::start().await?;
        let envoy = start_envoy(supervisor, replay.address)?;
        let services: Api<Service> = Api::namespaced(spoke, NAMESPACE);
        let requests: Api<HTTPLoadBalancer> = Api::namespaced(hub.clone(), NAMESPACE);
        Ok(Self {
            replay,
            services_seen: Seen::watch(services.clone()).await?,
            services,
            requests_seen: Seen::watch(requests.clone()).await?,
            requests,
            records: Api::namespaced(hub, NAMESPACE),
            backend,
            _envoy: envoy,
        })
    }

    /// One Service, from creation to first byte and status; removed again.
    pub(crate) async fn pass(&self, number: u32, address: IpAddr) -> anyhow::Result<Pass> {
        let name = format!("floor-{number}");
        let at = SocketAddr::new(address, 8000);
        let began = Instant::now();
        self.services.create(&PostParams::default(), &service(&name)?).await.context("create a Service")?;
        self.services_seen.wait(&name, |_| true).await?;
        self.requests.patch(&name, &PatchParams::apply("floor").force(), &Patch::Apply(request(&name))).await?;
        self.requests_seen.wait(&name, |_| true).await?;
        self.records.create(&PostParams::default(), &record(&name)).await?;
        self.replay.add(&name, at, self.backend);
        probe::first_byte(at).await?;
        let first_byte = began.elapsed();
        self.show(&name, address).await?;
        let status = began.elapsed();
        self.remove(&name, at).await?;
        Ok(Pass { first_byte, status })
    }

    /// The two patches of the status.
    async fn show(&self, name: &str, address: IpAddr) -> anyhow::Result<()> {
        let params = PatchParams::default();
        let hub = json!({"status": {"hostname": "shown.example"}});
        self.requests.patch_status(name, &params, &Patch::Merge(hub)).await?;
        self.requests_seen.wait(name, |request| request.status.is_some()).await?;
        let spoke = json!({"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "Proxy"}]}}});
        self.services.patch_status(name, &params, &Patch::Merge(spoke)).await?;
        self.services_seen.wait(name, |service| probe::ingress(service).is_some()).await
    }

    async fn remove(&self, name: &str, at: SocketAddr) -> anyhow::Result<()> {
        self.replay.remove(name);
        let params = DeleteParams::default();
        self.services.delete(name, &params).await?;
        self.requests.delete(name, &params).await?;
        self.records.delete(name, &params).await?;
        probe::refused(at).await
    }

    /// The API writes of `count` Services and nothing else, `at_once` at a time: what bounds a burst.
    pub(crate) async fn burst(self: &Arc<Self>, count: u32, at_once: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut passes = tokio::task::JoinSet::new();
        for number in 0..count {
            if passes.len() >= at_once {
                joined(passes.join_next().await)?;
            }
            let floor = self.clone();
            passes.spawn(async move { floor.writes(&format!("burst-{number}")).await });
        }
        while let Some(pass) = passes.join_next().await {
            joined(Some(pass))?;
        }
        Ok(began.elapsed())
    }

    /// The five writes of one Service, without waiting for any watch.
    async fn writes(&self, name: &str) -> anyhow::Result<()> {
        self.services.create(&PostParams::default(), &service(name)?).await?;
        self.requests.patch(name, &PatchParams::apply("floor").force(), &Patch::Apply(request(name))).await?;
        self.records.create(&PostParams::default(), &record(name)).await?;
        let hub = json!({"status": {"hostname": "shown.example"}});
        self.requests.patch_status(name, &PatchParams::default(), &Patch::Merge(hub)).await?;
        let spoke = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "Proxy"}]}}});
        self.services.patch_status(name, &PatchParams::default(), &Patch::Merge(spoke)).await?;
        Ok(())
    }
}

fn joined(pass: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Result<()> {
    match pass {
        Some(pass) => pass.context("a pass ended early")?,
        None => bail!("no pass was under way"),
    }
}

fn service(name: &str) -> anyhow::Result<Service> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "floor.example/bare", "selector": {"app": "floor"},
            "allocateLoadBalancerNodePorts": false,
            "ports": [{"name": "tcp", "port": 8000, "protocol": "TCP"}],
        },
    });
    serde_json::from_value(service).context("write a Service")
}

/// As large as an intent, and of a kind that no manager serves.
fn request(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "HTTPLoadBalancer", "metadata": {"name": name},
        "spec": {
            "origin": {"kind": "Service", "namespace": NAMESPACE, "name": name, "uid": "00000000-0000-0000-0000-000000000000"},
            "rules": [{"backends": [{"name": "web"}]}],
            "backends": [{"name": "web", "port": 30000, "nodes": {"nodeSet": "default"}}],
        },
    })
}

fn record(name: &str) -> NodeSet {
    NodeSet::new(name, NodeSetSpec { nodes: vec![] })
}

fn start_envoy(supervisor: &Arc<Supervisor>, xds: SocketAddr) -> anyhow::Result<Process> {
    let dir = supervisor.dir().join("floor");
    fs::create_dir_all(&dir).context("make the floor's directory")?;
    let config = dir.join("bootstrap.json");
    fs::write(&config, bootstrap(xds, &dir).to_string()).context("write the floor's bootstrap")?;
    let arguments = ["--config-path", &config.display().to_string(), "--concurrency", "2", "--disable-hot-restart"]
        .into_iter()
        .chain(["--log-level", "warning"])
        .map(str::to_owned)
        .collect::<Vec<_>>();
    Ok(Process::start(supervisor, Spec::new("floor-envoy", tools::envoy()?, arguments))?)
}

fn bootstrap(xds: SocketAddr, dir: &Path) -> serde_json::Value {
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let endpoint = json!({"endpoint": {"address": {"socket_address":
        {"address": xds.ip().to_string(), "port_value": xds.port()}}}});
    json!({
        "node": {"id": "floor", "cluster": "floor"},
        "admin": {"address": {"pipe": {"path": dir.join("admin.sock")}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
            "cds_config": ads, "lds_config": ads,
        },
        "static_resources": {"clusters": [{
            "name": "xds", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }]},
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": "server."}]}}},
    })
}
