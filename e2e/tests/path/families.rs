//! The family of the hub's address and that of the nodes behind it are two facts: a hub with its Envoy, and nodes that answer
//! in each family with words of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kube::Api;
use kube::api::DeleteParams;
use nave_api::TCPLoadBalancer;
use nave_e2e::Protocol::Tcp;
use nave_e2e::backend::Backend;
use serde_json::{Value, json};

use crate::shared::{PATIENCE, eventually, in_lab};

#[test]
fn kind_l_nodes_are_reached_in_the_families_that_the_load_balancer_names() {
    in_lab(async |lab| {
        let namespace = "tenant-spoke-1";
        let four = Backend::start(Tcp, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), "four").await.unwrap();
        let port = four.address().port();
        let six = Backend::start(Tcp, SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), "six").await.unwrap();
        let addresses = [four.address().ip(), six.address().ip()];
        let put = async |kind: &str, name: &str, spec: Value| {
            let metadata = json!({"namespace": namespace, "name": name});
            let object = json!({"apiVersion": "nave.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
            lab.hub.apply(&object).await.unwrap();
        };
        put("NodeSet", "families", json!({"nodes": [{"name": "both", "addresses": addresses}]})).await;
        let balancers: Api<TCPLoadBalancer> = Api::namespaced(lab.hub.client(), namespace);
        let backends = |families: Value| json!({"nodes": {"nodeSet": "families", "families": families}});
        let rows = [
            ("any", json!([]), "four"),
            ("old", json!(["IPv4"]), "four"),
            ("new", json!(["IPv6"]), "six"),
            ("both", json!(["IPv6", "IPv4"]), "six"),
        ];
        for (name, families, banner) in rows {
            let ports = json!([{"port": 8080, "backendPort": port}]);
            put("TCPLoadBalancer", name, json!({"ports": ports, "backends": backends(families)})).await;
            eventually(&format!("{name} is answered by {banner}"), PATIENCE, async || {
                let status = balancers.get(name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
                let address: IpAddr = status.addresses.first().ok_or("no address")?.value.parse().unwrap();
                assert!(address.is_ipv4(), "the front's family is another matter");
                let heard =
                    lab.ask(address, 8080).await.map_err(|error| format!("{error:?} {:?}", status.conditions))?;
                let ready = status.backends.map(|backends| (backends.ready, backends.total));
                if heard == banner && ready == Some((1, 1)) { Ok(()) } else { Err(format!("{heard} {ready:?}")) }
            })
            .await;
            balancers.delete(name, &DeleteParams::default()).await.unwrap();
        }
    });
}
