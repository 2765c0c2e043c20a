//! One lab for all tests of the path, and small things that they say often. Knows no expectation.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::DeleteParams;
use nave_e2e::lab::Spoke;
pub use nave_e2e::wait::PATIENCE;
use nave_e2e::{Lab, wait};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

// Clients live on the runtime that made them: all tests use one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static LAB: OnceCell<Lab> = OnceCell::const_new();

/// Runs a test in the shared lab, which ends with the process. A failure shows the ends of the lab's logs.
pub fn in_lab(test: impl AsyncFnOnce(&Lab)) {
    RUNTIME.block_on(async {
        let lab = LAB.get_or_init(|| async { Lab::light().spokes(2).start().await.expect("a lab") }).await;
        if let Err(panic) = AssertUnwindSafe(test(lab)).catch_unwind().await {
            eprintln!("{}", lab.supervisor().tails());
            std::panic::resume_unwind(panic);
        }
    });
}

/// Looks until it is so; the panic says what was seen last.
pub async fn eventually(what: &str, patience: Duration, look: impl AsyncFn() -> Result<(), String>) {
    wait::until(what, patience, || look()).await.unwrap_or_else(|error| panic!("{error:?}"));
}

/// Services of a lab's spokes, by number.
pub trait Services {
    /// The Service `default/<name>`.
    async fn service(&self, spoke: usize, name: &str) -> Service;
}

impl Services for Lab {
    async fn service(&self, spoke: usize, name: &str) -> Service {
        let services: Api<Service> = Api::namespaced(self.spokes[spoke].client(), "default");
        services.get(name).await.expect("the Service is there")
    }
}

/// The first three parts of the pool's network.
pub fn octets(lab: &Lab) -> [u8; 4] {
    match lab.plan().pool().network() {
        IpAddr::V4(network) => network.octets(),
        IpAddr::V6(_) => panic!("the lab's pool is IPv4"),
    }
}

/// A Service without backends, of a pool.
pub struct Plain<'lab> {
    spoke: &'lab Spoke,
    name: &'lab str,
}

/// Makes one.
pub async fn from_pool<'lab>(spoke: &'lab Spoke, name: &'lab str, pool: &str) -> Plain<'lab> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "annotations": {"nave.dev/pool": pool}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 8080}]},
    });
    spoke.apply(&service).await.expect("a Service");
    Plain { spoke, name }
}

impl Plain<'_> {
    /// Deletes it and does not wait.
    pub async fn delete(self) {
        let services: Api<Service> = Api::namespaced(self.spoke.client(), "default");
        services.delete(self.name, &DeleteParams::default()).await.expect("the Service can be deleted");
    }
}

/// The address that a Service shows, once it does.
pub async fn shown(spoke: &Spoke, name: &str) -> IpAddr {
    spoke.addresses("default", name).await.expect("an address")[0]
}
