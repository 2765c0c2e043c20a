//! Services whose load balancer status is not ours: beside a cloud, with node ports alone, and where somebody else writes it.

use kube::api::{Patch, PatchParams};
use nave_e2e::Protocol::Tcp;
use serde_json::{Value, json};

use crate::shared::{Subject, eventually, in_lab, tcp};

const PROGRAMMED: &str = "nave.dev/Programmed";

/// Speaks for the spoke's cloud.
async fn cloud_says(service: &Subject<'_>, ingress: Value) {
    let status = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    service.services().patch_status(service.name, &PatchParams::default(), &status).await.unwrap();
}

fn of_a_cloud(port: u16) -> Value {
    json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/cloud", "ports": [tcp(port)]})
}

/// Where the hub serves it, from the condition that says so.
async fn served_at(service: &Subject<'_>) -> std::net::IpAddr {
    let message = service.says(PROGRAMMED, "True", "Programmed").await;
    message.strip_prefix("Served at ").and_then(|text| text.parse().ok()).expect("an address")
}

#[test]
fn the_clouds_load_balancer_is_the_backend_and_its_status_stays_the_clouds() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "cloudy").annotated(json!({"kubernetes.io/service.class": "kubelb"}));
        web.put(of_a_cloud(21080)).await;
        // The cloud's load balancer: an address of the spoke that answers at the Service's own port.
        let cloud = &web.spoke.nodes[0];
        cloud.serve(Tcp, 21080, "cloudy on the cloud").await.unwrap();
        let ingress = json!([{"ip": cloud.address(), "ipMode": "VIP"}]);
        cloud_says(&web, ingress.clone()).await;
        let address = served_at(&web).await;
        web.answers(address, Tcp, 21080, true).await;
        let service = web.service().await;
        let shown = service.status.unwrap().load_balancer.unwrap().ingress.unwrap();
        assert_eq!(serde_json::to_value(shown).unwrap(), ingress, "the cloud's status is as the cloud wrote it");
        web.is_told("Programmed").await;
        // Nobody asks us any more: what we said goes, what the cloud said stays.
        let web = web.annotated(json!({}));
        web.put(of_a_cloud(21080)).await;
        web.has_no_intent().await;
        web.is_held_by(&[]).await;
        web.says_nothing(PROGRAMMED).await;
        assert!(!nave_e2e::lab::addresses_of(&web.service().await).is_empty());
        web.delete().await;
    });
}

#[test]
fn the_clouds_name_is_followed_when_its_answer_ends_and_its_last_answer_stays() {
    in_lab(async |lab, names| {
        let web = Subject::new(lab, 0, "named").annotated(json!({"nave.dev/backends": "Provider"}));
        let [one, two] = &web.spoke.nodes[..] else { panic!("a spoke has two nodes") };
        for node in [one, two] {
            node.serve(Tcp, 21090, &format!("named on {}", node.name())).await.unwrap();
        }
        names.say("lb.cloud.example", one.address(), 1);
        web.put(of_a_cloud(21090)).await;
        cloud_says(&web, json!([{"hostname": "lb.cloud.example"}])).await;
        let address = served_at(&web).await;
        let answers = async |wanted: &str| {
            eventually(wanted, async || match crate::shared::hear(address, 21090).await {
                Ok(banner) if banner == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        };
        answers("named on node-1").await;
        names.say("lb.cloud.example", two.address(), 1);
        answers("named on node-2").await;
        names.fall_silent("lb.cloud.example");
        let before = names.asked();
        eventually("it has been asked for in vain", async || {
            let log = web.spoke.agent().unwrap().process().tail(200);
            let told = log.contains("lb.cloud.example") && log.contains("its last answer stays");
            if told && names.asked() > before { Ok(()) } else { Err(log) }
        })
        .await;
        answers("named on node-2").await;
        web.delete().await;
    });
}

#[test]
fn a_service_with_node_ports_opts_in_and_its_status_stays_empty() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "opted").annotated(json!({"kubernetes.io/service.class": "kubelb"}));
        web.put(json!({"type": "NodePort", "ports": [tcp(8080)]})).await;
        let address = served_at(&web).await;
        web.answers(address, Tcp, 8080, true).await;
        assert!(nave_e2e::lab::addresses_of(&web.service().await).is_empty());
        let web = web.annotated(json!({}));
        web.put(json!({"type": "NodePort", "ports": [tcp(8080)]})).await;
        web.has_no_intent().await;
        web.answers(address, Tcp, 8080, false).await;
        web.says_nothing(PROGRAMMED).await;
        web.delete().await;
    });
}

#[test]
fn who_else_writes_the_status_is_told_and_not_fought_for_ever() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "contested");
        web.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
        let address = web.address().await;
        let theirs = json!([{"ip": "198.51.100.200", "ipMode": "VIP"}]);
        // We write ours again three times, then the other one has it.
        for _ in 0..3 {
            cloud_says(&web, theirs.clone()).await;
            eventually("ours is shown again", async || {
                let shown = nave_e2e::lab::addresses_of(&web.service().await);
                if shown == [address] { Ok(()) } else { Err(format!("{shown:?}")) }
            })
            .await;
        }
        cloud_says(&web, theirs).await;
        let note = web.is_told("ContestedStatus").await;
        assert!(note.contains("another controller"), "{note}");
        // What comes after it has been served: it has been seen, and left.
        let after = Subject::new(lab, 0, "after-contested");
        after.put(json!({"type": "LoadBalancer", "ports": [tcp(8080)]})).await;
        after.address().await;
        assert_eq!(nave_e2e::lab::addresses_of(&web.service().await)[0].to_string(), "198.51.100.200");
        web.answers(address, Tcp, 8080, true).await;
        web.delete().await;
        after.delete().await;
    });
}
