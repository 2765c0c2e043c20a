//! What happens while a whole cluster is away, and after it comes back: late, new, or as it was some time ago. Knows
//! outages; small things that tests say often are next door.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Secret, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use nave_api::{NodeSet, TCPLoadBalancer, names};
use nave_e2e::Lab;
use nave_e2e::Protocol::Tcp;
use nave_e2e::agent::HUB_SECRET;
use nave_e2e::control_plane::snapshot::Restore;
use nave_e2e::lab::{Spoke, addresses_of};
use nave_e2e::manager::NAMESPACE;
use nave_e2e::wait::PATIENCE;
use serde_json::json;

use super::stream::Echo;
use super::{allocations, eventually, settled};

/// How long the hub is away: longer than its leases last. `NAVE_OUTAGE_SECONDS=3600` makes it the hour of the promise.
fn outage() -> Duration {
    let asked = std::env::var("NAVE_OUTAGE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(asked.unwrap_or(12))
}

fn services(spoke: &Spoke) -> Api<Service> {
    Api::namespaced(spoke.client(), "default")
}

/// Waits until the load balancer of the Service answers at an address that its status shows.
async fn answers(lab: &Lab, spoke: &Spoke, name: &str, port: u16) -> IpAddr {
    eventually(&format!("{name} answers"), async || {
        let service = services(spoke).get(name).await.map_err(|e| e.to_string())?;
        let address = addresses_of(&service).first().copied().ok_or("it has no address")?;
        let banner = lab.ask(address, port).await.map_err(|e| format!("{address}: {e:?}"))?;
        if banner.starts_with(&format!("{}/{name} ", spoke.name())) {
            Ok(())
        } else {
            Err(format!("{address}: {banner}"))
        }
    })
    .await;
    addresses_of(&services(spoke).get(name).await.unwrap())[0]
}

/// Moves the Service to another port.
async fn serve_at(spoke: &Spoke, name: &str, port: u16) {
    let patch = json!([{"op": "replace", "path": "/spec/ports/0/port", "value": port}]);
    let patch = Patch::Json::<Service>(serde_json::from_value(patch).unwrap());
    services(spoke).patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until the hub knows exactly these nodes of the spoke.
async fn has_nodes(lab: &Lab, spoke: &Spoke, expected: &[&str]) {
    let sets: Api<NodeSet> = Api::namespaced(lab.hub.client(), &names::tenant_namespace(spoke.name()));
    eventually("the hub knows the nodes", async || {
        let set = sets.get(names::DEFAULT_NODE_SET).await.map_err(|e| e.to_string())?;
        let known: Vec<&str> = set.spec.nodes.iter().map(|node| node.name.as_str()).collect();
        if known == expected { Ok(()) } else { Err(format!("{known:?}")) }
    })
    .await;
}

async fn gone(spoke: &Spoke, name: &str) {
    eventually(&format!("{name} is gone"), async || {
        let left = services(spoke).get_opt(name).await.map_err(|e| e.to_string())?;
        left.map_or(Ok(()), |service| Err(format!("finalizers {:?}", service.finalizers())))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_away_for_long_finds_everything_that_was_asked_meanwhile() {
    let lab = Lab::light().manager_flag("--lease-duration=3s").start().await.unwrap();
    let spoke = &lab.spokes[0];
    let kept = spoke.sample("kept", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    spoke.sample("deleted", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    spoke.sample("edited", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    let echo = Echo::start(SocketAddr::new(kept, 8080)).await.unwrap();

    lab.hub.plane.stop_api();
    let begun = Instant::now();
    spoke.sample("made", &[(Tcp, 8080)]).await.unwrap();
    services(spoke).delete("deleted", &DeleteParams::default()).await.unwrap();
    serve_at(spoke, "edited", 9090).await;
    spoke.agent().unwrap().process().restart().unwrap();
    while begun.elapsed() < outage() {
        echo.moves_on().await;
        assert!(lab.ask(kept, 8080).await.unwrap().starts_with("spoke-1/kept "), "new connections, all the time");
    }
    assert!(services(spoke).get("deleted").await.is_ok(), "who cannot be let go in the hub is kept in the spoke");

    lab.hub.plane.start_api().await.unwrap();
    answers(&lab, spoke, "made", 8080).await;
    answers(&lab, spoke, "edited", 9090).await;
    gone(spoke, "deleted").await;
    assert_eq!(answers(&lab, spoke, "kept", 8080).await, kept);
    assert!(echo.stop().await.unwrap() > 0, "the stream went on");
    eventually("three addresses are recorded", async || match allocations(&lab).await {
        all if all.len() == 3 => Ok(()),
        all => Err(format!("{all:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoke_that_is_away_is_served_on_and_followed_when_it_returns() {
    let lab = Lab::light().spokes(2).start().await.unwrap();
    let (away, other) = (&lab.spokes[0], &lab.spokes[1]);
    let address = away.sample("kept", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    let before = allocations(&lab).await;
    let echo = Echo::start(SocketAddr::new(address, 8080)).await.unwrap();
    away.plane.stop_api();
    away.agent().unwrap().process().kill();
    lab.hub.managers[0].restart().await.unwrap();
    // Somebody else's Service has gone all the way round: whatever a manager without this spoke would do, it has done.
    other.sample("meanwhile", &[(Tcp, 8080)]).await.unwrap();
    answers(&lab, other, "meanwhile", 8080).await;
    echo.moves_on().await;
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("spoke-1/kept "));
    let now = allocations(&lab).await;
    assert!(before.iter().all(|(name, owner)| now.get(name) == Some(owner)), "{before:?} {now:?}");

    away.plane.start_api().await.unwrap();
    away.sample("late", &[(Tcp, 8080)]).await.unwrap();
    away.agent().unwrap().restart().await.unwrap();
    answers(&lab, away, "late", 8080).await;
    assert_eq!(answers(&lab, away, "kept", 8080).await, address);
    assert!(echo.stop().await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_installed_anew_with_a_new_credential_finds_its_load_balancers_and_changes_nothing() {
    let lab = Lab::light().start().await.unwrap();
    let spoke = &lab.spokes[0];
    let address = spoke.sample("kept", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    settled(&lab, 1).await;
    let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    let name = names::intent_name("Service", "default", "kept");
    let before = intents.get(&name).await.unwrap();
    let echo = Echo::start(SocketAddr::new(address, 8080)).await.unwrap();
    assert!(spoke.agent().unwrap().process().terminate(PATIENCE).await, "it ends when asked to");

    let old = lab.hub.credential("spoke-1").await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
    secrets.delete("agent", &DeleteParams::default()).await.unwrap();
    eventually("there is a new credential", async || match lab.hub.credential("spoke-1").await {
        Ok(new) if new != old => Ok(()),
        other => Err(format!("the old one: {}", other.is_ok())),
    })
    .await;
    let new = lab.hub.credential("spoke-1").await.unwrap();
    let own: Api<Secret> = Api::namespaced(spoke.client(), NAMESPACE);
    own.delete(HUB_SECRET, &DeleteParams::default()).await.unwrap();
    let metadata = json!({"name": HUB_SECRET, "namespace": NAMESPACE});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": new}});
    spoke.apply(&secret).await.unwrap();
    spoke.agent().unwrap().restart().await.unwrap();

    spoke.sample("next", &[(Tcp, 8080)]).await.unwrap();
    answers(&lab, spoke, "next", 8080).await;
    let after = intents.get(&name).await.unwrap();
    assert_eq!((after.uid(), after.metadata.generation), (before.uid(), before.metadata.generation));
    assert_eq!(answers(&lab, spoke, "kept", 8080).await, address);
    assert!(echo.stop().await.unwrap() > 0);
}

/// Services from before the snapshot, of which one lives, one was edited and one was deleted since, one that was made since,
/// and a node that has left: what the restored hub knows is right, old, wrong, nothing, and dangerous.
async fn restored(how: Restore) {
    let lab = Lab::light().start().await.unwrap();
    let spoke = &lab.spokes[0];
    spoke.sample("deleted", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    let kept = spoke.sample("kept", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    spoke.sample("edited", &[(Tcp, 8080)]).await.unwrap().address().await.unwrap();
    settled(&lab, 3).await;
    let snapshot = lab.hub.plane.snapshot().await.unwrap();
    services(spoke).delete("deleted", &DeleteParams::default()).await.unwrap();
    gone(spoke, "deleted").await;
    has_nodes(&lab, spoke, &["node-1", "node-2"]).await;
    Api::<Node>::all(spoke.client()).delete("node-2", &DeleteParams::default()).await.unwrap();
    has_nodes(&lab, spoke, &["node-1"]).await;
    spoke.sample("made", &[(Tcp, 8080)]).await.unwrap();
    answers(&lab, spoke, "made", 8080).await;
    serve_at(spoke, "edited", 9090).await;
    answers(&lab, spoke, "edited", 9090).await;
    let echo = Echo::start(SocketAddr::new(kept, 8080)).await.unwrap();

    lab.hub.plane.restore(&snapshot, how).await.unwrap();
    spoke.sample("next", &[(Tcp, 8080)]).await.unwrap();
    answers(&lab, spoke, "next", 8080).await;
    answers(&lab, spoke, "made", 8080).await;
    answers(&lab, spoke, "edited", 9090).await;
    has_nodes(&lab, spoke, &["node-1"]).await;
    assert_eq!(answers(&lab, spoke, "kept", 8080).await, kept);
    assert!(echo.stop().await.unwrap() > 0, "who lived through it kept its connections");
    eventually("who was deleted is forgotten", async || {
        let all: Api<TCPLoadBalancer> = Api::all(lab.hub.client());
        let mut left: Vec<String> = all
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        left.sort();
        let mut expected =
            ["kept", "edited", "made", "next"].map(|name| names::intent_name("Service", "default", name));
        expected.sort();
        let owners = allocations(&lab).await;
        if left == expected && owners.len() == 4 { Ok(()) } else { Err(format!("{left:?} {owners:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_restored_from_a_snapshot_moves_no_address_that_lives() {
    restored(Restore::Bumped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_restored_to_older_revisions_is_noticed_by_managers_and_agents() {
    restored(Restore::Plain).await;
}
