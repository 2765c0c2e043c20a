//! What the agent writes of backends, taken by a real hub: lists that become empty, ports that a slice lacks, more than an
//! object holds, families.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use nave_api::NodeSet;
use nave_api::tcp_load_balancer::{AddressRequest, Backends, EndpointState, IpFamily, NodeBackends};
use serde_json::{Value, json};

use crate::in_pair;
use crate::pair::{self, Pair, intent_name};

/// Makes or changes a slice of `default/<service>`.
async fn slice(pair: &Pair, service: &str, suffix: &str, ports: Value, endpoints: Value) {
    let labels = json!({"kubernetes.io/service-name": service});
    let metadata = json!({"name": format!("{service}-{suffix}"), "namespace": "default", "labels": labels});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": metadata, "ports": ports, "endpoints": endpoints});
    nave_e2e::apply(&pair.spoke.client(), &slice).await.unwrap();
}

/// Makes a Service whose backends are its pods.
async fn of_pods(pair: &Pair, name: &str, ports: Value) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": {"nave.dev/backends": "PodIP"}},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "nave.dev/load-balancer", "ports": ports},
    });
    nave_e2e::apply(&pair.spoke.client(), &service).await.unwrap();
}

/// Each entry of `backends.endpoints` in the hub: addresses, ports by name, and the state.
async fn endpoints(pair: &Pair, name: &str) -> Result<Vec<(Vec<String>, Vec<String>, EndpointState)>, String> {
    let intent = pair.intents().get(&intent_name(name)).await.map_err(|error| error.to_string())?;
    let Backends::Endpoints(endpoints) = intent.spec.backends else { return Err("nodes".to_owned()) };
    let port =
        |port: nave_api::tcp_load_balancer::EndpointPort| format!("{}:{}", port.name.unwrap_or_default(), port.port);
    let all = endpoints.into_iter();
    Ok(all.map(|each| (each.addresses, each.ports.into_iter().map(port).collect(), each.state)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn kind_i_all_nodes_that_fail_at_once_stay_and_no_node_is_stored_as_an_empty_list() {
    let pair = Pair::start(&[]).await;
    pair.service("nodes", json!({})).await;
    let nodes: Api<Node> = Api::all(pair.spoke.client());
    let stored = async |what: &str, wanted: &[&str]| {
        pair.until(what, async || {
            let set: NodeSet = pair.node_sets().get("default").await.map_err(|error| error.to_string())?;
            let names: Vec<&str> = set.spec.nodes.iter().map(|node| node.name.as_str()).collect();
            if names == wanted { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    };
    pair::report(&pair.spoke, "n1", "10.0.0.1", "True").await;
    stored("both nodes are there", &["base", "n1"]).await;
    pair::report(&pair.spoke, "base", "10.0.0.99", "Unknown").await;
    stored("the ready node is there alone", &["n1"]).await;
    pair::report(&pair.spoke, "n1", "10.0.0.1", "False").await;
    stored("all nodes are there when none is ready", &["base", "n1"]).await;
    let message = pair.says("nodes", "nave.dev/Accepted", Some(("True", "NoReadyNodes"))).await;
    assert!(message.contains("none of the 2 nodes is ready"), "{message}");
    pair.notes("nodes", "NoReadyNodes", 1).await;
    let label = json!({"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}});
    nodes.patch("n1", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    stored("an excluded node is not there", &["base"]).await;
    nodes.delete("base", &DeleteParams::default()).await.unwrap();
    stored("no node is there", &[]).await;
    pair.says("nodes", "nave.dev/Accepted", Some(("True", "NoNodes"))).await;
    pair::report(&pair.spoke, "base", "10.0.0.99", "True").await;
    stored("the ready node is there again", &["base"]).await;
    pair.says("nodes", "nave.dev/Accepted", None).await;
}

#[test]
fn kind_j_a_slice_that_lacks_a_port_gets_none_of_its_traffic() {
    in_pair(async |pair| {
        let (front, back) = (json!({"name": "front", "port": 8081}), json!({"name": "back", "port": 8082}));
        of_pods(pair, "halves", json!([front, back])).await;
        // In this order: what is right is seen only when the last one is there.
        slice(pair, "halves", "4", json!([]), json!([{"addresses": ["198.51.100.24"]}])).await;
        for (suffix, name, port, address) in [
            ("3", "other", 9003, "198.51.100.23"),
            ("2", "back", 9002, "198.51.100.22"),
            ("1", "front", 9001, "198.51.100.21"),
        ] {
            let ports = json!([{"name": name, "port": port}]);
            slice(pair, "halves", suffix, ports, json!([{"addresses": [address]}])).await;
        }
        let wanted = [("198.51.100.22", "back:9002"), ("198.51.100.21", "front:9001")]
            .map(|(address, port)| (vec![address.to_owned()], vec![port.to_owned()], EndpointState::Ready));
        pair.until("each slice serves the ports that it lists", async || {
            let all = endpoints(pair, "halves").await?;
            if all == wanted { Ok(()) } else { Err(format!("{all:?}")) }
        })
        .await;
    });
}

#[test]
fn kind_k_a_service_with_more_ports_than_a_load_balancer_has_follows_its_pods() {
    in_pair(async |pair| {
        let port = |n: u16| json!({"name": format!("p{n}"), "port": 1000 + n, "targetPort": 8000 + n});
        of_pods(pair, "wide", (0..101).map(port).collect()).await;
        let listed = |range: std::ops::Range<u16>| -> Value {
            range.map(|n| json!({"name": format!("p{n}"), "port": 8000 + n})).collect()
        };
        for address in ["198.51.100.31", "198.51.100.32"] {
            let pods = json!([{"addresses": [address]}]);
            slice(pair, "wide", "1", listed(0..100), pods.clone()).await;
            slice(pair, "wide", "2", listed(100..101), pods).await;
            pair.until(&format!("the hub has {address}"), async || {
                let all = endpoints(pair, "wide").await?;
                let shape: Vec<_> = all.iter().map(|(addresses, ports, _)| (addresses.clone(), ports.len())).collect();
                if shape == [(vec![address.to_owned()], 100)] { Ok(()) } else { Err(format!("{shape:?}")) }
            })
            .await;
        }
        let message = pair.says("wide", "nave.dev/Accepted", Some(("True", "TooManyPorts"))).await;
        assert!(message.contains("only the first 100 of 101 ports"), "{message}");
    });
}

#[test]
fn kind_k_an_address_and_a_network_that_ipv6_only_wraps_are_taken_by_the_hub() {
    in_pair(async |pair| {
        let ranges = json!({"nave.dev/source-ranges": "::ffff:198.51.100.0/120"});
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "wrapped", "namespace": "default", "annotations": ranges},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "nave.dev/load-balancer", "ports": [{"port": 443}],
                "loadBalancerIP": "::ffff:203.0.113.70"},
        });
        nave_e2e::apply(&pair.spoke.client(), &service).await.unwrap();
        let spec = pair.intent("wrapped").await.spec;
        assert_eq!(spec.address.unwrap().requested, ["203.0.113.70"]);
        assert_eq!(spec.traffic.unwrap().source_ranges, ["198.51.100.0/24"]);
    });
}

#[test]
fn kind_l_nodes_are_reached_in_the_families_of_the_service_whatever_the_hubs_address_is() {
    in_pair(async |pair| {
        let families = async |name: &str| {
            let spec = pair.intent(name).await.spec;
            let Backends::Nodes(NodeBackends { families, .. }) = spec.backends else { panic!("endpoints") };
            (spec.address.unwrap_or_default(), families)
        };
        pair.service("six", json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"})).await;
        let six = AddressRequest { families: vec![IpFamily::IPv6], ..AddressRequest::default() };
        assert_eq!(families("six").await, (six, vec![IpFamily::IPv6]));
        let annotation = json!({"metadata": {"annotations": {"nave.dev/families": "IPv4"}}});
        pair.services().patch("six", &PatchParams::default(), &Patch::Merge(&annotation)).await.unwrap();
        pair.until("the front is another family than the back", async || {
            let (AddressRequest { families: front, .. }, back) = families("six").await;
            let is_so = (&front[..], &back[..]) == (&[IpFamily::IPv4], &[IpFamily::IPv6]);
            if is_so { Ok(()) } else { Err(format!("{front:?} {back:?}")) }
        })
        .await;
        pair.service("four", json!({})).await;
        assert_eq!(families("four").await.1, [IpFamily::IPv4]);
        pair.service("both", json!({"ipFamilyPolicy": "RequireDualStack"})).await;
        assert_eq!(families("both").await.1, [IpFamily::IPv4, IpFamily::IPv6]);
    });
}

#[test]
fn kind_o_pods_that_terminate_stay_backends_of_the_second_choice_until_they_are_gone() {
    in_pair(async |pair| {
        of_pods(pair, "rolls", json!([{"port": 443}])).await;
        let ports = json!([{"name": "", "port": 8443}]);
        let ready = json!({"addresses": ["198.51.100.42"], "conditions": {"ready": true}});
        let ending = json!({"addresses": ["198.51.100.41"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let entry = |address: &str, state| (vec![address.to_owned()], vec![":8443".to_owned()], state);
        let holds = async |what: &str, wanted: &[_]| {
            pair.until(what, async || {
                let all = endpoints(pair, "rolls").await?;
                if all == wanted { Ok(()) } else { Err(format!("{all:?}")) }
            })
            .await;
        };
        slice(pair, "rolls", "1", ports.clone(), json!([ending, ready])).await;
        let (new, old) =
            (entry("198.51.100.42", EndpointState::Ready), entry("198.51.100.41", EndpointState::Terminating));
        holds("the old pod is the second choice", &[new.clone(), old]).await;
        slice(pair, "rolls", "1", ports, json!([ready])).await;
        holds("the old pod is gone", &[new]).await;
        let slices: Api<EndpointSlice> = Api::namespaced(pair.spoke.client(), "default");
        slices.delete("rolls-1", &DeleteParams::default()).await.unwrap();
        holds("no pod is there", &[]).await;
    });
}
