//! What many tenants cost a manager: from their creation until all are ready, a start beside them, and its memory. Knows the lab.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::PostParams;
use nave_api::{ConditionType, Tenant, condition};
use nave_e2e::Lab;
use serde::Serialize;
use serde_json::json;

use crate::measure;
use crate::seen::Seen;

/// Writers at once.
const AT_ONCE: usize = 16;

/// What was measured.
#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "the field is named as readers of the JSON know it")]
pub(crate) struct Tenants {
    pub(crate) tenants: usize,
    /// From the first creation until each has its namespace, its account, its rights and its credential.
    pub(crate) ready_seconds: f64,
    /// From the start of a manager's process until it is ready, with all of them present.
    pub(crate) start_seconds: f64,
    /// The manager's memory after that start.
    pub(crate) rss_mb: f64,
}

/// Measures in a lab of its own.
pub(crate) async fn measure(tenants: usize) -> Result<Tenants> {
    let lab = Arc::new(Lab::light().spokes(0).edges(0).start().await?);
    let api: Api<Tenant> = Api::all(lab.hub.client());
    let seen = Seen::watch(api.clone()).await?;
    let begun = Instant::now();
    let all = futures::stream::iter(0..tenants).map(|number| create(&api, number));
    all.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    for number in 0..tenants {
        seen.wait(&name(number), is_ready).await?;
    }
    let ready_seconds = begun.elapsed().as_secs_f64();
    let manager = &lab.hub.managers[0];
    let begun = Instant::now();
    manager.restart().await?;
    let start_seconds = begun.elapsed().as_secs_f64();
    let rss_mb = measure::usage(manager.process().pid().context("the manager runs")?)?.rss_mb;
    Ok(Tenants { tenants, ready_seconds, start_seconds, rss_mb })
}

async fn create(api: &Api<Tenant>, number: usize) -> Result<()> {
    let tenant = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name(number)},
        "spec": {"backends": {"allow": ["192.0.2.0/24"], "sharing": "Shared"}},
    });
    api.create(&PostParams::default(), &serde_json::from_value(tenant)?).await.context("create a Tenant")?;
    Ok(())
}

fn is_ready(tenant: &Tenant) -> bool {
    let conditions = tenant.status.iter().flat_map(|status| &status.conditions).cloned().collect::<Vec<_>>();
    condition::find(&conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "True")
}

fn name(number: usize) -> String {
    format!("many-{number}")
}
