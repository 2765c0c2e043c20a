//! Ports: many, edited, of both protocols, and those that cannot be served.

use nave_e2e::Protocol::{Tcp, Udp};
use serde_json::{Value, json};

use crate::shared::{Subject, eventually, in_lab, tcp, udp};

fn balanced(ports: &[Value]) -> Value {
    json!({"type": "LoadBalancer", "ports": ports})
}

#[test]
fn ports_are_added_moved_and_removed_and_the_address_stays() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "edited");
        web.put(balanced(&[tcp(8080)])).await;
        let address = web.address().await;
        web.put(balanced(&[tcp(8080), tcp(9090)])).await;
        web.answers(address, Tcp, 9090, true).await;
        web.answers(address, Tcp, 8080, true).await;
        web.put(balanced(&[tcp(9091)])).await;
        web.answers(address, Tcp, 9091, true).await;
        web.answers(address, Tcp, 8080, false).await;
        web.answers(address, Tcp, 9090, false).await;
        assert_eq!(web.address().await, address);
        // Envoy has the new port a moment before the status says so.
        eventually("the status shows the ports that are served", async || {
            let ingress =
                web.service().await.status.and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
            let shown: Vec<i32> =
                ingress.iter().flat_map(|entry| entry.ports.iter().flatten()).map(|port| port.port).collect();
            if shown == [9091] { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await;
        web.delete().await;
    });
}

#[test]
fn a_port_turns_from_tcp_to_udp_to_both_and_back() {
    in_lab(async |lab, _| {
        let dns = Subject::new(lab, 0, "turning");
        dns.put(balanced(&[tcp(5300)])).await;
        let address = dns.address().await;
        for (ports, by_tcp, by_udp) in [
            (vec![tcp(5300)], true, false),
            (vec![udp(5300)], false, true),
            (vec![udp(5300), tcp(5300)], true, true),
            (vec![tcp(5300)], true, false),
        ] {
            dns.put(balanced(&ports)).await;
            dns.answers(address, Tcp, 5300, by_tcp).await;
            dns.answers(address, Udp, 5300, by_udp).await;
        }
        assert_eq!(dns.address().await, address);
        dns.delete().await;
    });
}

#[test]
fn a_hundred_ports_answer_each_with_its_own_backend() {
    in_lab(async |lab, _| {
        let many = Subject::new(lab, 0, "many");
        let ports: Vec<Value> = (7000..7050).flat_map(|port| [tcp(port), udp(port)]).collect();
        many.put(balanced(&ports)).await;
        let address = many.address().await;
        for port in 7000..7050 {
            many.answers(address, Tcp, port, true).await;
            many.answers(address, Udp, port, true).await;
        }
        many.delete().await;
    });
}

#[test]
fn a_port_that_cannot_be_served_is_told_and_the_others_are() {
    in_lab(async |lab, _| {
        let web = Subject::new(lab, 0, "mixed");
        let sctp = json!({"name": "sctp", "protocol": "SCTP", "port": 9900});
        web.put(balanced(&[tcp(8080), sctp])).await;
        web.answers(web.address().await, Tcp, 8080, true).await;
        let message = web.says("nave.dev/Accepted", "True", "UnsupportedProtocol").await;
        assert!(message.contains("port 9900") && message.contains("SCTP"), "{message}");
        assert_eq!(web.is_told("UnsupportedProtocol").await, message);
        web.put(balanced(&[tcp(8080)])).await;
        web.says_nothing("nave.dev/Accepted").await;
        web.delete().await;
    });
}

#[test]
fn a_service_without_node_ports_says_so_until_it_has_them() {
    in_lab(async |lab, _| {
        let bare = Subject::new(lab, 0, "bare");
        let spec = |allocate: bool| json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": allocate, "ports": [tcp(8080)]});
        bare.put(spec(false)).await;
        let message = bare.says("nave.dev/Accepted", "False", "NoNodePort").await;
        assert!(message.contains("allocateLoadBalancerNodePorts"), "{message}");
        bare.is_told("NoNodePort").await;
        assert!(bare.intent().await.is_none());
        bare.put(spec(true)).await;
        bare.answers(bare.address().await, Tcp, 8080, true).await;
        bare.says_nothing("nave.dev/Accepted").await;
        bare.delete().await;
    });
}
