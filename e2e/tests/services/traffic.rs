//! Who may connect, and who answers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use nave_e2e::Protocol::{Tcp, Udp};
use serde_json::{Value, json};

use crate::shared::{Subject, eventually, hear_from, hear_udp, in_lab, pool, spare, tcp, udp};

/// A client of the machine's loopback network.
fn client(last: u8) -> IpAddr {
    IpAddr::from([127, 9, 0, last])
}

#[test]
fn source_ranges_open_and_close_tcp_and_udp_while_the_service_lives() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "ranged");
        let spec = |ranges: &[&str]| json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges, "ports": [tcp(8080), udp(8080)]});
        web.put(spec(&["127.9.0.1/32"])).await;
        let address = web.address().await;
        let admits = async |last: u8| {
            let tcp = hear_from(Some(client(last)), address, 8080).await.is_ok();
            (tcp, hear_udp(address, 8080, Some(client(last))).await.is_ok())
        };
        let expect = async |what: &str, one: bool, two: bool| {
            eventually(what, async || {
                let seen = (admits(1).await, admits(2).await);
                if seen == ((one, one), (two, two)) { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .await;
        };
        expect("only the first may connect", true, false).await;
        web.put(spec(&["127.9.0.2/32"])).await;
        expect("only the second may connect", false, true).await;
        web.put(spec(&["127.9.0.0/24", "198.51.100.0/24"])).await;
        expect("both may connect", true, true).await;
        web.put(spec(&["198.51.100.0/24"])).await;
        expect("neither may connect", false, false).await;
        web.put(spec(&[])).await;
        expect("everybody may connect", true, true).await;
        web.delete().await;
    });
}

#[test]
fn a_client_stays_with_its_backend_under_affinity_and_only_then() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "sticky");
        let spec = |affinity: &str| json!({"type": "LoadBalancer", "sessionAffinity": affinity, "ports": [tcp(8080)]});
        web.put(spec("ClientIP")).await;
        let address = web.address().await;
        let backends = async |last: u8| {
            let mut seen = BTreeSet::new();
            for _ in 0..6 {
                seen.insert(hear_from(Some(client(last)), address, 8080).await?);
            }
            Ok::<_, String>(seen)
        };
        let mut all = BTreeSet::new();
        for last in 1..=20 {
            let of_one = backends(last).await.unwrap();
            assert_eq!(of_one.len(), 1, "client {last} stays with its backend");
            all.extend(of_one);
        }
        assert_eq!(all.len(), 2, "different clients have different backends");
        web.put(spec("None")).await;
        eventually("a client meets both backends", async || {
            let seen = backends(1).await?;
            if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        web.put(spec("ClientIP")).await;
        eventually("it stays with one again", async || {
            let seen = backends(1).await?;
            if seen.len() == 1 { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        web.delete().await;
    });
}

#[test]
fn two_services_share_an_address_and_one_goes_without_the_other() {
    in_lab(async |lab, _| {
        let address = spare(lab, 7);
        pool(lab, "shared", "ByPort", &[address]).await;
        let annotations = json!({"nave.dev/pool": "shared", "nave.dev/addresses": address});
        let one = Subject::new(lab, 0, "share-one").annotated(annotations.clone());
        let two = Subject::new(lab, 0, "share-two").annotated(annotations);
        one.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
        two.put(json!({"type": "LoadBalancer", "ports": [udp(8080), tcp(9090)]})).await;
        assert_eq!((one.address().await, two.address().await), (address, address));
        one.answers(address, Tcp, 8080, true).await;
        two.answers(address, Udp, 8080, true).await;
        one.delete().await;
        two.answers(address, Tcp, 9090, true).await;
        assert_eq!(two.address().await, address);
        two.delete().await;
    });
}

#[test]
fn a_service_that_requires_both_families_gets_both_or_none_and_one_that_prefers_them_what_there_is() {
    in_lab(async |lab, _| {
        let spec = json!({"type": "LoadBalancer", "ports": [tcp(8080)]});
        let asks = |policy: &str| json!({"nave.dev/families": "IPv4,IPv6", "nave.dev/family-policy": policy});
        let web = Subject::new(lab, 0, "families").annotated(asks("RequireDualStack"));
        web.put(spec.clone()).await;
        eventually("the hub has an answer", async || {
            let status = web.intent().await.and_then(|intent| intent.status).unwrap_or_default();
            let said = nave_api::condition::find(&status.conditions, nave_api::ConditionType::Allocated);
            match said {
                Some(said) if said.status == "False" && status.addresses.is_empty() => Ok(()),
                other => Err(format!("{other:?} {:?}", status.addresses)),
            }
        })
        .await;
        assert!(nave_e2e::lab::addresses_of(&web.service().await).is_empty(), "both or none");
        let web = web.annotated(asks("PreferDualStack"));
        web.put(spec).await;
        let address = web.address().await;
        assert!(address.is_ipv4());
        web.answers(address, Tcp, 8080, true).await;
        web.delete().await;
    });
}

#[test]
fn traffic_follows_the_nodes_that_may_have_it() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 1, "nodes");
        web.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
        let nodes: Api<Node> = Api::all(web.spoke.client());
        let edit = async |patch: Value| {
            nodes.patch("node-1", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
        };
        let (both, second) = (["node-1", "node-2"], ["node-2"]);
        web.is_answered_by(8080, &both).await;
        let exclude = "node.kubernetes.io/exclude-from-external-load-balancers";
        edit(json!({"metadata": {"labels": {exclude: ""}}})).await;
        web.is_answered_by(8080, &second).await;
        // A cordon alone changes nothing: the label goes while it is there.
        edit(json!({"metadata": {"labels": {exclude: null}}, "spec": {"unschedulable": true}})).await;
        web.is_answered_by(8080, &both).await;
        let taint = json!({"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule", "value": "1"});
        edit(json!({"spec": {"unschedulable": null, "taints": [taint]}})).await;
        web.is_answered_by(8080, &second).await;
        edit(json!({"spec": {"taints": null}})).await;
        web.is_answered_by(8080, &both).await;
        web.spoke.nodes[0].lose_readiness().await.unwrap();
        web.is_answered_by(8080, &second).await;
        let node = nodes.get("node-1").await.unwrap();
        nodes.delete("node-1", &DeleteParams::default()).await.unwrap();
        web.is_answered_by(8080, &second).await;
        let labels = node.metadata.labels;
        web.spoke
            .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": labels}}))
            .await
            .unwrap();
        web.spoke.nodes[0].recover().await.unwrap();
        web.is_answered_by(8080, &both).await;
        web.delete().await;
    });
}
