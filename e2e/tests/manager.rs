//! The managers by themselves: intents are written straight into the hub, no spoke and no agent is there. What is asked is
//! what the managers record, serve and say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use nave_api::{ConditionType, Fleet, IPAllocation, IPPool, TCPLoadBalancer, Tenant, condition, names};
use nave_e2e::process::Spec;
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Backend, Lab, Process, Protocol, tools, wait};
use serde_json::json;

const TENANT: &str = "alone";

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_is_recorded_served_counted_and_says_so_in_few_writes() {
    let lab = Lab::light().spokes(0).audit().start().await.unwrap();
    let _backend = admit(&lab).await;
    // An API server lets the first object of a new kind wait for two seconds.
    apply(&lab, "first", 8081).await;
    programmed(&lab, "first").await;
    apply(&lab, "web", 8080).await;
    let address = programmed(&lab, "web").await;
    // Ready means ready: the first try answers.
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("the backend"));

    let allocation = allocations(&lab).get(&names::allocation_name(address)).await.unwrap();
    let owners: Vec<&str> = allocation.spec.owners.iter().map(|owner| owner.name.as_str()).collect();
    assert_eq!(owners, ["web"]);
    assert_eq!(allocation.metadata.finalizers, Some(vec![names::RELEASE_FINALIZER.to_owned()]));
    assert_eq!(lab.hub.edges[0].refusals().await.unwrap(), 0);
    // One status, unless the machine is so slow that waiting is worth telling: for the record, then for Envoy.
    let statuses = written(&lab, "tcploadbalancers", "web");
    assert!(
        !statuses.is_empty() && statuses.len() <= 3 && statuses.iter().all(|s| s == "patch status"),
        "{statuses:?}"
    );
    assert_eq!(written(&lab, "ipallocations", &names::allocation_name(address)), ["create"]);

    eventually("the manager counts the connection", async || {
        let page = lab.hub.managers[0].get("/metrics").await.map_err(|error| error.to_string())?;
        let counted = page.lines().find(|line| {
            line.starts_with("nave_connections_total{")
                && line.contains("tenant=\"alone\"")
                && line.contains("name=\"web\"")
        });
        if counted.is_some_and(|line| line.ends_with(" 1")) { Ok(()) } else { Err(format!("{counted:?}")) }
    })
    .await;
    eventually("the manager says how full the pool is", async || {
        let page = lab.hub.managers[0].get("/metrics").await.map_err(|error| error.to_string())?;
        let used = page.lines().find(|line| line.starts_with("nave_pool_addresses{pool=\"public\",state=\"used\"}"));
        if used.is_some_and(|line| line.ends_with(" 2") || line.ends_with(" 2.0")) {
            Ok(())
        } else {
            Err(format!("{used:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_intent_frees_its_address_for_who_waits() {
    let lab = Lab::light().spokes(0).start().await.unwrap();
    let _backend = admit(&lab).await;
    lab.hub.pool("public", &lab.plan().pool().network().to_string()).await.unwrap(); // one address only
    let pools: Api<IPPool> = Api::all(lab.hub.client());
    eventually("the manager knows the pool of one address", async || {
        let status = pools.get("public").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        if status.total.as_deref() == Some("1") { Ok(()) } else { Err(format!("{:?}", status.total)) }
    })
    .await;
    apply(&lab, "first", 8080).await;
    let address = programmed(&lab, "first").await;
    apply(&lab, "second", 8080).await;
    eventually("the second waits", async || {
        let status = intent(&lab, "second").await.status.unwrap_or_default();
        match condition::find(&status.conditions, ConditionType::Allocated) {
            Some(allocated) if allocated.status == "False" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    intents(&lab).delete("first", &DeleteParams::default()).await.unwrap();
    assert_eq!(programmed(&lab, "second").await, address);
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("the backend"));
    intents(&lab).delete("second", &DeleteParams::default()).await.unwrap();
    eventually("nothing is recorded any more", async || {
        let left = allocations(&lab).list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        if left.items.is_empty() { Ok(()) } else { Err(format!("{:?}", left.items)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_comes_back_writes_nothing() {
    let lab = Lab::light().spokes(0).manager_flag("--lease-duration=2s").start().await.unwrap();
    let _backend = admit(&lab).await;
    apply(&lab, "web", 8080).await;
    let address = programmed(&lab, "web").await;
    settled(&lab).await;
    let before = versions(&lab).await;
    assert!(lab.hub.managers[0].process().terminate(PATIENCE).await, "it ends when asked");
    assert!(lab.ask(address, 8080).await.is_ok(), "traffic needs no manager");
    lab.hub.managers[0].restart().await.unwrap();
    // Another intent goes all the way round: what the manager had to write at its return, it has written before.
    apply(&lab, "other", 8081).await;
    programmed(&lab, "other").await;
    let after = versions(&lab).await;
    let changed: Vec<_> = before.iter().filter(|(name, version)| after.get(*name) != Some(version)).collect();
    let expected = |name: &&String| ["Tenant/alone", "IPPool/public"].contains(&name.as_str()); // the other one counts
    assert!(changed.iter().all(|(name, _)| expected(name)), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_envoy_of_a_follower_holds_is_known_to_the_leader() {
    let lab = Lab::light().spokes(0).edges(0).managers(2).start().await.unwrap();
    let _backend = admit(&lab).await;
    let follower = 1 - leader(&lab).await;
    lab.hub.fleet(&json!({"nodes": {"names": ["edge-1"]}})).await.unwrap(); // there is no Node of that name in the hub
    let (_envoy, dir) = envoy_at(&lab, "edge-1", lab.hub.managers[follower].xds());
    apply(&lab, "web", 8080).await;
    let address = programmed(&lab, "web").await;
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("the backend"));
    let mode = std::fs::metadata(dir.join("tls.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the key is its owner's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_says_goodbye_is_followed_at_once() {
    let lab = Lab::light().spokes(0).managers(2).manager_flag("--lease-duration=60s").start().await.unwrap();
    let _backend = admit(&lab).await;
    apply(&lab, "before", 8080).await;
    let address = programmed(&lab, "before").await;
    let first = leader(&lab).await;
    assert!(lab.hub.managers[first].process().terminate(PATIENCE).await);
    let begun = std::time::Instant::now();
    apply(&lab, "after", 8081).await;
    programmed(&lab, "after").await;
    assert!(begun.elapsed() < Duration::from_secs(45), "the Lease was given back: nobody waits until it ends");
    assert_eq!(programmed(&lab, "before").await, address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_hangs_costs_the_lead_and_no_connection() {
    let lab = Lab::light().spokes(0).manager_flag("--lease-duration=2s").start().await.unwrap();
    let _backend = admit(&lab).await;
    apply(&lab, "before", 8080).await;
    let address = programmed(&lab, "before").await;
    lab.hub.plane.freeze_api();
    eventually("the manager knows that it cannot lead", async || leads(&lab, 0).await).await;
    assert!(lab.ask(address, 8080).await.is_ok(), "traffic needs no API");
    assert!(lab.hub.managers[0].get("/readyz").await.is_ok(), "Envoys are served all the time");
    lab.hub.plane.thaw_api();
    eventually("it leads again", async || leads(&lab, 1).await).await;
    apply(&lab, "after", 8081).await;
    assert!(lab.ask(programmed(&lab, "after").await, 8081).await.unwrap().starts_with("the backend"));
    assert_eq!(programmed(&lab, "before").await, address);
}

async fn leads(lab: &Lab, expected: u8) -> Result<(), String> {
    let page = lab.hub.managers[0].get("/metrics").await.map_err(|error| error.to_string())?;
    let line = page.lines().find(|line| line.starts_with("nave_leader "));
    if line == Some(&format!("nave_leader {expected}")) { Ok(()) } else { Err(format!("{line:?}")) }
}

/// What was written to an object besides its creation by this test, in order, as the hub's audit log has it.
fn written(lab: &Lab, resource: &str, name: &str) -> Vec<String> {
    let log = lab.hub.plane.audit().unwrap();
    let entries = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let about = entries.filter(|entry| {
        let object = &entry["objectRef"];
        let ours = entry["userAgent"].as_str().is_some_and(|agent| agent.contains("nave-manager"));
        entry["stage"] == "ResponseComplete" && object["resource"] == resource && object["name"] == name && ours
    });
    let writes = about.filter(|entry| !["get", "list", "watch"].contains(&entry["verb"].as_str().unwrap_or_default()));
    let text = |entry: serde_json::Value| {
        let words = [&entry["verb"], &entry["objectRef"]["subresource"]];
        words.iter().filter_map(|word| word.as_str()).collect::<Vec<_>>().join(" ")
    };
    writes.map(text).collect()
}

/// Makes the tenant, and a backend in its networks.
async fn admit(lab: &Lab) -> Backend {
    let spec = json!({"backends": {"allow": [lab.plan().nodes(1)]}});
    let tenant =
        json!({"apiVersion": "nave.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": TENANT}, "spec": spec});
    lab.hub.apply(&tenant).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(lab.hub.client());
    eventually("the tenant has a namespace", async || {
        namespaces.get(&names::tenant_namespace(TENANT)).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    Backend::start(Protocol::Tcp, SocketAddr::new(lab.plan().node(1, 0), 31_080), "the backend").await.unwrap()
}

async fn apply(lab: &Lab, name: &str, port: u16) {
    let backend = json!({"addresses": [lab.plan().node(1, 0)]});
    let object = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "TCPLoadBalancer",
        "metadata": {"namespace": names::tenant_namespace(TENANT), "name": name},
        "spec": {
            "origin": {"kind": "Service", "namespace": "default", "name": name, "uid": "4711"},
            "ports": [{"name": "tcp", "protocol": "TCP", "port": port, "backendPort": 31_080}],
            "backends": {"endpoints": [backend]},
        },
    });
    lab.hub.apply(&object).await.unwrap();
}

fn intents(lab: &Lab) -> Api<TCPLoadBalancer> {
    Api::namespaced(lab.hub.client(), &names::tenant_namespace(TENANT))
}

fn allocations(lab: &Lab) -> Api<IPAllocation> {
    Api::all(lab.hub.client())
}

async fn intent(lab: &Lab, name: &str) -> TCPLoadBalancer {
    intents(lab).get(name).await.unwrap()
}

/// Waits until the intent is programmed, and returns its address.
async fn programmed(lab: &Lab, name: &str) -> IpAddr {
    wait::until(&format!("{name} is programmed"), PATIENCE, || async {
        let status = intent(lab, name).await.status.unwrap_or_default();
        if !condition::is_true(&status.conditions, ConditionType::Programmed) {
            return Err(format!("{status:?}"));
        }
        let address = status.addresses.first().ok_or("programmed without an address")?;
        address.value.parse().map_err(|_| format!("{address:?}"))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:?}"))
}

/// Waits until two looks, a while apart, see the same.
async fn settled(lab: &Lab) {
    let mut last = BTreeMap::new();
    for _ in 0..30 {
        let now = versions(lab).await;
        if now == last {
            return;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(700)).await; // longer than any patience of a status
    }
    panic!("the managers do not come to rest: {last:?}");
}

/// The version of everything that managers write.
async fn versions(lab: &Lab) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    note::<TCPLoadBalancer>(lab, &mut versions).await;
    note::<IPAllocation>(lab, &mut versions).await;
    note::<IPPool>(lab, &mut versions).await;
    note::<Tenant>(lab, &mut versions).await;
    note::<Fleet>(lab, &mut versions).await;
    versions
}

async fn note<K>(lab: &Lab, versions: &mut BTreeMap<String, String>)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    for object in Api::<K>::all(lab.hub.client()).list(&ListParams::default()).await.unwrap() {
        let version = object.resource_version().unwrap_or_default();
        versions.insert(format!("{}/{}", K::kind(&()), object.name_any()), version);
    }
}

/// Which manager leads.
async fn leader(lab: &Lab) -> usize {
    let leases: Api<Lease> = Api::namespaced(lab.hub.client(), "nave-system");
    wait::until("a manager leads", PATIENCE, || async {
        let lease = leases.get("nave-manager").await.map_err(|error| error.to_string())?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        let number = holder.strip_prefix("manager-").and_then(|rest| rest.chars().next()?.to_digit(10));
        number.and_then(|number| usize::try_from(number).ok()?.checked_sub(1)).ok_or(format!("held by {holder:?}"))
    })
    .await
    .unwrap()
}

/// An Envoy that knows one manager only, and the directory of its certificates.
fn envoy_at(lab: &Lab, node: &str, manager: SocketAddr) -> (Process, PathBuf) {
    let dir = lab.supervisor().dir().join(node);
    std::fs::create_dir_all(&dir).unwrap();
    let mut bootstrap = Command::new(tools::own("nave-manager").unwrap());
    bootstrap.arg("envoy-bootstrap").arg("--kubeconfig").arg(lab.hub.plane.kubeconfig());
    bootstrap.args(["--namespace", "nave-system", "--node", node, "--xds", &manager.to_string()]);
    bootstrap.arg("--certificates").arg(&dir).arg("--admin-socket").arg(dir.join("admin.sock"));
    let output = bootstrap.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let config = dir.join("bootstrap.json");
    std::fs::write(&config, output.stdout).unwrap();
    let config = config.display().to_string();
    let arguments = ["--config-path", &config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"];
    let spec = Spec::new(&format!("{node}-envoy"), tools::envoy().unwrap(), arguments);
    (Process::start(lab.supervisor(), spec).unwrap(), dir)
}

async fn eventually(what: &str, look: impl AsyncFn() -> Result<(), String>) {
    wait::until(what, PATIENCE, || look()).await.unwrap_or_else(|error| panic!("{error:?}"));
}
