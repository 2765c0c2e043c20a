//! Allocations whose pool is gone. Knows behaviours; knows no room inside the engine. Tests are named after kind M of faults.

use nave_manager_core::{Key, Step};
use serde_json::{Value, json};

use super::support::hub::Hub;
use super::support::objects::{balancer, pool};
use super::{NS, allocation, hub, includes, put, recorded, says, with};

/// Deletes the pool `old` and makes `new` of these addresses; what is served must not change.
fn replaced(hub: &mut Hub, new: &Value) {
    let (before, served) = (hub.allocations.clone(), hub.served.clone());
    hub.delete_pool("old");
    hub.settle();
    hub.now += 1;
    hub.pool(pool("new", new));
    hub.settle();
    for (key, was) in before {
        let now = &hub.allocations[&key];
        assert_eq!((&now.spec.owners, &now.spec.group), (&was.spec.owners, &was.spec.group), "{key} moves as it is");
        assert_eq!(now.metadata.uid, was.metadata.uid, "the lock on {key} stays");
    }
    assert_eq!(hub.served, served, "nothing is served differently");
}

const OLD: [&str; 2] = ["203.0.113.0/30", "2001:db8::/126"];

#[test]
fn m_2_an_allocation_moves_to_the_pool_that_includes_its_address_when_its_own_is_gone() {
    for families in [json!(["IPv4"]), json!(["IPv6"])] {
        let mut hub = hub(&[("old", includes(&OLD))]);
        put(&mut hub, NS, "web", &json!({"families": families}));
        let address = hub.addresses(NS, "web").remove(0);
        replaced(&mut hub, &includes(&OLD));
        assert_eq!(recorded(&hub), [(address.clone(), "new")]);
        let labels = allocation(&hub, &address).metadata.labels.clone().unwrap_or_default();
        assert_eq!(labels.get("nave.dev/pool").map(String::as_str), Some("new"));
        assert_eq!(says(&hub, NS, "web"), format!("Allocated: {address} from pool new"));
        let status = |name: &str| hub.pools[&Key::cluster(name)].status.clone().unwrap_or_default();
        assert_eq!((status("new").used, status("new").free.as_deref()), (1, Some("7")));
    }
}

#[test]
fn m_2_a_load_balancer_that_names_the_new_pool_and_its_own_address_keeps_that() {
    let mut hub = hub(&[("old", includes(&OLD))]);
    put(&mut hub, NS, "web", &json!({"pool": "old"}));
    replaced(&mut hub, &includes(&OLD));
    assert_eq!(recorded(&hub), [("203.0.113.0".to_owned(), "old")], "it names the old pool");
    let told = says(&hub, NS, "web");
    assert!(
        told.starts_with("Orphaned: ") && told.contains("when spec.address.pool names that pool or none"),
        "{told}"
    );
    put(&mut hub, NS, "web", &json!({"pool": "new", "requested": ["203.0.113.0"]}));
    assert_eq!(recorded(&hub), [("203.0.113.0".to_owned(), "new")]);
    assert_eq!(says(&hub, NS, "web"), "Allocated: 203.0.113.0 from pool new");
    let told: Vec<&str> = hub.announced.iter().map(|event| event.reason.as_str()).collect();
    assert!(!told.contains(&"AddressTaken"), "{told:?}");
}

#[test]
fn m_2_a_range_that_an_edit_moves_to_another_pool_takes_its_allocations_along() {
    let mut hub = hub(&[("old", includes(&["203.0.113.0/29"])), ("new", includes(&["198.51.100.0/30"]))]);
    put(&mut hub, NS, "web", &json!({"requested": ["203.0.113.5"]}));
    hub.pool(pool("old", &includes(&["203.0.113.0/30"])));
    hub.settle();
    assert_eq!(recorded(&hub), [("203.0.113.5".to_owned(), "old")]);
    hub.pool(pool("new", &includes(&["198.51.100.0/30", "203.0.113.4/30"])));
    hub.settle();
    assert_eq!(recorded(&hub), [("203.0.113.5".to_owned(), "new")]);
}

#[test]
fn m_2_a_range_with_a_mistake_moves_nothing() {
    let mut hub = hub(&[("old", includes(&["203.0.113.0/29"])), ("new", includes(&["203.0.113.0/28"]))]);
    put(&mut hub, NS, "web", &json!({}));
    hub.pool(pool("old", &includes(&["203.0.113.9-203.0.113.1"])));
    hub.settle();
    assert_eq!(recorded(&hub), [("203.0.113.0".to_owned(), "old")]);
}

#[test]
fn m_2_an_older_pool_that_overlapped_gets_the_allocations_when_it_is_alone() {
    let mut hub = hub(&[("old", includes(&["203.0.113.0/30"])), ("new", includes(&["203.0.113.0/29"]))]);
    put(&mut hub, NS, "web", &json!({}));
    hub.delete_pool("old");
    hub.settle();
    assert_eq!(recorded(&hub), [("203.0.113.0".to_owned(), "new")]);
}

#[test]
fn m_2_an_allocation_that_the_new_pool_does_not_let_in_stays_and_says_why() {
    let base = includes(&OLD);
    let stays = [
        (with(base.clone(), &json!({"fleet": "other"})), "served by another fleet, other"),
        (
            with(base.clone(), &json!({"use": {"tenants": {"names": ["news"]}}})),
            "is not open to the tenants that have it",
        ),
        (with(base, &json!({"use": {"namespaces": ["bank"]}})), "is not open to this namespace of the spoke"),
    ];
    for (new, why) in stays {
        let mut hub = hub(&[("old", includes(&OLD))]);
        put(&mut hub, NS, "web", &json!({}));
        replaced(&mut hub, &new);
        assert_eq!(recorded(&hub), [("203.0.113.0".to_owned(), "old")], "{why}");
        let told = says(&hub, NS, "web");
        assert!(told.starts_with("Orphaned: ") && told.contains(why), "{told}");
        hub.pool(pool("new", &includes(&OLD)));
        hub.settle();
        assert_eq!(recorded(&hub), [("203.0.113.0".to_owned(), "new")], "{why} no more");
    }
}

#[test]
fn m_2_a_shared_allocation_moves_where_it_may_be_shared_and_stays_elsewhere() {
    let shared = with(includes(&["203.0.113.0"]), &json!({"sharing": "ByPort"}));
    for (new, to) in [(shared.clone(), "new"), (includes(&["203.0.113.0"]), "old")] {
        let mut hub = hub(&[("old", shared.clone())]);
        for (name, port) in [("web", 80), ("mail", 25)] {
            hub.now += 1;
            hub.balancer(balancer(NS, name, &json!({"ports": [{"port": port, "backendPort": 30080}]})));
            hub.settle();
        }
        replaced(&mut hub, &new);
        assert_eq!(recorded(&hub), [("203.0.113.0".to_owned(), to)]);
        for name in ["web", "mail"] {
            let told = says(&hub, NS, name);
            let is_told =
                if to == "new" { told.starts_with("Allocated: ") } else { told.contains("does not let these") };
            assert!(is_told, "{name}: {told}");
        }
    }
}

#[test]
fn m_2_ports_that_a_range_moved_stay_when_the_allocation_moves() {
    let ranged = with(includes(&["203.0.113.0"]), &json!({"portRange": {"low": 8100, "high": 8102}}));
    let mut hub = hub(&[("old", ranged)]);
    put(&mut hub, NS, "web", &json!({}));
    replaced(&mut hub, &includes(&["203.0.113.0"]));
    assert_eq!(recorded(&hub), [("203.0.113.0".to_owned(), "new")]);
    let port = allocation(&hub, "203.0.113.0").spec.owners[0].ports[0];
    assert_eq!((port.port, port.stands_for), (8100, Some(80)));
}

#[test]
fn m_2_a_move_that_fails_is_tried_again_and_loses_nothing() {
    let mut hub = hub(&[("old", includes(&OLD))]);
    put(&mut hub, NS, "web", &json!({}));
    let served = hub.served.clone();
    hub.delete_pool("old");
    hub.pool(pool("new", &includes(&OLD)));
    let moves: Vec<Step> = hub.decide().into_iter().filter(|s| matches!(s, Step::ReplaceAllocation(_))).collect();
    assert_eq!(moves.len(), 1);
    hub.engine.failed(&moves[0]);
    hub.settle();
    assert_eq!((recorded(&hub), &hub.served), (vec![("203.0.113.0".to_owned(), "new")], &served));
}
