//! The path of a Service through the hub, in one light lab that all tests here share: each uses names of its own.
//! Nothing here is broken on purpose; `faults.rs` does that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod families;
mod reasons;
mod shared;

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use nave_api::{IPAllocation, TCPLoadBalancer, condition, names};
use nave_e2e::Protocol::{Tcp, Udp};
use nave_e2e::lab::addresses_of;
use serde_json::json;
use shared::{PATIENCE, Services, eventually, in_lab};

#[test]
fn a_service_gets_an_address_that_answers_with_its_backend() {
    in_lab(async |lab| {
        let sample = lab.spokes[0].sample("made", &[(Tcp, 8080)]).await.unwrap();
        let address = sample.address().await.unwrap();
        assert!(lab.plan().pool().contains(&address), "{address} is of the pool {}", lab.plan().pool());
        // Ready means ready: the status is there only after Envoy has acknowledged, so the first try answers.
        let banner = lab.ask(address, 8080).await.unwrap();
        assert!(banner.starts_with("spoke-1/made on node-"), "{banner}");
        let service = lab.service(0, "made").await;
        let shown = service.status.unwrap().load_balancer.unwrap().ingress.unwrap();
        assert_eq!(shown[0].ip_mode.as_deref(), Some("Proxy"));
        assert_eq!(service.metadata.finalizers, Some(vec![names::AGENT_FINALIZER.to_owned()]));
        sample.delete().await.unwrap();
    });
}

#[test]
fn a_deleted_service_frees_its_address_and_nobody_answers_there() {
    in_lab(async |lab| {
        let sample = lab.spokes[0].sample("deleted", &[(Tcp, 8080)]).await.unwrap();
        let address = sample.address().await.unwrap();
        sample.delete().await.unwrap();
        let allocations: Api<IPAllocation> = Api::all(lab.hub.client());
        eventually("the allocation is gone", PATIENCE, async || {
            let left = allocations.get_opt(&names::allocation_name(address)).await.unwrap();
            let owner = left.and_then(|a| a.spec.owners.first().map(|owner| owner.name.clone()));
            let ours = names::intent_name("Service", "default", "deleted");
            if owner.as_ref() == Some(&ours) { Err(format!("owned by {ours}")) } else { Ok(()) }
        })
        .await;
        eventually("nobody answers", PATIENCE, async || match lab.ask(address, 8080).await {
            Ok(banner) if banner.contains("/deleted ") => Err(banner),
            Ok(_) | Err(_) => Ok(()),
        })
        .await;
    });
}

#[test]
fn an_edited_port_moves_and_the_address_stays() {
    in_lab(async |lab| {
        let sample = lab.spokes[0].sample("edited", &[(Tcp, 8080)]).await.unwrap();
        let address = sample.address().await.unwrap();
        let edit = json!({"spec": {"ports": [{"name": "tcp-8080", "port": 9090}]}});
        let services: Api<Service> = Api::namespaced(lab.spokes[0].client(), "default");
        services
            .patch("edited", &PatchParams::default(), &Patch::Strategic(edit_of(&services, edit).await))
            .await
            .unwrap();
        eventually("the new port answers", PATIENCE, async || {
            lab.ask(address, 9090).await.map(drop).map_err(|error| format!("{error:?}"))
        })
        .await;
        eventually("the old port does not", PATIENCE, async || match lab.ask(address, 8080).await {
            Ok(banner) if banner.contains("/edited ") => Err(banner),
            Ok(_) | Err(_) => Ok(()),
        })
        .await;
        assert_eq!(sample.address().await.unwrap(), address);
        sample.delete().await.unwrap();
    });
}

/// Keeps the node port, so that the backends stay: what changes is the front port alone.
async fn edit_of(services: &Api<Service>, mut edit: serde_json::Value) -> serde_json::Value {
    let present = services.get("edited").await.unwrap().spec.unwrap().ports.unwrap();
    edit["spec"]["ports"] = json!([
        {"$patch": "delete", "port": present[0].port},
        {"name": present[0].name, "protocol": "TCP", "port": 9090, "targetPort": 8080, "nodePort": present[0].node_port},
    ]);
    edit
}

#[test]
fn udp_is_served_beside_tcp_on_the_same_port() {
    in_lab(async |lab| {
        let sample = lab.spokes[1].sample("both", &[(Tcp, 5353), (Udp, 5353)]).await.unwrap();
        let address = sample.address().await.unwrap();
        let banners = [lab.ask(address, 5353).await.unwrap(), lab.ask_udp(address, 5353).await.unwrap()];
        assert!(banners.iter().all(|banner| banner.starts_with("spoke-2/both on node-")), "{banners:?}");
        sample.delete().await.unwrap();
    });
}

#[test]
fn two_spokes_with_the_same_names_have_different_addresses() {
    in_lab(async |lab| {
        let (one, two) = tokio::try_join!(
            lab.spokes[0].sample("twin", &[(Tcp, 8080)]),
            lab.spokes[1].sample("twin", &[(Tcp, 8080)])
        )
        .unwrap();
        let (at_one, at_two) = (one.address().await.unwrap(), two.address().await.unwrap());
        assert_ne!(at_one, at_two);
        assert!(lab.ask(at_one, 8080).await.unwrap().starts_with("spoke-1/twin "));
        assert!(lab.ask(at_two, 8080).await.unwrap().starts_with("spoke-2/twin "));
        one.delete().await.unwrap();
        two.delete().await.unwrap();
    });
}

#[test]
fn a_node_that_is_not_ready_leaves_rotation_and_comes_back() {
    in_lab(async |lab| {
        let sample = lab.spokes[1].sample("rotation", &[(Tcp, 8080)]).await.unwrap();
        let address = sample.address().await.unwrap();
        let who = async || {
            let mut all = std::collections::BTreeSet::new();
            for _ in 0..8 {
                all.insert(lab.ask(address, 8080).await.map_err(|error| format!("{error:?}"))?);
            }
            Ok::<_, String>(all.into_iter().collect::<Vec<_>>())
        };
        let banners = |nodes: &[&str]| nodes.iter().map(|n| format!("spoke-2/rotation on {n}")).collect::<Vec<_>>();
        let expect = async |what: &str, nodes: &[&str]| {
            eventually(what, PATIENCE, async || {
                let all = who().await?;
                if all == banners(nodes) { Ok(()) } else { Err(format!("{all:?}")) }
            })
            .await;
        };
        expect("both nodes answer", &["node-1", "node-2"]).await;
        lab.spokes[1].nodes[0].lose_readiness().await.unwrap();
        expect("only the ready node answers", &["node-2"]).await;
        lab.spokes[1].nodes[0].recover().await.unwrap();
        expect("both nodes answer again", &["node-1", "node-2"]).await;
        sample.delete().await.unwrap();
    });
}

#[test]
fn an_exhausted_pool_says_so_and_a_freed_address_goes_to_who_waits() {
    in_lab(async |lab| {
        let [a, b, c, _] = shared::octets(lab);
        lab.hub
            .apply(&json!({
                "apiVersion": "nave.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": "tiny"},
                "spec": {"source": {"static": {}}, "addresses": {"include": [format!("{a}.{b}.{}.7", c + 1)]}},
            }))
            .await
            .unwrap();
        let spoke = &lab.spokes[0];
        let first = shared::from_pool(spoke, "first", "tiny").await;
        let address = shared::shown(spoke, "first").await;
        assert_eq!(address.to_string(), format!("{a}.{b}.{}.7", c + 1));
        let second = shared::from_pool(spoke, "second", "tiny").await;
        let intents: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), "tenant-spoke-1");
        eventually("the second says that the pool is exhausted", PATIENCE, async || {
            let intent = intents.get(&names::intent_name("Service", "default", "second")).await;
            let conditions = intent.map_err(|e| e.to_string())?.status.unwrap_or_default().conditions;
            match condition::find(&conditions, nave_api::ConditionType::Allocated) {
                Some(c) if c.status == "False" && c.reason == "PoolExhausted" && c.message.contains("tiny") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert!(addresses_of(&lab.service(0, "second").await).is_empty());
        first.delete().await;
        assert_eq!(shared::shown(spoke, "second").await, address, "the freed address goes to who waits");
        second.delete().await;
    });
}

#[test]
fn a_service_of_another_class_is_left_alone() {
    in_lab(async |lab| {
        let foreign = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "foreign"},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/other", "ports": [{"port": 80}]},
        });
        lab.spokes[0].apply(&foreign).await.unwrap();
        // What comes after it in the same watch has been served: the agent has seen the foreign one and passed it over.
        let sample = lab.spokes[0].sample("after-foreign", &[(Tcp, 8080)]).await.unwrap();
        sample.address().await.unwrap();
        let service = lab.service(0, "foreign").await;
        assert_eq!((addresses_of(&service).len(), service.metadata.finalizers), (0, None));
        sample.delete().await.unwrap();
    });
}

#[test]
fn traffic_is_counted_by_tenant_and_name() {
    in_lab(async |lab| {
        let sample = lab.spokes[0].sample("counted", &[(Tcp, 8080)]).await.unwrap();
        let address = sample.address().await.unwrap();
        lab.ask(address, 8080).await.unwrap();
        let intent = names::intent_name("Service", "default", "counted");
        eventually("the manager counts the connection", PATIENCE, async || {
            let page = lab.hub.managers[0].get("/metrics").await.map_err(|error| format!("{error:?}"))?;
            let lines: Vec<&str> = page.lines().filter(|line| line.contains(&intent)).collect();
            let counted = lines.iter().any(|line| {
                line.contains("connections") && line.contains("tenant=\"spoke-1\"") && line.ends_with(" 1")
            });
            if counted { Ok(()) } else { Err(format!("{lines:#?}")) }
        })
        .await;
        sample.delete().await.unwrap();
    });
}

#[test]
fn no_envoy_refuses_anything_on_the_way() {
    in_lab(async |lab| {
        let sample = lab.spokes[0].sample("unrefused", &[(Tcp, 8080), (Udp, 8080)]).await.unwrap();
        sample.address().await.unwrap();
        sample.delete().await.unwrap();
        assert_eq!(lab.hub.edges[0].refusals().await.unwrap(), 0);
    });
}
