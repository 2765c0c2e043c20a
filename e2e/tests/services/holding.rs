//! The finalizer: there while a Service is a load balancer, gone when the hub has let go.

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use nave_api::IPAllocation;
use nave_api::names::{AGENT_FINALIZER, allocation_name};
use nave_e2e::Protocol::Tcp;
use serde_json::json;

use crate::shared::{Subject, eventually, in_lab, pool, spare, tcp};

#[test]
fn a_service_is_held_as_long_as_it_is_a_load_balancer_and_comes_back_as_one() {
    in_lab(async |lab, _| {
        pool(lab, "retyped", "Exclusive", &[spare(lab, 8), spare(lab, 9)]).await;
        let web = Subject::new(lab, 0, "retyped").annotated(json!({"nave.dev/pool": "retyped"}));
        web.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
        let address = web.address().await;
        web.is_held_by(&[AGENT_FINALIZER]).await;
        web.answers(address, Tcp, 8080, true).await;
        for kind in ["ClusterIP", "NodePort"] {
            web.put(json!({"type": kind, "ports": [tcp(8080)]})).await;
            web.is_held_by(&[]).await;
            web.shows_nothing().await;
            web.has_no_intent().await;
            web.answers(address, Tcp, 8080, false).await;
            let records: Api<IPAllocation> = Api::all(lab.hub.client());
            eventually("the address is free", async || {
                let record = records.get_opt(&allocation_name(address)).await.map_err(|error| error.to_string())?;
                record.map_or(Ok(()), |record| Err(format!("{:?}", record.spec)))
            })
            .await;
            web.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
            let again = web.address().await;
            assert_eq!(again, address, "while it is free, its last owner gets it again");
            web.is_held_by(&[AGENT_FINALIZER]).await;
            web.answers(again, Tcp, 8080, true).await;
        }
        web.delete().await;
    });
}

#[test]
fn a_deleted_service_stays_until_the_hub_has_let_go() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "waiting");
        web.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
        web.address().await;
        let hold = |finalizers: serde_json::Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        let params = PatchParams::default();
        let busy = json!(["example.com/busy"]);
        web.intents().patch(&web.intent_name(), &params, &hold(busy)).await.unwrap();
        web.services().delete("waiting", &DeleteParams::default()).await.unwrap();
        eventually("the intent is going", async || {
            let intent = web.intent().await.ok_or("it is gone")?;
            intent.metadata.deletion_timestamp.map(drop).ok_or_else(|| "not deleted".into())
        })
        .await;
        web.is_held_by(&[AGENT_FINALIZER]).await;
        web.intents().patch(&web.intent_name(), &params, &hold(json!(null))).await.unwrap();
        eventually("the Service is gone", async || match web.services().get_opt("waiting").await.unwrap() {
            None => Ok(()),
            Some(service) => Err(format!("{:?}", service.metadata.finalizers)),
        })
        .await;
    });
}

#[test]
fn a_service_that_gets_another_class_is_let_go_and_one_that_loses_it_is_served() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "classy");
        web.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
        web.address().await;
        // The class can only be changed on the way through another type.
        web.put(json!({"type": "ClusterIP", "ports": [tcp(8080)]})).await;
        web.has_no_intent().await;
        let other = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/other", "ports": [tcp(8080)]});
        web.put(other).await;
        // Whatever comes after it in the same watch has been served: it has been seen and passed over.
        let after = Subject::new(lab, 0, "after-classy");
        after.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
        after.address().await;
        web.is_held_by(&[]).await;
        assert!(web.intent().await.is_none());
        web.put(json!({"type": "ClusterIP", "ports": [tcp(8080)]})).await;
        let ours = json!({"type": "LoadBalancer", "loadBalancerClass": "nave.dev/load-balancer", "ports": [tcp(8080)]});
        web.put(ours).await;
        web.answers(web.address().await, Tcp, 8080, true).await;
        web.delete().await;
        after.delete().await;
    });
}

#[test]
fn nobody_but_the_user_writes_a_services_spec() {
    in_lab(async |lab, _| {
        let ours = Subject::new(lab, 0, "spec-ours").annotated(json!({"nave.dev/balancing": "fastest"}));
        ours.put(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["127.0.0.0/8"], "ports": [tcp(8080)]}))
            .await;
        ours.address().await;
        ours.says("nave.dev/Accepted", "True", "InvalidAnnotation").await;
        let beside = Subject::new(lab, 0, "spec-beside").annotated(json!({"nave.dev/backends": "NodePort"}));
        beside.put(json!({"type": "NodePort", "ports": [tcp(8080)]})).await;
        beside.says("nave.dev/Programmed", "True", "Programmed").await;
        for service in [&ours, &beside] {
            let fields = service.service().await.metadata.managed_fields.unwrap();
            let writers: Vec<_> = fields.iter().filter(|entry| entry.manager.as_deref() != Some("nave-lab")).collect();
            assert!(!writers.is_empty(), "the agent has written a status");
            for writer in writers {
                let written = &writer.fields_v1.as_ref().unwrap().0;
                assert!(written.get("f:spec").is_none(), "{writer:?}");
            }
        }
        ours.delete().await;
        beside.delete().await;
    });
}
