//! What needs real pods, kubelets and kube-proxies: pods that come and go under load, those of one node, those that the hub
//! reaches itself. One full lab for all of it, where this machine can have one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use nave_api::tcp_load_balancer::Backends;
use nave_e2e::lab::{Weight, heaviest};
use nave_e2e::{Lab, image};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::shared::{Subject, eventually, hear, judged, run};

/// So many clients connect again and again.
const CLIENTS: usize = 4;
/// All backends listen here.
const PORT: u16 = 8080;

static LAB: OnceCell<Lab> = OnceCell::const_new();

/// Runs a test in the shared full lab, which ends with the process.
fn in_full_lab(test: impl AsyncFnOnce(&Lab)) {
    let (weight, why) = heaviest();
    if weight == Weight::Light {
        eprintln!("not tried: {why}");
        return;
    }
    run(async {
        let lab = LAB.get_or_init(start).await;
        judged(lab, test(lab)).await;
    });
}

/// The tenant allows the hub to connect to its pods, too.
async fn start() -> Lab {
    let lab = Lab::full().nodes(2).start().await.expect("a lab");
    let spoke = &lab.spokes[0];
    let allow = [lab.plan().nodes(spoke.number()), lab.plan().pods_of(spoke.number())];
    let spec = json!({"backends": {"allow": allow}});
    let metadata = json!({"name": spoke.name()});
    let tenant = json!({"apiVersion": "nave.dev/v1alpha1", "kind": "Tenant", "metadata": metadata, "spec": spec});
    lab.hub.apply(&tenant).await.expect("the tenant may be changed");
    lab
}

/// The pods behind a Service: two, on any nodes or on one, which go on serving for a while after they are told to end.
async fn deploy(service: &Subject<'_>, node: Option<&str>) {
    deploy_some(service, 2, node).await;
}

async fn deploy_some(service: &Subject<'_>, replicas: usize, node: Option<&str>) {
    let name = service.name;
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let container = json!({
        "name": "backend", "image": image::BACKEND, "imagePullPolicy": "IfNotPresent", "args": [format!("tcp/{PORT}")],
        "ports": [{"name": "serving", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
        "env": [
            {"name": "NODE", "valueFrom": field("spec.nodeName")}, {"name": "POD", "valueFrom": field("metadata.name")},
            {"name": "BANNER", "value": format!("{name} on $(NODE) in $(POD)")},
        ],
    });
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": name}},
    });
    let selector = node.map(|node| json!({"kubernetes.io/hostname": node}));
    let pod = json!({
        "containers": [container], "terminationGracePeriodSeconds": 10, "enableServiceLinks": false, "nodeSelector": selector,
        "automountServiceAccountToken": false, "topologySpreadConstraints": [spread],
    });
    let strategy = json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    let template = json!({"metadata": {"labels": {"app": name}}, "spec": pod});
    let spec = json!({"replicas": replicas, "strategy": strategy, "selector": {"matchLabels": {"app": name}}, "template": template});
    let metadata = json!({"namespace": "default", "name": name});
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
    service.spoke.apply(&object).await.expect("a Deployment");
}

fn deployments(service: &Subject<'_>) -> Api<Deployment> {
    Api::namespaced(service.spoke.client(), "default")
}

async fn scale(service: &Subject<'_>, replicas: i32) {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments(service).patch(service.name, &PatchParams::default(), &patch).await.expect("it can be scaled");
}

fn balanced(more: &Value) -> Value {
    let mut spec = json!({"type": "LoadBalancer", "ports": [{"name": "web", "port": PORT, "targetPort": "serving"}]});
    for (field, value) in more.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    spec
}

/// Makes a Service with two pods and waits until they answer.
async fn served(service: &Subject<'_>, more: &Value, node: Option<&str>) {
    deploy(service, node).await;
    let mut spec = balanced(more);
    spec["selector"] = json!({"app": service.name});
    service.put(spec).await;
    answered_by(service, |pods| pods.len() == 2).await;
}

/// Waits until the pods that answer are as they should be.
async fn answered_by(service: &Subject<'_>, wanted: impl Fn(&BTreeSet<String>) -> bool) {
    let address = service.address().await;
    eventually("the right pods answer", async || {
        let mut seen = BTreeSet::new();
        for _ in 0..12 {
            seen.insert(hear(address, PORT).await?);
        }
        if wanted(&seen) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// Clients that connect again and again until they are told to stop; then what they met.
struct Load {
    began: Instant,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    fn start(address: std::net::IpAddr) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (stop, answers) = (stop.clone(), answers.clone());
            clients.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match hear(address, PORT).await {
                        Ok(_) => drop(answers.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => failures.push(error),
                    }
                }
                failures
            });
        }
        Self { began: Instant::now(), stop, answers, clients }
    }

    /// How many connections were answered, and why others were not.
    async fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let failures = self.clients.join_all().await.concat();
        let answers = self.answers.load(Ordering::SeqCst);
        println!("{answers} connections in {:?}, {} failed", self.began.elapsed(), failures.len());
        (answers, failures)
    }
}

/// Replaces all pods one by one while clients connect.
async fn roll(service: &Subject<'_>) {
    let address = service.address().await;
    let mut old = BTreeSet::new();
    for _ in 0..12 {
        old.insert(hear(address, PORT).await.expect("it answers before"));
    }
    let load = Load::start(address);
    let restarted = json!({"spec": {"template": {"metadata": {"annotations": {"example.com/restarted": "once"}}}}});
    let deployments = deployments(service);
    let patch = Patch::Strategic(restarted);
    let generation =
        deployments.patch(service.name, &PatchParams::default(), &patch).await.unwrap().metadata.generation;
    eventually("all pods are new", async || {
        let status = deployments.get(service.name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let all = [status.updated_replicas, status.replicas, status.available_replicas];
        let done = status.observed_generation == generation && all == [Some(2); 3];
        if done { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    // The old ones end a while after they are counted no more.
    answered_by(service, |pods| pods.is_disjoint(&old)).await;
    eventually("the old pods are gone", async || {
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(service.spoke.client(), "default");
        let selected = kube::api::ListParams::default().labels(&format!("app={}", service.name));
        let left = pods.list(&selected).await.map_err(|error| error.to_string())?.items.len();
        if left == 2 { Ok(()) } else { Err(format!("{left} pods")) }
    })
    .await;
    let (answers, failures) = load.end().await;
    assert_eq!(failures, Vec::<String>::new(), "beside {answers} answers");
    assert!(answers > 100, "only {answers} connections say little");
}

#[test]
fn a_rolling_update_behind_node_ports_loses_no_connection() {
    in_full_lab(async |lab| {
        let web = Subject::new(lab, 0, "rolling");
        served(&web, &json!({}), None).await;
        roll(&web).await;
        web.delete().await;
    });
}

#[test]
fn a_rolling_update_under_the_policy_local_loses_no_connection() {
    in_full_lab(async |lab| {
        let web = Subject::new(lab, 0, "near");
        served(&web, &json!({"externalTrafficPolicy": "Local"}), None).await;
        roll(&web).await;
        web.delete().await;
    });
}

#[test]
fn a_rolling_update_of_pods_that_the_hub_reaches_itself_loses_no_connection() {
    in_full_lab(async |lab| {
        let web = Subject::new(lab, 0, "direct").annotated(json!({"nave.dev/backends": "PodIP"}));
        served(&web, &json!({"allocateLoadBalancerNodePorts": false}), None).await;
        roll(&web).await;
        // Without any pod a client hears so at once, and the first new one is enough.
        let address = web.address().await;
        scale(&web, 0).await;
        eventually("nobody answers, and that at once", async || {
            let asked = Instant::now();
            match hear(address, PORT).await {
                Err(_) if asked.elapsed() < Duration::from_secs(1) => Ok(()),
                other => Err(format!("{other:?} after {:?}", asked.elapsed())),
            }
        })
        .await;
        scale(&web, 1).await;
        answered_by(&web, |pods| pods.len() == 1).await;
        web.delete().await;
    });
}

/// Replaces the one pod, on node-1, by one on node-2, while clients connect.
async fn hand_over(service: &Subject<'_>, more: &Value) {
    deploy_some(service, 1, Some("node-1")).await;
    let mut spec = balanced(more);
    spec["selector"] = json!({"app": service.name});
    service.put(spec).await;
    let on = |node: &str| format!("{} on {node} ", service.name);
    answered_by(service, |pods| pods.iter().all(|pod| pod.starts_with(&on("node-1")))).await;
    let load = Load::start(service.address().await);
    deploy_some(service, 1, Some("node-2")).await;
    answered_by(service, |pods| pods.iter().all(|pod| pod.starts_with(&on("node-2")))).await;
    eventually("the old pod is gone", async || {
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(service.spoke.client(), "default");
        let selected = kube::api::ListParams::default().labels(&format!("app={}", service.name));
        let left = pods.list(&selected).await.map_err(|error| error.to_string())?.items.len();
        if left == 1 { Ok(()) } else { Err(format!("{left} pods")) }
    })
    .await;
    let (answers, failures) = load.end().await;
    assert_eq!(failures, Vec::<String>::new(), "beside {answers} answers");
    assert!(answers > 100, "only {answers} connections say little");
}

#[test]
fn kind_o_one_pod_that_moves_to_another_node_under_the_policy_local_loses_no_connection() {
    in_full_lab(async |lab| {
        let web = Subject::new(lab, 0, "moves-near");
        hand_over(&web, &json!({"externalTrafficPolicy": "Local"})).await;
        web.delete().await;
    });
}

#[test]
fn kind_o_one_pod_that_moves_to_another_node_behind_node_ports_loses_no_connection() {
    in_full_lab(async |lab| {
        let web = Subject::new(lab, 0, "moves");
        hand_over(&web, &json!({})).await;
        web.delete().await;
    });
}

#[test]
fn kind_o_one_pod_that_the_hub_reaches_itself_moves_to_another_node_and_loses_no_connection() {
    in_full_lab(async |lab| {
        let web = Subject::new(lab, 0, "moves-direct").annotated(json!({"nave.dev/backends": "PodIP"}));
        hand_over(&web, &json!({"allocateLoadBalancerNodePorts": false})).await;
        web.delete().await;
    });
}

#[test]
fn local_traffic_stays_on_nodes_with_pods_as_they_move_and_kube_proxy_is_asked_for_them() {
    in_full_lab(async |lab| {
        let web = Subject::new(lab, 0, "local");
        served(&web, &json!({"externalTrafficPolicy": "Local"}), Some("node-1")).await;
        let only = async || match web.intent().await.map(|intent| intent.spec.backends) {
            Some(Backends::Nodes(nodes)) => nodes.only,
            other => panic!("{other:?}"),
        };
        assert_eq!(only().await, Some(vec!["node-1".to_owned()]));
        let check_port = web.service().await.spec.unwrap().health_check_node_port;
        let check = web.intent().await.unwrap().spec.traffic.unwrap().health_check.unwrap().http.unwrap();
        assert_eq!((check.port.map(i32::from), check.path.as_deref()), (check_port, Some("/healthz")));
        deploy(&web, Some("node-2")).await;
        answered_by(&web, |pods| pods.iter().all(|pod| pod.starts_with("local on node-2 "))).await;
        eventually("only node-2 gets traffic", async || match only().await {
            Some(nodes) if nodes == ["node-2"] => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        web.delete().await;
    });
}
