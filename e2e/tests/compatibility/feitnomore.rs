//! What users of kubernetes-lb-controller rely on, beside the cases of its matrix next door. Knows its rows; knows no engine.

use serde_json::{Value, json};

use crate::wheel::Wheel;

/// A list of addresses of a namespace; somebody else has put them on nodes.
fn list(addresses: &[&str], namespace: &str) -> Value {
    json!({
        "addresses": {"include": addresses}, "announce": {"external": {}},
        "use": {"default": true, "namespaces": [namespace]},
    })
}

fn wheel() -> Wheel {
    let default = list(&["203.0.113.220", "203.0.113.221"], "default");
    Wheel::new(&[("of-default", default), ("of-test", list(&["203.0.113.225"], "test"))])
}

#[test]
fn f1_each_namespace_has_a_list_that_no_other_reaches() {
    let mut wheel = wheel();
    wheel.apply("test/thief", &json!({"externalIPs": ["203.0.113.220"]}));
    wheel.apply("test/web", &json!({}));
    wheel.settle();
    assert_eq!(
        (wheel.waits("test/thief"), wheel.shows("test/web")),
        ("PoolNotOpen".into(), vec!["203.0.113.225".into()])
    );
    wheel.delete("test/thief");
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.220"], "it is in the list that it was in");
}

#[test]
fn f2_a_list_is_edited_while_everybody_works_and_a_bad_line_harms_nobody_else() {
    let mut wheel = wheel();
    for name in ["first", "second", "third"] {
        wheel.apply(name, &json!({}));
        wheel.settle();
    }
    assert_eq!(wheel.waits("third"), "PoolExhausted");
    let doubled = ["203.0.113.220", "203.0.113.220", "203.0.113.221", "203.0.113.222", "2001:db8::1"];
    wheel.pool("of-default", &list(&doubled, "default"));
    wheel.pool("of-other", &list(&["203.0.113.999", ""], "other"));
    wheel.settle();
    assert_eq!(wheel.shows("third"), ["203.0.113.222"]);
    assert_eq!(wheel.pool_says("of-other", "Ready"), "False/InvalidAddresses");
    assert_eq!(wheel.shows("first"), ["203.0.113.220"]);
}

#[test]
fn f3_a_free_address_of_the_list_shows_in_the_status_and_the_spec_stays_as_written() {
    let mut wheel = wheel();
    wheel.apply("web", &json!({"externalTrafficPolicy": "Cluster"}));
    let before = wheel.service("web").unwrap().spec.clone();
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.220"]);
    assert_eq!(wheel.service("web").unwrap().spec, before);
}

#[test]
fn f4_a_freed_address_waits_for_its_last_owner_as_long_as_the_pool_says() {
    let mut wheel = wheel();
    let mut held = list(&["203.0.113.220", "203.0.113.221"], "default");
    held["holdFor"] = json!("1h");
    wheel.pool("of-default", &held);
    wheel.apply("web", &json!({}));
    wheel.settle();
    wheel.delete("web");
    wheel.settle();
    wheel.restart();
    for name in ["other", "late"] {
        wheel.apply(name, &json!({}));
        wheel.settle();
    }
    assert_eq!((wheel.shows("other"), wheel.waits("late")), (vec!["203.0.113.221".into()], "PoolExhausted".into()));
    wheel.apply("web", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows("web"), ["203.0.113.220"]);
    wheel.delete("web");
    wheel.settle();
    wheel.hub.now += 3601;
    wheel.settle();
    assert_eq!(wheel.shows("late"), ["203.0.113.220"], "nothing is kept for longer");
}

#[test]
fn f5_who_finds_no_free_address_or_no_list_waits_and_is_told() {
    let mut wheel = wheel();
    for place in ["first", "second", "third", "elsewhere/web"] {
        wheel.apply(place, &json!({}));
        wheel.settle();
    }
    assert_eq!(
        (wheel.events("third"), wheel.events("elsewhere/web")),
        (vec!["PoolExhausted".into()], vec!["PoolNotOpen".into()])
    );
    wheel.delete("first");
    wheel.settle();
    assert_eq!(wheel.shows("third"), ["203.0.113.220"], "nobody has to touch it");
}

#[test]
fn f6_who_comes_with_an_address_of_another_waits_for_it_and_keeps_his_spec() {
    let mut wheel = wheel();
    wheel.apply("owner", &json!({"externalIPs": ["203.0.113.221"]}));
    wheel.settle();
    wheel.apply("second", &json!({"externalIPs": ["203.0.113.221"]}));
    wheel.settle();
    assert_eq!((wheel.waits("second"), wheel.shows("second")), ("AddressTaken".into(), vec![]));
    let spec = wheel.service("second").unwrap().spec.clone().unwrap();
    assert_eq!(spec.external_ips.unwrap(), ["203.0.113.221"]);
    wheel.delete("second");
    wheel.settle();
    assert_eq!(wheel.records(), ["203.0.113.221 default/owner"], "who only asked frees nothing");
}

#[test]
fn f6_after_a_restart_nobody_who_waits_takes_the_address_of_one_who_has_it() {
    let mut wheel = wheel();
    wheel.apply("z-owner", &json!({"externalIPs": ["203.0.113.220"]}));
    wheel.settle();
    wheel.apply("y-owner", &json!({}));
    wheel.settle();
    wheel.apply("a-waits", &json!({"externalIPs": ["203.0.113.220"]}));
    wheel.apply("b-waits", &json!({}));
    wheel.settle();
    let before = wheel.records();
    wheel.restart();
    wheel.settle();
    assert_eq!(wheel.records(), before);
    assert_eq!((wheel.shows("z-owner"), wheel.waits("a-waits")), (vec!["203.0.113.220".into()], "AddressTaken".into()));
}

#[test]
fn f7_an_edit_moves_only_whom_it_is_about() {
    let mut wheel = wheel();
    for name in ["first", "second"] {
        wheel.apply(name, &json!({}));
        wheel.settle();
    }
    wheel.apply("first", &json!({"externalIPs": ["203.0.113.221"]}));
    wheel.settle();
    assert_eq!((wheel.shows("first"), wheel.waits("first")), (vec!["203.0.113.220".into()], "AddressTaken".into()));
    wheel.delete("second");
    wheel.settle();
    assert_eq!(wheel.records(), ["203.0.113.221 default/first"]);
    wheel.apply("first", &json!({}));
    wheel.settle();
    assert_eq!(wheel.shows("first"), ["203.0.113.221"]);
}

#[test]
fn f8_whoever_goes_frees_his_address_and_so_does_who_changes_his_type() {
    let mut wheel = wheel();
    wheel.apply("first", &json!({}));
    wheel.apply("second", &json!({}));
    wheel.settle();
    wheel.delete("first");
    wheel.apply("second", &json!({"type": "ClusterIP"}));
    wheel.settle();
    assert_eq!((wheel.records(), wheel.shows("second")), (Vec::<String>::new(), Vec::<String>::new()));
}
