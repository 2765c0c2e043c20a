//! Envoy's own validation of what is rendered and translated.

use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap as Message;
use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::{DynamicResources, StaticResources};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use nave_xds::bootstrap::{Bootstrap, Certificates};
use nave_xds::files::Files;
use nave_xds::identity::Peer;
use nave_xds::model::{Balancing, Ejection, HealthCheck, Probe, ProxyProtocol};
use nave_xds::resource::{Resource, ResourceType};
use nave_xds::translate;
use prost::Message as _;

use crate::support::certificates::Authority;
use crate::support::envoy::validate;
use crate::support::server::{cluster, endpoints, listener, tcp, udp};

#[tokio::test]
async fn envoy_accepts_the_bootstrap() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let peer = Peer::Envoy { fleet: "default".into(), node: "edge-1".into() };
    authority.write(directory.path(), &authority.issue(&peer));
    let certificates =
        Certificates { directory: directory.path().to_owned(), secrets: directory.path().join("secrets") };
    std::fs::create_dir(&certificates.secrets).expect("a directory");
    for host in ["192.0.2.1", "manager.example.net"] {
        let rendered = Bootstrap {
            fleet: "default".to_owned(),
            node: "edge-1".to_owned(),
            xds_endpoints: vec![(host.to_owned(), 18000), ("2001:db8::1".to_owned(), 18000)],
            certificates: Some(certificates.clone()),
            admin_socket: directory.path().join("admin"),
            metrics_every: Some(Duration::from_secs(5)),
            heap_bytes: Some(2 << 30),
            files: Files::of(1 << 20, 4),
        }
        .render();
        for (path, secret) in rendered.secrets {
            std::fs::write(path, secret.to_string()).expect("writes");
        }
        let config = directory.path().join("envoy.json");
        std::fs::write(&config, rendered.bootstrap.to_string()).expect("writes");
        assert_eq!(validate(&config).await, Ok(()), "with {host}");
    }
}

/// Puts resources into a static bootstrap. Endpoints go into the cluster of their name, which becomes a static one.
fn as_bootstrap(resources: &[Resource]) -> Message {
    let mut fixed = StaticResources::default();
    let of = |kind: ResourceType| resources.iter().filter(move |resource| resource.kind() == kind);
    fixed.listeners.extend(of(ResourceType::Listener).map(decode));
    fixed.clusters.extend(of(ResourceType::Cluster).map(decode));
    for cluster in &mut fixed.clusters {
        let found = of(ResourceType::Endpoints).find(|endpoints| **endpoints.name() == cluster.name);
        cluster.load_assignment = found.map(decode);
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
        cluster.eds_cluster_config = None;
    }
    let dynamic = DynamicResources::default();
    Message { static_resources: Some(fixed), dynamic_resources: Some(dynamic), ..Default::default() }
}

fn decode<M: prost::Message + Default>(resource: &Resource) -> M {
    M::decode(resource.body()).expect("what was encoded")
}

async fn assert_valid(what: &str, resources: &[Resource]) {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("envoy.pb");
    std::fs::write(&config, as_bootstrap(resources).encode_to_vec()).expect("writes");
    assert_eq!(validate(&config).await, Ok(()), "{what}");
}

#[tokio::test]
async fn envoy_accepts_whatever_the_model_can_say() {
    let backends = ["192.0.2.1:80", "[2001:db8::1]:80"].map(|address| address.parse().expect("an address"));
    let ranges = ["198.51.100.0/24", "2001:db8::/32", "0.0.0.0/0"].map(|range| range.parse().expect("a network"));
    let probes = [Probe::Tcp, Probe::Http { path: "/healthz".to_owned() }];
    let second = Duration::from_secs(1);
    let mut checks = vec![None];
    checks.extend(probes.map(|probe| {
        Some(HealthCheck { probe, interval: second, timeout: second, unhealthy_after: 3, healthy_after: 2 })
    }));
    let policies = [Balancing::RoundRobin, Balancing::LeastRequest, Balancing::Random, Balancing::Maglev];
    let mut resources = Vec::new();
    for (number, balancing) in policies.into_iter().enumerate() {
        for (nth, check) in checks.iter().enumerate() {
            let name = format!("lb-{number}-{nth}");
            let port = u16::try_from(1000 + 10 * number + nth).expect("a port");
            let mut cluster = cluster(&name);
            cluster.balancing = balancing;
            cluster.health_check.clone_from(check);
            cluster.proxy_protocol = [None, Some(ProxyProtocol::V1), Some(ProxyProtocol::V2)][nth];
            cluster.ejection = (nth > 0).then_some(Ejection { consecutive_failures: 3, base_time: second });
            let mut endpoints = endpoints(&name, &backends[..nth.min(2)]);
            endpoints.health_port = (nth > 0).then_some(8080);
            endpoints.fallback = backends.to_vec();
            endpoints.is_checked = check.is_some();
            resources.extend([translate::cluster(&cluster), translate::endpoints(&endpoints)]);
            for bind in [tcp("127.0.0.1", port), udp("127.0.0.1", port), tcp("::1", port)] {
                let mut listener = listener(bind, &name);
                listener.source_ranges = ranges[..nth].to_vec();
                listener.not_on = ranges[..(number + nth) % 4].to_vec();
                listener.idle_timeout = second * u32::try_from(nth).expect("small");
                resources.push(translate::listener(&listener));
            }
        }
    }
    assert_valid("every combination", &resources).await;
}

#[tokio::test]
async fn validation_is_able_to_refuse() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broken = cluster("broken");
    broken.connect_timeout = Duration::ZERO;
    let config = directory.path().join("envoy.pb");
    std::fs::write(&config, as_bootstrap(&[translate::cluster(&broken)]).encode_to_vec()).expect("writes");
    assert!(validate(&config).await.is_err());
}
