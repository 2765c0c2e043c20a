//! The lab keeps its promises: it starts what is real, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use kube::Api;
use kube::api::ListParams;
use nave_e2e::control_plane::{ControlPlane, Options};
use nave_e2e::lab::{Spoke, heaviest};
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Lab, Protocol, Weight, sweep, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_answers_runs_its_controllers_and_is_gone_after_its_drop() {
    let plane = ControlPlane::start(Options { audit: true, ..Options::default() }).await.unwrap();
    let (id, dir) = (plane.supervisor().id().to_owned(), plane.supervisor().dir().to_owned());
    let namespaces: Api<Namespace> = Api::all(plane.client());
    wait::until("the default namespace exists", PATIENCE, || async {
        namespaces.get("default").await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), "default");
    wait::until("the default service account exists", PATIENCE, || async {
        accounts.get("default").await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    assert!(plane.audit().unwrap().contains("serviceaccounts"));
    assert_eq!(sweep::marked(sweep::MARK, &id).len(), 3);
    drop(plane);
    assert_eq!(sweep::marked(sweep::MARK, &id), Vec::<i32>::new());
    assert!(!dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_may_do_what_rbac_says_and_no_more() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let kubeconfig = plane.kubeconfig_of_account("default", "narrow").await.unwrap();
    let role = serde_json::json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "narrow"}, "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]});
    let binding = serde_json::json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "narrow"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "narrow"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "narrow"}]});
    for object in [role, binding] {
        nave_e2e::apply(&plane.client(), &object).await.unwrap();
    }
    let client = nave_e2e::control_plane::connect(&std::fs::read_to_string(kubeconfig).unwrap()).await.unwrap();
    let services: Api<Service> = Api::all(client.clone());
    wait::until("the account lists Services", PATIENCE, || async {
        services.list(&ListParams::default()).await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    let namespaces: Api<Namespace> = Api::all(client);
    assert!(matches!(namespaces.get("default").await, Err(kube::Error::Api(status)) if status.code == 403));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_away_comes_back_at_its_address_with_what_it_knew() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let url = plane.url();
    let namespaces: Api<Namespace> = Api::all(plane.client());
    nave_e2e::apply(
        &plane.client(),
        &serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}}),
    )
    .await
    .unwrap();
    plane.stop_api();
    assert!(namespaces.get("kept").await.is_err());
    plane.start_api().await.unwrap();
    assert!(namespaces.get("kept").await.is_ok());
    assert_eq!(plane.url(), url);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_light_labs_run_side_by_side() {
    let (first, second) = tokio::join!(Lab::light().nodes(1).bare().start(), Lab::light().nodes(1).bare().start());
    for lab in [first.unwrap(), second.unwrap()] {
        let spoke = &lab.spokes[0];
        spoke.sample("web", &[(Protocol::Tcp, 8080), (Protocol::Udp, 5353)]).await.unwrap();
        let ports = node_ports(spoke).await;
        let address = spoke.nodes[0].address();
        assert_eq!(lab.ask(address, ports[0]).await.unwrap(), "spoke-1/web on node-1");
        assert_eq!(lab.ask_udp(address, ports[1]).await.unwrap(), "spoke-1/web on node-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_becomes_ready_and_its_pod_answers_at_the_node_port() {
    let (weight, why) = heaviest();
    if weight == Weight::Light {
        eprintln!("not tried: {why}");
        return;
    }
    let lab = Lab::full().nodes(2).bare().start().await.unwrap();
    let spoke = &lab.spokes[0];
    spoke.sample("web", &[(Protocol::Tcp, 8080), (Protocol::Udp, 5353)]).await.unwrap();
    let ports = node_ports(spoke).await;
    for node in &spoke.nodes {
        wait::until("the node port answers", PATIENCE, || async {
            let tcp = lab.ask(node.address(), ports[0]).await.map_err(|error| format!("{error:?}"))?;
            let udp = lab.ask_udp(node.address(), ports[1]).await.map_err(|error| format!("{error:?}"))?;
            let ours = tcp.starts_with("spoke-1/web on node-") && udp.starts_with("spoke-1/web on node-");
            if ours { Ok(()) } else { Err(format!("{tcp} and {udp}")) }
        })
        .await
        .unwrap();
    }
    spoke.nodes[1].power_off().await.unwrap();
    spoke.nodes[1].is_ready(false).await.unwrap();
    spoke.nodes[1].power_on().await.unwrap();
    let id = lab.supervisor().id().to_owned();
    drop(lab);
    assert_eq!(sweep::traces(&id), Vec::<String>::new());
}

async fn node_ports(spoke: &Spoke) -> Vec<u16> {
    let service: Service = Api::namespaced(spoke.client(), "default").get("web").await.unwrap();
    let ports = service.spec.unwrap().ports.unwrap();
    ports.iter().map(|port| u16::try_from(port.node_port.unwrap()).unwrap()).collect()
}

#[test]
fn everything_is_gone_after_the_owner_was_killed() {
    let (weight, _) = heaviest();
    let mut owner = Command::new(env!("CARGO_BIN_EXE_nave-lab"))
        .arg("hold")
        .args((weight == Weight::Full).then_some("--full"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut id).unwrap();
    let id = id.trim().to_owned();
    assert!(sweep::marked(sweep::MARK, &id).len() >= 6);
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_gone(&id);
}

/// The supervisor is the one who removes it all: there is a moment before it is done.
fn assert_gone(id: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gone = wait::until("nothing is left", PATIENCE, || async {
        let left = sweep::traces(id);
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    });
    runtime.block_on(gone).unwrap();
    let dir = std::env::temp_dir().join(format!("nave-lab-{id}"));
    assert!(dir.join("logs").is_dir());
    std::fs::remove_dir_all(&dir).unwrap();
}
