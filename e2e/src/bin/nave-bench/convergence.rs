//! How long a Service takes from its creation to its first byte and to its status, beside the floor of the same run, with
//! more and more Services present; and a burst of many at once. Knows the lab; judges nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use nave_api::{IPAllocation, names};
use nave_e2e::backend::Backend;
use nave_e2e::lab::Builder;
use nave_e2e::{Lab, Protocol};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::floor::{Floor, Pass};
use crate::measure::{self, Percentiles, Usage, millis};
use crate::probe;
use crate::seen::Seen;

/// Writers at once when many Services are made.
const AT_ONCE: usize = 16;
/// The port that every Service opens, above what needs a privilege.
const PORT: u16 = 8000;
/// The first node port of the Services that are present. All are named: one that the API draws could be one of ours.
const NODE_PORTS: u32 = 31_000;
/// The first node port of the Services that are measured.
const SAMPLE_PORTS: u32 = 44_000;

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many Services are present, ascending.
    pub(crate) present: Vec<u32>,
    /// Passes over each.
    pub(crate) samples: u32,
    /// How many Services at once.
    pub(crate) burst: u32,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) burst: Burst,
}

/// One number of Services present.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) present: u32,
    pub(crate) samples: u32,
    pub(crate) first_byte_ms: Percentiles,
    pub(crate) status_ms: Percentiles,
    pub(crate) floor_first_byte_ms: Percentiles,
    pub(crate) floor_status_ms: Percentiles,
    pub(crate) xds_bytes_per_change: f64,
    pub(crate) manager_cpu_ms_per_change: f64,
    pub(crate) manager_rss_mb: f64,
}

/// Many Services at once, until all serve and show their status.
#[derive(Debug, Serialize)]
pub(crate) struct Burst {
    pub(crate) services: u32,
    pub(crate) seconds: f64,
    /// The same API writes by as many writers, and nothing else.
    pub(crate) floor_seconds: f64,
}

/// Measures everything. `say` hears what is being done.
pub(crate) async fn run(plan: &Plan, say: impl Fn(&str)) -> anyhow::Result<Report> {
    say("starting a light lab");
    let bench = Arc::new(Bench::start(Lab::light()).await?);
    let mut rows = Vec::new();
    let mut burst = None;
    let mut present = 0;
    for target in plan.present.iter().copied() {
        if target >= plan.burst && burst.is_none() {
            bench.remove_filling(present).await?;
            say(&format!("a burst of {}", plan.burst));
            burst = Some(bench.burst(plan.burst).await?);
            present = plan.burst;
        }
        bench.fill(present, target).await?;
        present = target.max(present);
        say(&format!("{present} present: {} passes", plan.samples));
        rows.push(bench.row(present, |passes| passes < plan.samples).await?);
    }
    let burst = if let Some(burst) = burst {
        burst
    } else {
        bench.remove_filling(present).await?;
        bench.burst(plan.burst).await?
    };
    Ok(Report { rows, burst })
}

/// A lab, the floor beside it, and what both show.
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    services: Api<Service>,
    services_seen: Seen<Service>,
    allocations_seen: Seen<IPAllocation>,
    floor: Arc<Floor>,
    /// Addresses that no pool has, for the floor.
    free: [u8; 4],
    _floor_backend: Backend,
}

impl Bench {
    pub(crate) async fn start(lab: Builder) -> anyhow::Result<Self> {
        let lab = lab.nodes(1).manager_flag("--default-load-balancers=20000").start().await?;
        let IpAddr::V4(pool) = lab.plan().pool().network() else { unreachable_plan()? };
        let [a, b, c, _] = pool.octets();
        lab.hub
            .apply(&json!({
                "apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": "bench"},
                "spec": {
                    "source": {"static": {}}, "use": {"default": true, "priority": 100}, "announce": {"external": {}},
                    "addresses": {"include": [format!("{a}.{b}.{}.0-{a}.{b}.{}.255", c + 1, c + 40)]},
                },
            }))
            .await?;
        let spoke = &lab.spokes[0];
        let backend = Backend::start(Protocol::Tcp, SocketAddr::new(spoke.nodes[0].address(), 0), "floor").await?;
        let floor = Floor::start(lab.supervisor(), lab.hub.client(), spoke.client(), backend.address()).await?;
        let services: Api<Service> = Api::namespaced(spoke.client(), "default");
        Ok(Self {
            services_seen: Seen::watch(services.clone()).await?,
            allocations_seen: Seen::watch_by(Api::all(lab.hub.client()), first_owner).await?,
            services,
            floor: Arc::new(floor),
            free: [a, b, c + 41, 0],
            _floor_backend: backend,
            lab,
        })
    }

    /// Passes of ours and of the floor in turns, while `more` says so of their number.
    pub(crate) async fn row(&self, present: u32, more: impl Fn(u32) -> bool) -> anyhow::Result<Row> {
        let mut ours = Samples::default();
        let mut floor = Samples::default();
        let (mut bytes, mut cpu) = (0.0, 0.0);
        let mut samples = 0;
        while more(samples) {
            let number = samples;
            samples += 1;
            floor.push(self.floor.pass(number, self.floor_address(number)).await?);
            // Reading the metrics costs the manager something, too: not while its time is taken.
            let sent = self.sent().await?;
            let before = self.usage()?.cpu_ms;
            ours.push(self.pass(number).await?);
            cpu += self.usage()?.cpu_ms - before;
            bytes += self.sent().await? - sent;
            let before = self.usage()?.cpu_ms;
            self.remove(&format!("sample-{number}")).await?;
            cpu += self.usage()?.cpu_ms - before;
        }
        ensure!(bytes > 0.0, "the manager counts no bytes of xDS");
        let count = f64::from(samples);
        Ok(Row {
            present,
            samples,
            first_byte_ms: Percentiles::of(ours.first_byte),
            status_ms: Percentiles::of(ours.status),
            floor_first_byte_ms: Percentiles::of(floor.first_byte),
            floor_status_ms: Percentiles::of(floor.status),
            xds_bytes_per_change: (bytes / count).round(),
            // A pass is two changes: one comes, one goes.
            manager_cpu_ms_per_change: (cpu / count / 2.0 * 100.0).round() / 100.0,
            manager_rss_mb: self.usage()?.rss_mb,
        })
    }

    /// One Service of ours, from creation to first byte and status. The address is learnt from its IPAllocation.
    async fn pass(&self, number: u32) -> anyhow::Result<Pass> {
        let name = format!("sample-{number}");
        let node_port = port(SAMPLE_PORTS + number % 1000)?;
        let backend = self.backend(node_port).await?;
        let began = Instant::now();
        self.create(&name, node_port).await?;
        let (first_byte, status) = tokio::try_join!(
            async {
                probe::first_byte(SocketAddr::new(self.allocated(&name).await?, PORT)).await?;
                anyhow::Ok(began.elapsed())
            },
            async {
                self.shown(&name).await?;
                anyhow::Ok(began.elapsed())
            }
        )?;
        drop(backend);
        Ok(Pass { first_byte, status })
    }

    /// Many at once: made as fast as the API takes them, until each serves and shows its status.
    async fn burst(self: &Arc<Self>, count: u32) -> anyhow::Result<Burst> {
        let floor = self.floor.burst(count, AT_ONCE).await?;
        let mut backends = Vec::new();
        for number in 0..count {
            backends.push(self.backend(port(NODE_PORTS + number)?).await?);
        }
        let began = Instant::now();
        self.make(0, count).await?;
        let mut served = JoinSet::new();
        for number in 0..count {
            let bench = self.clone();
            served.spawn(async move {
                let name = filling(number);
                probe::first_byte(SocketAddr::new(bench.allocated(&name).await?, PORT)).await?;
                bench.shown(&name).await
            });
        }
        while let Some(one) = served.join_next().await {
            one.context("a client ended early")??;
        }
        Ok(Burst { services: count, seconds: seconds(began.elapsed()), floor_seconds: seconds(floor) })
    }

    /// Makes Services until `to` are present, and waits until each shows its status.
    async fn fill(self: &Arc<Self>, from: u32, to: u32) -> anyhow::Result<()> {
        self.make(from, to).await?;
        for number in from..to {
            self.shown(&filling(number)).await?;
        }
        Ok(())
    }

    async fn make(self: &Arc<Self>, from: u32, to: u32) -> anyhow::Result<()> {
        let mut writers = JoinSet::new();
        for number in from..to {
            if writers.len() >= AT_ONCE {
                writers.join_next().await.context("a writer is under way")???;
            }
            let bench = self.clone();
            let port = port(NODE_PORTS + number)?;
            writers.spawn(async move { bench.create(&filling(number), port).await });
        }
        while let Some(writer) = writers.join_next().await {
            writer??;
        }
        Ok(())
    }

    async fn remove_filling(&self, count: u32) -> anyhow::Result<()> {
        for number in 0..count {
            self.services.delete(&filling(number), &DeleteParams::default()).await.context("delete a Service")?;
        }
        for number in 0..count {
            self.services_seen.wait_gone(&filling(number)).await?;
        }
        Ok(())
    }

    async fn create(&self, name: &str, node_port: u16) -> anyhow::Result<()> {
        let port = json!({"name": "tcp", "port": PORT, "protocol": "TCP", "nodePort": node_port});
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "selector": {"app": "bench"}, "ports": [port]},
        });
        let service = serde_json::from_value(service).context("write a Service")?;
        self.services.create(&PostParams::default(), &service).await.context("create a Service")?;
        Ok(())
    }

    async fn remove(&self, name: &str) -> anyhow::Result<()> {
        let intent = names::intent_name("Service", "default", name);
        self.services.delete(name, &DeleteParams::default()).await.context("delete a Service")?;
        self.services_seen.wait_gone(name).await?;
        self.allocations_seen.wait_gone(&intent).await
    }

    async fn allocated(&self, name: &str) -> anyhow::Result<IpAddr> {
        let intent = names::intent_name("Service", "default", name);
        self.allocations_seen.wait_for(&intent, |allocation| allocation.spec.address.as_ref()?.parse().ok()).await
    }

    async fn shown(&self, name: &str) -> anyhow::Result<()> {
        self.services_seen.wait(name, |service| probe::ingress(service).is_some()).await
    }

    async fn backend(&self, port: u16) -> anyhow::Result<Backend> {
        let address = SocketAddr::new(self.lab.spokes[0].nodes[0].address(), port);
        Ok(Backend::start(Protocol::Tcp, address, "bench").await?)
    }

    /// What the manager has used since it began.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        measure::usage(self.manager()?)
    }

    /// The manager's process.
    pub(crate) fn manager(&self) -> anyhow::Result<u32> {
        self.lab.hub.managers[0].process().pid().context("the manager runs")
    }

    async fn sent(&self) -> anyhow::Result<f64> {
        let page = self.lab.hub.managers[0].get("/metrics").await?;
        Ok(measure::metric(&page, "nave_xds_sent_bytes_total"))
    }

    fn floor_address(&self, number: u32) -> IpAddr {
        let [a, b, c, _] = self.free;
        Ipv4Addr::from(u32::from(Ipv4Addr::new(a, b, c, 0)) + number % 1024).into()
    }
}

#[derive(Default)]
struct Samples {
    first_byte: Vec<Duration>,
    status: Vec<Duration>,
}

impl Samples {
    fn push(&mut self, pass: Pass) {
        let Pass { first_byte, status } = pass;
        self.first_byte.push(first_byte);
        self.status.push(status);
    }
}

fn first_owner(allocation: &IPAllocation) -> Option<String> {
    allocation.spec.owners.first().map(|owner| owner.name.clone())
}

fn filling(number: u32) -> String {
    format!("present-{number}")
}

fn port(number: u32) -> anyhow::Result<u16> {
    u16::try_from(number).context("the bench has no more node ports")
}

fn seconds(length: Duration) -> f64 {
    (millis(length) / 10.0).round() / 100.0
}

fn unreachable_plan<T>() -> anyhow::Result<T> {
    anyhow::bail!("the lab's pool is IPv4")
}
