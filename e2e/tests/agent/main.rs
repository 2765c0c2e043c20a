//! The agent between two real API servers; the test speaks for the hub's manager. Tests that break nothing share a pair.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod backends;
mod breaking;
mod pair;
mod reasons;

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;

use futures::FutureExt as _;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use nave_api::names;
use nave_api::tcp_load_balancer::Backends;
use pair::{Pair, intent_name};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

// Clients live on the runtime that made them: all tests that share the pair use one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static PAIR: OnceCell<Pair> = OnceCell::const_new();

fn in_pair(test: impl AsyncFnOnce(&Pair)) {
    RUNTIME.block_on(async {
        let pair = PAIR.get_or_init(|| Pair::start(&[])).await;
        if let Err(panic) = AssertUnwindSafe(test(pair)).catch_unwind().await {
            eprintln!("{}", pair.agent.process().tail(40));
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_service_becomes_an_intent_of_its_origin_with_node_ports() {
    in_pair(async |pair| {
        let service = pair.service("made", json!({"loadBalancerSourceRanges": ["198.51.100.0/24"]})).await;
        let intent = pair.intent("made").await;
        let origin = intent.spec.origin.clone().unwrap();
        assert_eq!((origin.name, origin.uid), ("made".to_owned(), service.uid().unwrap()));
        assert_eq!(intent.labels()[names::ORIGIN_UID_LABEL], service.uid().unwrap());
        let node_port = service.spec.unwrap().ports.unwrap()[0].node_port.unwrap();
        assert_eq!((intent.spec.ports[0].port, i32::from(intent.spec.ports[0].backend_port)), (443, node_port));
        assert!(
            matches!(&intent.spec.backends, Backends::Nodes(nodes) if nodes.node_set == "default" && nodes.only.is_none())
        );
        assert_eq!(intent.spec.traffic.unwrap().source_ranges, ["198.51.100.0/24"]);
        pair.held("made").await;
    });
}

#[test]
fn a_name_that_the_hub_gave_is_ours_to_change_and_to_clear_and_never_a_backend() {
    in_pair(async |pair| {
        pair.service("named", json!({})).await;
        pair.intent("named").await;
        for name in ["one.lb.example", "two.lb.example"] {
            pair.answer("named", &[name], "True", "Programmed").await;
            pair.shows("named", &[name]).await;
        }
        let provider = json!({"metadata": {"annotations": {"nave.dev/backends": "Provider"}}});
        pair.services().patch("named", &PatchParams::default(), &Patch::Merge(provider)).await.unwrap();
        pair.until("its backends are those of a cloud that has said nothing", async || {
            match pair.intent("named").await.spec.backends {
                Backends::Endpoints(none) if none.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        pair.shows("named", &[]).await;
        let events: Api<Event> = Api::namespaced(pair.spoke.client(), "default");
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let about =
            all.iter().filter(|event| event.regarding.as_ref().is_some_and(|r| r.name.as_deref() == Some("named")));
        let reasons: Vec<&str> = about.filter_map(|event| event.reason.as_deref()).collect();
        assert!(!reasons.contains(&"ContestedStatus"), "{reasons:?}");
    });
}

#[test]
fn the_hubs_answer_shows_in_the_service_once_programmed_and_stays() {
    in_pair(async |pair| {
        pair.service("shown", json!({})).await;
        pair.intent("shown").await;
        pair.answer("shown", &["203.0.113.7"], "False", "Pending").await;
        pair.answer("shown", &["203.0.113.7"], "True", "Programmed").await;
        pair.shows("shown", &["203.0.113.7"]).await;
        let service = pair.services().get("shown").await.unwrap();
        let ingress = service.status.unwrap().load_balancer.unwrap().ingress.unwrap();
        assert_eq!(ingress[0].ip_mode.as_deref(), Some("Proxy"));
        assert_eq!(ingress[0].ports.as_ref().unwrap()[0].port, 443);
        pair.is_told("shown", &["Programmed"]).await;
        pair.answer("shown", &["203.0.113.7"], "False", "NoEnvoy").await;
        pair.is_told("shown", &["NoEnvoy", "Programmed"]).await;
        pair.shows("shown", &["203.0.113.7"]).await;
        pair.answer("shown", &[], "False", "NoEnvoy").await;
        pair.shows("shown", &[]).await;
    });
}

#[test]
fn a_deleted_service_goes_after_the_hub_has_let_go() {
    in_pair(async |pair| {
        pair.service("deleted", json!({})).await;
        pair.intent("deleted").await;
        pair.held("deleted").await;
        // Somebody in the hub is not done with it yet.
        let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
        pair.intents().patch(&intent_name("deleted"), &PatchParams::default(), &Patch::Merge(&hold)).await.unwrap();
        pair.services().delete("deleted", &DeleteParams::default()).await.unwrap();
        pair.until("the intent is going", async || {
            let intent = pair.intents().get(&intent_name("deleted")).await.map_err(|error| error.to_string())?;
            intent.metadata.deletion_timestamp.map(drop).ok_or_else(|| "not deleted".to_owned())
        })
        .await;
        assert!(pair.services().get_opt("deleted").await.unwrap().is_some(), "the finalizer keeps the Service");
        let let_go = json!({"metadata": {"finalizers": null}});
        pair.intents().patch(&intent_name("deleted"), &PatchParams::default(), &Patch::Merge(&let_go)).await.unwrap();
        pair.gone("deleted").await;
    });
}

#[test]
fn a_service_of_another_type_is_let_go() {
    in_pair(async |pair| {
        pair.service("retyped", json!({})).await;
        pair.intent("retyped").await;
        pair.answer("retyped", &["203.0.113.8"], "True", "Programmed").await;
        pair.shows("retyped", &["203.0.113.8"]).await;
        let patch = Patch::Merge(json!({"spec": {"type": "ClusterIP"}}));
        pair.services().patch("retyped", &PatchParams::default(), &patch).await.unwrap();
        pair.until("the hub and our finalizer have let go", async || {
            let intent = pair.intents().get_opt(&intent_name("retyped")).await.map_err(|error| error.to_string())?;
            let finalizers = pair.services().get("retyped").await.unwrap().finalizers().to_vec();
            if intent.is_none() && finalizers.is_empty() { Ok(()) } else { Err(format!("{intent:?} {finalizers:?}")) }
        })
        .await;
        pair.shows("retyped", &[]).await;
    });
}

#[test]
fn an_edit_is_followed_and_what_the_hub_lost_is_made_again() {
    in_pair(async |pair| {
        pair.service("edited", json!({})).await;
        pair.intent("edited").await;
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"nave.dev/pool": "other"}}}));
        pair.services().patch("edited", &PatchParams::default(), &patch).await.unwrap();
        let follows = async |what: &str| {
            pair.until(what, async || {
                let intent = pair.intents().get(&intent_name("edited")).await.map_err(|error| error.to_string())?;
                let pool = intent.spec.address.and_then(|address| address.pool);
                if pool.as_deref() == Some("other") { Ok(()) } else { Err(format!("{pool:?}")) }
            })
            .await;
        };
        follows("the intent follows").await;
        pair.intents().delete(&intent_name("edited"), &DeleteParams::default()).await.unwrap();
        follows("the intent is made again").await;
    });
}

#[test]
fn the_ready_nodes_are_one_object_in_the_hub() {
    in_pair(async |pair| {
        let expect = async |what: &str, names: &[&str]| {
            pair.until(what, async || {
                let set = pair.node_sets().get("default").await.map_err(|error| error.to_string())?;
                let present: Vec<&str> = set.spec.nodes.iter().map(|node| node.name.as_str()).collect();
                if present == names { Ok(()) } else { Err(format!("{present:?}")) }
            })
            .await;
        };
        pair::report(&pair.spoke, "n1", "10.0.0.1", "True").await;
        expect("the ready node is there", &[pair::BASE, "n1"]).await;
        pair::report(&pair.spoke, "n1", "10.0.0.1", "False").await;
        expect("the node that is not ready is not", &[pair::BASE]).await;
    });
}

#[test]
fn local_traffic_follows_the_endpoints() {
    in_pair(async |pair| {
        pair.service("local", json!({"externalTrafficPolicy": "Local"})).await;
        let only = async |what: &str, nodes: &[&str]| {
            pair.until(what, async || {
                let intent = pair.intents().get(&intent_name("local")).await.map_err(|error| error.to_string())?;
                match intent.spec.backends {
                    Backends::Nodes(backends) if backends.only.as_deref().is_some_and(|only| only == nodes) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        };
        only("nobody has endpoints", &[]).await;
        let labels = json!({"kubernetes.io/service-name": "local"});
        let endpoints = json!([{"addresses": ["10.1.0.1"], "nodeName": "n1"}, {"addresses": ["10.1.0.2"], "nodeName": "n2", "conditions": {"ready": false}}]);
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "local-1", "namespace": "default", "labels": labels}, "endpoints": endpoints,
            "ports": [{"name": "", "protocol": "TCP", "port": 8443}]});
        nave_e2e::apply(&pair.spoke.client(), &slice).await.unwrap();
        only("the node with a ready endpoint is used", &["n1"]).await;
        let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> =
            Api::namespaced(pair.spoke.client(), "default");
        slices.delete("local-1", &DeleteParams::default()).await.unwrap();
        only("nobody has endpoints again", &[]).await;
    });
}

#[test]
fn a_bad_annotation_is_an_event_and_the_service_is_served() {
    in_pair(async |pair| {
        pair.service("misspelled", json!({})).await;
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"nave.dev/balancing": "fastest"}}}));
        pair.services().patch("misspelled", &PatchParams::default(), &patch).await.unwrap();
        pair.intent("misspelled").await;
        let events: Api<Event> = Api::namespaced(pair.spoke.client(), "default");
        pair.until("the Event names what is accepted", async || {
            let listed = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let found = listed.items.iter().any(|event| {
                let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
                let note = event.note.as_deref().unwrap_or_default();
                about == Some("misspelled")
                    && event.reason.as_deref() == Some("InvalidAnnotation")
                    && note.contains("RoundRobin")
            });
            if found { Ok(()) } else { Err(format!("{} Events", listed.items.len())) }
        })
        .await;
    });
}

#[test]
fn a_service_with_node_ports_opts_in_and_is_told_by_a_condition() {
    in_pair(async |pair| {
        pair.service("beside", json!({"type": "NodePort"})).await;
        let annotate = async |value: serde_json::Value| {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"nave.dev/backends": value}}}));
            pair.services().patch("beside", &PatchParams::default(), &patch).await.unwrap();
        };
        annotate(json!("NodePort")).await;
        pair.intent("beside").await;
        pair.answer("beside", &["203.0.113.12"], "True", "Programmed").await;
        let says = async |what: &str, wanted: Option<&str>| {
            pair.until(what, async || {
                let service = pair.services().get("beside").await.map_err(|error| error.to_string())?;
                let conditions = service.status.and_then(|status| status.conditions).unwrap_or_default();
                let said = conditions.iter().find(|condition| condition.type_ == "nave.dev/Programmed");
                let said = said.map(|condition| condition.message.as_str());
                if said == wanted { Ok(()) } else { Err(format!("{conditions:?}")) }
            })
            .await;
        };
        says("the condition names the address", Some("Served at 203.0.113.12")).await;
        pair.shows("beside", &[]).await;
        annotate(json!(null)).await;
        says("the condition is taken back", None).await;
        assert!(pair.intents().get_opt(&intent_name("beside")).await.unwrap().is_none());
    });
}
