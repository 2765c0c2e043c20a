//! What users of `PlenusLB` rely on. Knows its rows; knows no engine.

use std::time::Duration;

use nave_e2e::control_plane::{ControlPlane, Options};
use nave_e2e::wait;
use serde_json::{Value, json};

use crate::wheel::Wheel;

fn public(addresses: &str) -> (&'static str, Value) {
    ("public", json!({"addresses": {"include": [addresses]}}))
}

#[test]
fn p1_a_service_of_type_load_balancer_gets_an_address_of_a_pool_and_one_record() {
    let mut wheel = Wheel::new(&[public("203.0.113.0/30")]);
    wheel.apply("web", &json!({}));
    wheel.apply("internal", &json!({"type": "ClusterIP"}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.0"]);
    assert_eq!(wheel.records(), ["203.0.113.0 default/web"]);
    assert_eq!(wheel.listeners(), ["tcp/203.0.113.0/80"]);
    assert_eq!(wheel.backends("web", "tcp/80"), ["10.1.0.1:30001", "10.1.0.2:30001"]);
}

#[test]
fn p2_a_pool_of_bare_metal_and_one_of_a_cloud_serve_side_by_side() {
    let cloud = ("cloud", json!({"source": {"service": {}}, "use": {}}));
    let mut wheel = Wheel::new(&[public("203.0.113.0/30"), cloud]);
    wheel.apply("metal", &json!({}));
    wheel.apply_with("cloudy", &json!({"nave.dev/pool": "cloud"}), &json!({}));
    wheel.settle();
    assert_eq!((wheel.shows("metal"), wheel.shows("cloudy")), (vec!["203.0.113.0".into()], vec!["192.0.2.1".into()]));
}

#[test]
fn p3_an_address_that_a_cloud_gives_lives_as_long_as_its_service() {
    let mut wheel = Wheel::new(&[("cloud", json!({"source": {"service": {}}}))]);
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["192.0.2.1"]);
    assert_eq!(wheel.hub.cloud.orders.len(), 1);
    wheel.delete("web");
    wheel.settle();
    assert_eq!((wheel.hub.cloud.orders.len(), wheel.records()), (0, Vec::<String>::new()));
}

#[test]
fn p3_a_cloud_address_of_a_service_deleted_while_nobody_looks_is_returned() {
    let mut wheel = Wheel::new(&[("cloud", json!({"source": {"service": {}}}))]);
    wheel.apply("web", &json!({}));
    wheel.settle();
    wheel.delete("web");
    wheel.restart();
    wheel.settle();
    assert_eq!((wheel.hub.cloud.orders.len(), wheel.records()), (0, Vec::<String>::new()));
    assert!(wheel.service("web").is_none());
}

#[test]
fn p3_a_service_that_is_older_than_the_first_pool_gets_an_address_when_there_is_one() {
    let mut wheel = Wheel::new(&[]);
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert_eq!(wheel.waits("web"), "NoPool");
    wheel.pool("cloud", &json!({"source": {"service": {}}}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["192.0.2.1"]);
}

#[test]
fn p3_rapid_edits_order_one_address() {
    let mut wheel = Wheel::new(&[("cloud", json!({"source": {"service": {}}}))]);
    for port in [80, 81, 82] {
        wheel.apply("web", &json!({"ports": [{"port": port}]}));
    }
    wheel.settle();
    wheel.apply("web", &json!({"ports": [{"port": 83}]}));
    wheel.settle();
    assert_eq!((wheel.shows("web"), wheel.hub.cloud.orders.len()), (vec!["192.0.2.1".into()], 1));
}

#[test]
fn p4_external_ips_name_addresses_of_pools_one_of_each_family_and_are_freed_with_the_service() {
    let include = json!({"addresses": {"include": ["203.0.113.7", "203.0.113.8", "2001:db8::7"]}});
    let mut wheel = Wheel::new(&[("public", include)]);
    wheel.apply("web", &json!({"externalIPs": ["203.0.113.7", "2001:db8::7", "203.0.113.8"]}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.7", "2001:db8::7"]);
    assert!(wheel.events("web").contains(&"InvalidAddress".to_owned()), "a second one of a family is told");
    let spec = wheel.service("web").unwrap().spec.clone().unwrap();
    assert_eq!(spec.external_ips.unwrap().len(), 3, "what the user wrote stays");
    wheel.delete("web");
    wheel.settle();
    assert_eq!(wheel.records(), Vec::<String>::new());
}

#[test]
fn p5_a_second_service_gets_no_address_of_another() {
    let mut wheel = Wheel::new(&[public("203.0.113.0/30")]);
    wheel.apply("first", &json!({"externalIPs": ["203.0.113.1"]}));
    wheel.apply("second", &json!({"externalIPs": ["203.0.113.1"], "ports": [{"port": 443}]}));
    wheel.apply("stranger", &json!({"externalIPs": ["198.51.100.1"]}));
    wheel.settle();
    assert_eq!((wheel.waits("second"), wheel.waits("stranger")), ("AddressTaken".into(), "AddressNotOffered".into()));
    assert!(wheel.events("second").contains(&"AddressTaken".to_owned()));
    assert_eq!(wheel.shows("second"), Vec::<String>::new());
    wheel.delete("first");
    wheel.settle();
    assert_eq!(wheel.shows("second"), ["203.0.113.1"]);
}

#[test]
fn p6_external_ips_that_come_and_go_change_the_address() {
    let pool = json!({"addresses": {"include": ["203.0.113.0/30"], "dynamic": ["203.0.113.0/31"]}});
    let mut wheel = Wheel::new(&[("public", pool)]);
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.0"]);
    wheel.apply("web", &json!({"externalIPs": ["203.0.113.2"]}));
    wheel.settle();
    assert_eq!((wheel.shows("web"), wheel.records().len()), (vec!["203.0.113.2".into()], 1));
}

#[test]
fn p7_a_pool_with_namespaces_is_for_those_alone_and_one_without_is_for_all() {
    let of = |address: &str, namespaces: &[&str]| json!({"addresses": {"include": [address]}, "use": {"default": true, "namespaces": namespaces}});
    let mut wheel = Wheel::new(&[("team", of("203.0.113.1", &["team"])), ("other", of("203.0.113.2", &["other"]))]);
    wheel.apply("team/web", &json!({}));
    wheel.apply("team/thief", &json!({"externalIPs": ["203.0.113.2"]}));
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows("team/web"), ["203.0.113.1"]);
    assert_eq!((wheel.waits("team/thief"), wheel.waits("web")), ("PoolNotOpen".into(), "PoolNotOpen".into()));
    wheel.pool("everybodys", &json!({"addresses": {"include": ["203.0.113.9"]}}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.9"]);
}

#[test]
fn p7_a_reserved_pool_comes_before_an_open_one() {
    let team = json!({"addresses": {"include": ["203.0.113.9"]}, "use": {"default": true, "namespaces": ["team"]}});
    let mut wheel = Wheel::new(&[public("203.0.113.0/30"), ("team", team)]);
    wheel.apply("team/web", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows("team/web"), ["203.0.113.9"]);
}

#[test]
fn p17_edits_of_external_ips_are_followed_and_free_nobody_elses() {
    let mut wheel = Wheel::new(&[public("203.0.113.0/29")]);
    wheel.apply("first", &json!({"externalIPs": ["203.0.113.1"]}));
    wheel.apply("second", &json!({"externalIPs": ["203.0.113.1"]}));
    wheel.settle();
    wheel.apply("second", &json!({"externalIPs": ["203.0.113.2"]}));
    wheel.settle();
    assert_eq!((wheel.shows("first"), wheel.shows("second")), (vec!["203.0.113.1".into()], vec!["203.0.113.2".into()]));
    wheel.apply("second", &json!({"externalIPs": ["203.0.113.3"]}));
    wheel.settle();
    assert_eq!(wheel.records(), ["203.0.113.1 default/first", "203.0.113.3 default/second"]);
}

#[test]
fn p18_a_service_of_another_type_lets_go_and_a_record_that_is_lost_is_made_again() {
    let mut wheel = Wheel::new(&[public("203.0.113.0/30")]);
    wheel.apply("web", &json!({}));
    wheel.settle();
    wheel.forget_records();
    wheel.settle();
    assert_eq!(
        (wheel.records(), wheel.shows("web")),
        (vec!["203.0.113.0 default/web".into()], vec!["203.0.113.0".into()])
    );
    wheel.apply("web", &json!({"type": "ClusterIP"}));
    wheel.settle();
    assert_eq!((wheel.records(), wheel.shows("web"), wheel.listeners()), (vec![], vec![], vec![]));
    let finalizers = wheel.service("web").unwrap().metadata.finalizers.clone();
    assert_eq!(finalizers.unwrap_or_default(), Vec::<String>::new());
}

#[test]
fn p19_an_address_that_leaves_its_pool_is_served_on_says_so_and_is_not_given_again() {
    let mut wheel = Wheel::new(&[public("203.0.113.0/31")]);
    wheel.apply("first", &json!({}));
    wheel.apply("second", &json!({}));
    wheel.settle();
    wheel.pool("public", &json!({"addresses": {"include": ["203.0.113.0"]}}));
    wheel.settle();
    assert_eq!(wheel.shows("second"), ["203.0.113.1"]);
    assert!(wheel.listeners().contains(&"tcp/203.0.113.1/80".to_owned()));
    assert_eq!(wheel.says("second", "Allocated"), "True/Orphaned");
    wheel.delete("second");
    wheel.apply("third", &json!({}));
    wheel.settle();
    assert_eq!(
        (wheel.waits("third"), wheel.records()),
        ("PoolExhausted".into(), vec!["203.0.113.0 default/first".into()])
    );
}

#[test]
fn p19_a_pool_deleted_in_use_serves_on_until_its_last_owner_goes() {
    let mut wheel = Wheel::new(&[public("203.0.113.0/31")]);
    wheel.apply("web", &json!({}));
    wheel.settle();
    wheel.hub.delete_pool("public");
    wheel.settle();
    assert_eq!(
        (wheel.shows("web"), wheel.says("web", "Allocated")),
        (vec!["203.0.113.0".into()], "True/Orphaned".into())
    );
    wheel.delete("web");
    wheel.settle();
    assert_eq!(wheel.records(), Vec::<String>::new());
}

#[test]
fn p20_who_waits_is_never_given_up() {
    let mut wheel = Wheel::new(&[public("203.0.113.0")]);
    wheel.apply("first", &json!({}));
    wheel.apply("second", &json!({}));
    wheel.settle();
    wheel.hub.now += 30 * 24 * 3600;
    wheel.settle();
    assert_eq!(wheel.waits("second"), "PoolExhausted");
    wheel.delete("first");
    wheel.settle();
    assert_eq!(wheel.shows("second"), ["203.0.113.0"]);
}

#[test]
fn p21_a_manager_that_follows_another_changes_nothing() {
    let mut wheel = Wheel::new(&[public("203.0.113.0/31")]);
    for name in ["first", "second", "third"] {
        wheel.apply(name, &json!({}));
    }
    wheel.settle();
    let before = (wheel.records(), wheel.hub.served.clone(), wheel.hub.status_writes);
    wheel.restart();
    wheel.hub.engine.replan();
    wheel.settle();
    assert!(before == (wheel.records(), wheel.hub.served.clone(), wheel.hub.status_writes));
    assert_eq!(wheel.waits("third"), "PoolExhausted");
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_kubectl_lists_records_as_ipa_with_their_columns() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let kind = nave_api::crds().into_iter().find(|kind| kind.spec.names.kind == "IPAllocation").unwrap();
    assert_eq!(kind.spec.names.short_names.as_deref(), Some(["ipa".to_owned()].as_slice()));
    assert_eq!(kind.spec.names.categories.as_deref(), Some(["nave".to_owned()].as_slice()));
    nave_e2e::apply(&plane.client(), &serde_json::to_value(kind).unwrap()).await.unwrap();
    let owner = json!({"namespace": "tenant-shop", "kind": "TCPLoadBalancer", "name": "web", "uid": "1"});
    let record = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "IPAllocation", "metadata": {"name": "203.0.113.7"},
        "spec": {"address": "203.0.113.7", "pool": "public", "owners": [owner]},
    });
    let table = wait::until("the API server serves the kind", Duration::from_mins(1), || async {
        nave_e2e::apply(&plane.client(), &record).await.map_err(|error| error.to_string())?;
        let asked = http::Request::get("/apis/nave.dev/v1alpha1/ipallocations");
        let asked = asked.header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io").body(Vec::new()).unwrap();
        plane.client().request::<Value>(asked).await.map_err(|error| error.to_string())
    });
    let table = table.await.unwrap();
    let shown = |column: &Value| column["priority"] == 0;
    let columns = table["columnDefinitions"].as_array().unwrap();
    let heads: Vec<&Value> = columns.iter().filter(|column| shown(column)).map(|column| &column["name"]).collect();
    assert_eq!(heads, ["Name", "Address", "Pool", "Namespace", "Owner", "Age"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..5], ["203.0.113.7", "203.0.113.7", "public", "tenant-shop", "web"]);
}
