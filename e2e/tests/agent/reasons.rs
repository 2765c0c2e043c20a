//! Why a Service is not served as its user asked, where the user looks: conditions of the Service and Events on it.

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::in_pair;
use crate::pair::{Pair, intent_name};

const ACCEPTED: &str = "nave.dev/Accepted";
const PROGRAMMED: &str = "nave.dev/Programmed";

/// Writes conditions of the hub's manager: status, reason and message.
async fn answer(pair: &Pair, name: &str, conditions: &[(&str, &str, &str, &str)]) {
    let condition = |(kind, status, reason, message): &(&str, &str, &str, &str)| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
    };
    let conditions: Vec<Value> = conditions.iter().map(condition).collect();
    let address = json!({"value": "203.0.113.90", "family": "IPv4", "pool": "public", "ports": [{"protocol": "TCP", "port": 443}]});
    let status = Patch::Merge(json!({"status": {"addresses": [address], "conditions": conditions}}));
    pair.intents().patch_status(&intent_name(name), &PatchParams::default(), &status).await.unwrap();
}

async fn annotate(pair: &Pair, name: &str, annotations: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    pair.services().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[test]
fn kind_m_a_request_that_cannot_be_read_waits_until_it_can() {
    in_pair(async |pair| {
        let service = |name: &str, annotations: Value, address: &str| {
            json!({
                "metadata": {"name": name, "namespace": "default", "annotations": annotations},
                "spec": {"type": "LoadBalancer", "ports": [{"port": 443}], "loadBalancerIP": address},
            })
        };
        let unread = [
            service("unread-address", json!({}), "203.0.113.70/32"),
            service("unread-pool", json!({"nave.dev/pool": "The Pool"}), ""),
            service("unread-families", json!({"nave.dev/families": "ipv6"}), ""),
        ];
        for service in unread.map(|service| serde_json::from_value(service).unwrap()) {
            pair.services().create(&PostParams::default(), &service).await.unwrap();
        }
        pair.says("unread-address", ACCEPTED, Some(("False", "InvalidAddress"))).await;
        pair.says("unread-pool", ACCEPTED, Some(("False", "InvalidAnnotation"))).await;
        let message = pair.says("unread-families", ACCEPTED, Some(("False", "InvalidAnnotation"))).await;
        assert!(message.starts_with("nave.dev/families: \"ipv6\" is not understood"), "{message}");
        for name in ["unread-address", "unread-pool", "unread-families"] {
            assert!(pair.intents().get_opt(&intent_name(name)).await.unwrap().is_none(), "{name} waits");
        }
        let blank = Patch::Merge(json!({"spec": {"loadBalancerIP": "203.0.113.70 "}}));
        pair.services().patch("unread-address", &PatchParams::default(), &blank).await.unwrap();
        assert_eq!(pair.intent("unread-address").await.spec.address.unwrap().requested, ["203.0.113.70"]);
        pair.says("unread-address", ACCEPTED, None).await;
        // What has an intent keeps what it asked for.
        annotate(pair, "unread-address", json!({"nave.dev/addresses": "somewhere", "nave.dev/balancing": "Random"}))
            .await;
        pair.says("unread-address", ACCEPTED, Some(("True", "InvalidAnnotation"))).await;
        pair.until("the rest of the edit is followed", async || {
            let spec =
                pair.intents().get(&intent_name("unread-address")).await.map_err(|error| error.to_string())?.spec;
            let is_random = spec.traffic.as_ref().is_some_and(|traffic| traffic.balancing.is_some());
            let requested = spec.address.unwrap_or_default().requested;
            if is_random && requested == ["203.0.113.70"] { Ok(()) } else { Err(format!("{requested:?}")) }
        })
        .await;
    });
}

#[test]
fn kind_m_a_service_that_waits_in_the_hub_says_why_as_long_as_it_waits() {
    in_pair(async |pair| {
        pair.service("waits", json!({})).await;
        pair.intent("waits").await;
        let accepted = ("Accepted", "True", "Accepted", "");
        let referring = ("Programmed", "False", "NotAllocated", "waits for its addresses");
        for reason in ["PoolNotOpen", "AddressTaken", "PoolExhausted"] {
            let words = format!("the hub's words of {reason}");
            answer(pair, "waits", &[accepted, ("Allocated", "False", reason, &words), referring]).await;
            assert_eq!(pair.says("waits", PROGRAMMED, Some(("False", reason))).await, words);
        }
        let partly = ("Accepted", "True", "BackendsRefused", "backends left out: 10.0.0.99");
        let (allocated, programmed) =
            (("Allocated", "True", "Allocated", ""), ("Programmed", "True", "Programmed", ""));
        answer(pair, "waits", &[partly, allocated, programmed]).await;
        pair.says("waits", PROGRAMMED, None).await;
        assert_eq!(
            pair.says("waits", ACCEPTED, Some(("True", "BackendsRefused"))).await,
            "backends left out: 10.0.0.99"
        );
        answer(pair, "waits", &[("Accepted", "False", "TenantSuspended", "suspended"), allocated, referring]).await;
        pair.says("waits", ACCEPTED, Some(("False", "TenantSuspended"))).await;
        pair.shows("waits", &["203.0.113.90"]).await;
        answer(pair, "waits", &[accepted, allocated, programmed]).await;
        pair.says("waits", ACCEPTED, None).await;
    });
}

#[test]
fn kind_m_a_hub_that_does_not_answer_is_said_once_it_has_lasted() {
    in_pair(async |pair| {
        pair.service("unanswered", json!({})).await;
        pair.intent("unanswered").await;
        let message = pair.says("unanswered", PROGRAMMED, Some(("False", "Pending"))).await;
        assert_eq!(message, "The hub has not answered yet");
        answer(pair, "unanswered", &[("Programmed", "True", "Programmed", "")]).await;
        pair.says("unanswered", PROGRAMMED, None).await;
        pair.shows("unanswered", &["203.0.113.90"]).await;
    });
}

#[test]
fn kind_m_two_problems_of_one_reason_are_two_events() {
    in_pair(async |pair| {
        pair.service("twice", json!({})).await;
        annotate(pair, "twice", json!({"nave.dev/balancing": "fastest", "nave.dev/idle-timeout": "soon"})).await;
        let notes = pair.notes("twice", "InvalidAnnotation", 2).await;
        assert!(notes[0].starts_with("nave.dev/balancing: \"fastest\""), "{notes:?}");
        assert!(notes[1].starts_with("nave.dev/idle-timeout: \"soon\""), "{notes:?}");
    });
}

#[test]
fn kind_m_a_selector_that_matches_nothing_ready_is_said_and_the_address_stays() {
    in_pair(async |pair| {
        pair.service("unready", json!({"selector": {"app": "unready"}})).await;
        pair.intent("unready").await;
        answer(
            pair,
            "unready",
            &[("Accepted", "True", "NoBackends", "none"), ("Programmed", "True", "Programmed", "")],
        )
        .await;
        pair.shows("unready", &["203.0.113.90"]).await;
        pair.says("unready", ACCEPTED, Some(("True", "NoReadyEndpoints"))).await;
        pair.says("unready", PROGRAMMED, None).await;
        pair.shows("unready", &["203.0.113.90"]).await;
        answer(pair, "unready", &[("Accepted", "True", "Accepted", ""), ("Programmed", "True", "Programmed", "")])
            .await;
        let labels = json!({"kubernetes.io/service-name": "unready"});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "unready-by-hand", "namespace": "default", "labels": labels},
            "ports": [{"name": "", "port": 8443}], "endpoints": [{"addresses": ["10.1.0.1"]}]});
        nave_e2e::apply(&pair.spoke.client(), &slice).await.unwrap();
        pair.says("unready", ACCEPTED, None).await;
    });
}
