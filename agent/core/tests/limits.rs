//! Spokes that are larger than an object of the hub: what the agent writes is what the hub takes. Knows how a schema is read;
//! knows no bound by its number.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use nave_agent_core::{Change, Cluster, Decision, Policy, Step, Work, World};
use serde_json::{Value, json};

/// What etcd takes, less what the API server and the manager add.
const BYTES: usize = 1_300_000;

/// A spoke, all of it of one Service.
#[derive(Default)]
struct Spoke {
    annotations: Value,
    service: Value,
    slices: Vec<Value>,
    nodes: Vec<Value>,
}

impl Spoke {
    /// What the agent writes into the hub, and what it says of the Service.
    fn written(self) -> (Vec<(&'static str, Value)>, BTreeSet<String>) {
        let mut service = json!({
            "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "annotations": self.annotations},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "nave.dev/load-balancer", "selector": {"app": "web"}},
        });
        for (field, value) in self.service.as_object().into_iter().flatten() {
            service["spec"][field] = value.clone();
        }
        let mut world = World::new(Policy::default());
        world.see_cluster(Cluster::owner("c1".parse().unwrap()));
        world.see_intent(Change::listed(Vec::new()));
        world.see_node_set(Change::listed(Vec::new()));
        world.see_service(Change::listed(vec![serde_json::from_value(service).unwrap()]));
        world.see_node(Change::listed(
            self.nodes.into_iter().map(|node| serde_json::from_value(node).unwrap()).collect(),
        ));
        let slices = self.slices.into_iter().map(|slice| serde_json::from_value(slice).unwrap());
        world.see_slice(Change::listed(slices.collect()));
        let (mut written, mut said) = (Vec::new(), BTreeSet::new());
        for work in world.all() {
            let Decision { plan, notices } = world.decide(&work);
            said.extend(notices.into_iter().map(|notice| notice.reason));
            for step in plan.steps() {
                match step {
                    Step::Apply(intent) => written.push(("TCPLoadBalancer", serde_json::to_value(intent).unwrap())),
                    Step::ApplyNodes(nodes) => written.push(("NodeSet", serde_json::to_value(nodes).unwrap())),
                    _ => {}
                }
            }
            assert!(matches!(work, Work::NodeSet | Work::Service(_)));
        }
        (written, said)
    }
}

/// Asserts that the hub takes it, and that what is left out is said for these reasons.
fn is_taken(what: &str, spoke: Spoke, reasons: &[&str]) -> Vec<(&'static str, Value)> {
    let (written, said) = spoke.written();
    assert!(written.iter().any(|(kind, _)| *kind == "TCPLoadBalancer"), "{what}: nothing is written");
    for (kind, object) in &written {
        let refusals = refusals(kind, object);
        assert!(refusals.is_empty(), "{what}: the hub refuses the {kind}: {:?}", &refusals[..refusals.len().min(5)]);
        let bytes = serde_json::to_vec(object).unwrap().len();
        assert!(bytes < BYTES, "{what}: the {kind} has {bytes} bytes");
    }
    for reason in reasons {
        assert!(said.contains(*reason), "{what}: {reason} is not among {said:?}");
    }
    written
}

/// What of an object its schema does not admit.
fn refusals(kind: &str, object: &Value) -> Vec<String> {
    let kinds = nave_api::crds();
    let kind = kinds.iter().find(|known| known.spec.names.kind == kind).unwrap();
    let schema = serde_json::to_value(&kind.spec.versions[0].schema).unwrap();
    let mut found = Vec::new();
    check(&schema["openAPIV3Schema"]["properties"]["spec"], &object["spec"], "spec", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let bound = |name: &str| schema[name].as_u64();
    let mut no = |why: String| found.push(format!("{path}: {why}"));
    match value {
        Value::Null => no("null".to_owned()),
        Value::Bool(_) | Value::String(_) | Value::Number(_) if schema["enum"].is_array() => {
            if !schema["enum"].as_array().unwrap().contains(value) {
                no(format!("{value} is none of {}", schema["enum"]));
            }
        }
        Value::String(text) => {
            let length = u64::try_from(text.chars().count()).unwrap();
            if length < bound("minLength").unwrap_or(0) || length > bound("maxLength").unwrap_or(u64::MAX) {
                no(format!("{length} characters"));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            let limit = |name: &str| schema[name].as_f64();
            if limit("minimum").is_some_and(|least| number < least)
                || limit("maximum").is_some_and(|most| number > most)
            {
                no(format!("{number} is out of bounds"));
            }
        }
        Value::Bool(_) => {}
        Value::Array(items) => {
            let length = u64::try_from(items.len()).unwrap();
            if length < bound("minItems").unwrap_or(0) || length > bound("maxItems").unwrap_or(u64::MAX) {
                no(format!("{length} items"));
            }
            let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let key = |item: &Value| keys.iter().map(|key| item[key].to_string()).collect::<Vec<_>>();
            if !keys.is_empty() && items.iter().map(key).collect::<BTreeSet<_>>().len() < items.len() {
                no("an item twice".to_owned());
            }
            for item in items {
                check(&schema["items"], item, &format!("{path}[]"), found);
            }
        }
        Value::Object(fields) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    no(format!("{name} is required"));
                }
            }
            for (name, field) in fields {
                match schema["properties"].get(name) {
                    Some(property) => check(property, field, &format!("{path}.{name}"), found),
                    None => found.push(format!("{path}.{name}: unknown")),
                }
            }
        }
    }
}

fn ports(count: u16) -> Value {
    let port = |n: u16| json!({"name": format!("p{n:0>62}"), "port": 1000 + n, "nodePort": 30000 + n, "targetPort": format!("p{n}")});
    (0..count).map(port).collect()
}

fn slice(name: &str, ports: &Value, addresses: impl Iterator<Item = String>, node: impl Fn(usize) -> String) -> Value {
    let endpoints: Vec<Value> =
        addresses.enumerate().map(|(n, address)| json!({"addresses": [address], "nodeName": node(n)})).collect();
    let labels = json!({"kubernetes.io/service-name": "web"});
    json!({"metadata": {"namespace": "shop", "name": name, "labels": labels}, "addressType": "IPv6", "ports": ports, "endpoints": endpoints})
}

fn address(n: usize) -> String {
    format!("2001:db8:1111:2222:3333:4444:{:x}:{:x}", n / 65536, n % 65536)
}

fn listed(range: std::ops::Range<u16>) -> Value {
    range.map(|n| json!({"name": format!("p{n:0>62}"), "port": 8000 + n, "protocol": "TCP"})).collect()
}

fn pod_ip() -> Value {
    json!({"nave.dev/backends": "PodIP"})
}

#[test]
fn kind_k_a_service_with_more_ports_than_a_load_balancer_has_is_served_on_the_first() {
    let node = |_| "n1".to_owned();
    for count in [100, 101, 250] {
        // A slice has 100 ports at most: more are in another slice, with the same pods.
        let slices = [listed(0..100), listed(100..count.max(101))]
            .iter()
            .enumerate()
            .map(|(n, ports)| slice(&format!("web-{n}"), ports, (0..3).map(address), node))
            .collect();
        let spoke =
            Spoke { annotations: pod_ip(), service: json!({"ports": ports(count)}), slices, ..Spoke::default() };
        let reasons: &[&str] = if count > 100 { &["TooManyPorts"] } else { &[] };
        let written = is_taken(&format!("PodIP, {count} ports"), spoke, reasons);
        let (_, intent) = written.iter().find(|(kind, _)| *kind == "TCPLoadBalancer").unwrap();
        let endpoints = intent["spec"]["backends"]["endpoints"].as_array().unwrap();
        assert_eq!((endpoints.len(), endpoints[0]["ports"].as_array().unwrap().len()), (1, 100));
        let spoke = Spoke { service: json!({"ports": ports(count)}), ..Spoke::default() };
        is_taken(&format!("node ports, {count} ports"), spoke, reasons);
    }
}

#[test]
fn kind_k_a_service_with_more_pods_than_a_load_balancer_holds_is_served_by_the_first() {
    let one = json!([{"name": "web", "port": 80}]);
    let node = |_| "n1".to_owned();
    let many = |name: usize, first: usize| {
        slice(&format!("web-{name}"), &json!([{"name": "web", "port": 8080}]), (first..first + 1000).map(address), node)
    };
    let slices = (0..60).map(|n| many(n, n * 1000)).collect();
    let spoke = Spoke { annotations: pod_ip(), service: json!({"ports": one}), slices, ..Spoke::default() };
    is_taken("60000 pods", spoke, &["TooManyBackends"]);
    let odd = |n: u16| {
        slice(&format!("web-{n}"), &json!([{"name": "web", "port": n + 1}]), std::iter::once(address(n.into())), node)
    };
    let slices = (0..1500).map(odd).collect();
    let spoke = Spoke { annotations: pod_ip(), service: json!({"ports": one}), slices, ..Spoke::default() };
    is_taken("1500 pods with ports of their own", spoke, &["TooManyBackends"]);
    let slices = (0..900_u16).map(|n| {
        let ports: Value = (0..100).map(|p| json!({"name": format!("p{p:0>62}"), "port": n + p + 1})).collect();
        slice(&format!("web-{n}"), &ports, std::iter::once(address(n.into())), node)
    });
    let service = json!({"ports": ports(100)});
    let spoke = Spoke { annotations: pod_ip(), service, slices: slices.collect(), ..Spoke::default() };
    is_taken("900 pods with 100 ports of their own each", spoke, &["TooManyBackends"]);
}

#[test]
fn kind_k_more_nodes_than_an_object_holds_are_left_out_and_said() {
    let long = |n: usize| format!("{n:0>253}");
    let one = json!([{"name": "web", "port": 80, "nodePort": 30080}]);
    let local = |state: &Value, count: usize| {
        let mut slices: Vec<Value> = (0..count.div_ceil(1000))
            .map(|n| {
                slice(
                    &format!("web-{n}"),
                    &json!([{"name": "web", "port": 8080}]),
                    (0..1000).map(|m| address(n * 1000 + m)),
                    |m| long(n * 1000 + m),
                )
            })
            .collect();
        for endpoint in slices.iter_mut().flat_map(|slice| slice["endpoints"].as_array_mut().unwrap()) {
            endpoint["conditions"] = state.clone();
        }
        Spoke { service: json!({"ports": one, "externalTrafficPolicy": "Local"}), slices, ..Spoke::default() }
    };
    is_taken("6000 nodes with pods", local(&json!({"ready": true}), 6000), &["TooManyBackends"]);
    let ending = json!({"ready": false, "serving": true, "terminating": true});
    is_taken("6000 nodes with pods that terminate", local(&ending, 6000), &["TooManyBackends"]);
    let node = |n: usize| {
        let addresses: Vec<Value> =
            (0..20).map(|m| json!({"type": "InternalIP", "address": address(n * 20 + m)})).collect();
        json!({"metadata": {"name": long(n), "labels": {"topology.kubernetes.io/zone": "z".repeat(63)}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": addresses}})
    };
    let spoke = Spoke { service: json!({"ports": one}), nodes: (0..6000).map(node).collect(), ..Spoke::default() };
    is_taken("6000 nodes of 20 addresses", spoke, &["TooManyNodes"]);
}

#[test]
fn kind_k_what_a_service_says_is_written_within_the_schemas_bounds() {
    let ranges: Vec<String> = (0..1000).map(|n| format!("::ffff:10.{}.{}.0/120", n / 256, n % 256)).collect();
    let one = json!([{"name": "web", "port": 80, "nodePort": 30080}]);
    let spoke = Spoke { service: json!({"ports": one, "loadBalancerSourceRanges": ranges}), ..Spoke::default() };
    let written = is_taken("1000 source ranges", spoke, &["TooManySourceRanges"]);
    let (_, intent) = written.iter().find(|(kind, _)| *kind == "TCPLoadBalancer").unwrap();
    assert_eq!(intent["spec"]["traffic"]["sourceRanges"][0], "10.0.0.0/24");
    let annotations = json!({
        "nave.dev/source-ranges": ranges.join(","), "nave.dev/health-check": "HTTP",
        "nave.dev/health-check-path": format!("/{}", "a".repeat(1024)), "nave.dev/pool": "p".repeat(63),
        "nave.dev/health-check-interval": "9".repeat(40), "nave.dev/max-connections": "4294967296",
        "nave.dev/ejection-failures": "4294967296", "nave.dev/unhealthy-after": "101", "nave.dev/health-check-port": "65536",
    });
    let external: Vec<String> = (0..50).map(|n| format!("203.0.113.{n}")).collect();
    let service = json!({"ports": one, "externalIPs": external, "ipFamilies": ["IPv4", "IPv4", "IPv6"]});
    is_taken("all of it", Spoke { annotations, service, ..Spoke::default() }, &["InvalidAnnotation", "InvalidAddress"]);
}
