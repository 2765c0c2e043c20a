//! What happens when the agent, the hub or the credential go. Each test breaks a pair of its own.

use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use nave_api::names;
use nave_e2e::Agent;
use serde_json::json;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};

use crate::pair::{self, HUB_USER, Pair, TENANT};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_back_cleans_up_and_in_the_steady_state_nobody_writes() {
    let pair = Pair::start(&[]).await;
    for name in ["stays", "deleted", "forced"] {
        pair.service(name, json!({})).await;
        pair.intent(name).await;
        pair.held(name).await;
        pair.answer(name, &["203.0.113.7"], "True", "Programmed").await;
        pair.shows(name, &["203.0.113.7"]).await;
    }
    pair.agent.process().kill();
    pair.services().delete("deleted", &DeleteParams::default()).await.unwrap();
    pair.services().delete("forced", &DeleteParams::default()).await.unwrap();
    let strip = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    pair.services().patch("forced", &kube::api::PatchParams::default(), &strip).await.unwrap();
    assert!(pair.services().get_opt("deleted").await.unwrap().is_some(), "the finalizer keeps it");
    assert!(pair.services().get_opt("forced").await.unwrap().is_none());

    pair.agent.restart().await.unwrap();
    pair.gone("deleted").await;
    pair.gone("forced").await;

    // Whatever the agent had to write it has written: it writes as soon as it is ready.
    let before = (writes(&pair), versions(&pair).await);
    pair.agent.restart().await.unwrap();
    let second = Agent::start(pair.spoke.supervisor(), "second", &pair.account, &[]).unwrap();
    second.ready().await.unwrap();
    // A Service that has gone all the way round shows that both have looked at everything.
    pair.service("last", json!({})).await;
    pair.intent("last").await;
    pair.answer("last", &["203.0.113.9"], "True", "Programmed").await;
    pair.shows("last", &["203.0.113.9"]).await;
    let after = writes(&pair);
    // An audit log has a line when the request has ended: what went just before may follow.
    let known = ["/default-last-", "/default-deleted-", "/default-forced-"];
    let is_known = |line: &&String| known.iter().any(|name| line.contains(name));
    let others: Vec<&String> = after[before.0.len()..].iter().filter(|line| !is_known(line)).collect();
    assert_eq!(others, Vec::<&String>::new(), "a restart and a second agent write nothing");
    assert_eq!(versions(&pair).await, before.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_away_is_waited_for() {
    let pair = Pair::start(&[]).await;
    pair.service("kept", json!({})).await;
    pair.intent("kept").await;
    pair.answer("kept", &["203.0.113.7"], "True", "Programmed").await;
    pair.shows("kept", &["203.0.113.7"]).await;
    pair.service("deleted", json!({})).await;
    pair.intent("deleted").await;
    pair.held("deleted").await;

    pair.hub.stop_api();
    pair.services().delete("deleted", &DeleteParams::default()).await.unwrap();
    pair.until("the agent has tried several times", async || {
        let page = pair.agent.get("/metrics").await.map_err(|error| format!("{error:?}"))?;
        let failed = count(&page, "nave_agent_steps_total{step=\"delete\",outcome=\"Failed\"}");
        if failed >= 5 { Ok(()) } else { Err(format!("{failed} times")) }
    })
    .await;
    assert!(pair.services().get_opt("deleted").await.unwrap().is_some(), "a hub that is away releases nothing");
    pair.shows("kept", &["203.0.113.7"]).await;

    pair.hub.start_api().await.unwrap();
    pair.gone("deleted").await;
    pair.shows("kept", &["203.0.113.7"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_hangs_is_waited_for() {
    let pair = Pair::start(&[]).await;
    pair.hub.freeze_api();
    pair.service("patient", json!({})).await;
    pair.until("a call has had its time", async || {
        let page = pair.agent.get("/metrics").await.map_err(|error| format!("{error:?}"))?;
        let failed = count(&page, "nave_agent_steps_total{step=\"apply\",outcome=\"Failed\"}");
        if failed >= 1 { Ok(()) } else { Err(format!("{failed} times")) }
    })
    .await;
    assert_eq!(pair.agent.get("/healthz").await.unwrap().trim(), "ok", "the agent itself does not hang");
    pair.hub.thaw_api();
    pair.intent("patient").await;
    pair.answer("patient", &["203.0.113.7"], "True", "Programmed").await;
    pair.shows("patient", &["203.0.113.7"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_and_a_new_credential_is_taken_without_a_restart() {
    let pair = Pair::start(&["--hub-token-age=2"]).await;
    let first = pair::kept(&pair.spoke).await;
    pair.until("a renewed credential is kept", async || {
        if pair::kept(&pair.spoke).await == first { Err("the first one".to_owned()) } else { Ok(()) }
    })
    .await;
    pair.service("renewed", json!({})).await;
    pair.intent("renewed").await;
    let log = pair.agent.process().tail(1000);
    assert!(!log.contains("eyJ"), "no token in the log");

    // The account is made anew: the token is void before its time, and the administrator brings another one.
    let accounts: Api<ServiceAccount> = Api::namespaced(pair.hub.client(), TENANT);
    accounts.delete("agent", &DeleteParams::default()).await.unwrap();
    pair::admit(&pair.hub).await.unwrap();
    pair::keep(&pair.spoke, &pair::credential(&pair.hub).await).await;
    pair.service("rotated", json!({})).await;
    pair.intent("rotated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_uninstalled_leaves_nothing_behind() {
    let pair = Pair::start(&[]).await;
    pair.service("left", json!({})).await;
    pair.intent("left").await;
    pair.answer("left", &["203.0.113.7"], "True", "Programmed").await;
    pair.shows("left", &["203.0.113.7"]).await;
    pair.service("named", json!({})).await;
    pair.intent("named").await;
    pair.answer("named", &["lb.example"], "True", "Programmed").await;
    pair.shows("named", &["lb.example"]).await;
    pair.until("the nodes are in the hub", async || {
        pair.node_sets().get("default").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let leases: Api<Lease> = Api::namespaced(pair.hub.client(), TENANT);
    pair.until("the hub has heard the heartbeat", async || {
        leases.get(names::AGENT).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    pair.agent.process().kill();
    let flags = ["--cleanup".to_owned()];
    let leaving = Agent::start(pair.spoke.supervisor(), "leaving", &pair.account, &flags).unwrap();
    pair.until("it has ended by itself", async || {
        leaving.process().pid().map_or(Ok(()), |_| Err(leaving.process().tail(5)))
    })
    .await;
    for name in ["left", "named"] {
        assert_eq!(pair.services().get(name).await.unwrap().finalizers(), Vec::<String>::new());
        pair.shows(name, &[]).await;
    }
    assert_eq!(pair.intents().list(&ListParams::default()).await.unwrap().items.len(), 0);
    assert_eq!(pair.node_sets().list(&ListParams::default()).await.unwrap().items.len(), 0);
    assert_eq!(leases.list(&ListParams::default()).await.unwrap().items.len(), 0, "nobody waits for a heartbeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_gone_keeps_no_service_from_going() {
    let pair = Pair::start(&[]).await;
    pair.service("living", json!({})).await;
    pair.intent("living").await;
    pair.answer("living", &["203.0.113.7"], "True", "Programmed").await;
    pair.shows("living", &["203.0.113.7"]).await;
    let namespaces: Api<Namespace> = Api::all(pair.hub.client());
    namespaces.delete(TENANT, &DeleteParams::default()).await.unwrap();
    pair.until("our finalizer is released", async || {
        let finalizers = pair.services().get("living").await.unwrap().finalizers().to_vec();
        if finalizers.is_empty() { Ok(()) } else { Err(format!("{finalizers:?}")) }
    })
    .await;
    pair.services().delete("living", &DeleteParams::default()).await.unwrap();
    pair.until("the Service is gone", async || match pair.services().get_opt("living").await.unwrap() {
        None => Ok(()),
        Some(service) => Err(format!("{:?}", service.metadata)),
    })
    .await;
    let unready = pair.agent.get("/readyz").await;
    assert!(format!("{unready:?}").contains("the tenant is gone"), "{unready:?}");
}

/// What the agent wrote in the hub, but for its heartbeat.
fn writes(pair: &Pair) -> Vec<String> {
    let all = Pair::writes(&pair.hub, HUB_USER);
    all.into_iter().filter(|line| !line.contains("/leases/")).collect()
}

/// The versions of everything that the agent might write to.
async fn versions(pair: &Pair) -> Vec<Option<String>> {
    let intent = pair.intent("stays").await.resource_version();
    let service = pair.services().get("stays").await.unwrap().resource_version();
    vec![intent, service, pair.node_sets().get("default").await.unwrap().resource_version()]
}

fn count(page: &str, name: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_default()
}
