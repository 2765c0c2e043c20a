//! The rights that the charts grant are enough: in the life of a tenant and of a Service nobody of ours is refused anything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use kube::Api;
use kube::api::DeleteParams;
use nave_api::Tenant;
use nave_e2e::{ControlPlane, Lab, Protocol, wait};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_anything_that_he_asks_for() {
    let lab = Lab::light().audit().start().await.unwrap();
    let sample = lab.spokes[0].sample("web", &[(Protocol::Tcp, 8080)]).await.unwrap();
    let address = sample.address().await.unwrap();
    sample.answers(address).await.unwrap();
    sample.delete().await.unwrap();
    let tenants: Api<Tenant> = Api::all(lab.hub.client());
    let name = lab.spokes[0].name();
    tenants.delete(name, &DeleteParams::default()).await.unwrap();
    wait::until("the tenant has ended", PATIENCE, || async {
        let left = tenants.get_opt(name).await.map_err(|error| error.to_string())?;
        left.map_or(Ok(()), |tenant| Err(format!("{:?}", tenant.status)))
    })
    .await
    .unwrap();
    assert_eq!(refused(&lab.hub.plane, "system:serviceaccount:nave-system:nave-manager"), Vec::<String>::new());
    assert_eq!(refused(&lab.spokes[0].plane, "system:serviceaccount:nave-system:nave-agent"), Vec::<String>::new());
}

/// What an account asked for and was not allowed.
fn refused(plane: &ControlPlane, user: &str) -> Vec<String> {
    let log = plane.audit().unwrap();
    let entries: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let asked = entries.iter().filter(|entry| entry["user"]["username"] == user);
    assert!(asked.clone().count() > 10, "the log shows what {user} does");
    let refused = asked.filter(|entry| entry["annotations"]["authorization.k8s.io/decision"] == "forbid");
    refused.map(|entry| format!("{} {}", entry["verb"], entry["requestURI"])).collect()
}
