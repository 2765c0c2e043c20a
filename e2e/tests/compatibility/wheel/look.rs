//! What can be seen of the hub and its spokes, as short texts. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use nave_agent_core::{Key as SpokeKey, intent};
use nave_manager_core::Key;
use nave_xds::resource::{Resource, ResourceType};
use prost::Message as _;

use super::Wheel;

impl Wheel {
    /// A Service as the spoke's API server has it.
    pub fn service(&self, place: &str) -> Option<&Service> {
        let (spoke, key) = self.place(place);
        self.spokes[spoke].server.services.get(&key)
    }

    /// The addresses that a Service shows.
    pub fn shows(&self, place: &str) -> Vec<String> {
        let (spoke, key) = self.place(place);
        shown(&self.spokes[spoke].server.services, &key).iter().filter_map(|entry| entry.ip.clone()).collect()
    }

    /// The ports that a Service shows, as `8100/TCP`.
    pub fn shows_ports(&self, place: &str) -> Vec<String> {
        let (spoke, key) = self.place(place);
        let entries = shown(&self.spokes[spoke].server.services, &key);
        let ports = entries.iter().flat_map(|entry| entry.ports.iter().flatten());
        ports.map(|port| format!("{}/{}", port.port, port.protocol)).collect()
    }

    /// The reason why the hub gives a Service no address; empty when it does.
    pub fn waits(&self, place: &str) -> String {
        let told = self.says(place, "Allocated");
        told.strip_prefix("False/").unwrap_or_default().to_owned()
    }

    /// A condition in the hub of what stands for a Service, as `status/reason`.
    pub fn says(&self, place: &str, condition: &str) -> String {
        let key = self.intent(place);
        self.hub.condition(&key.namespace, &key.name, condition)
    }

    /// The reasons of the Events on a Service, in order.
    pub fn events(&self, place: &str) -> Vec<String> {
        let (spoke, key) = self.place(place);
        let notices = self.spokes[spoke].events.iter().filter(|notice| notice.service == key);
        notices.map(|notice| notice.reason.clone()).collect()
    }

    /// A condition of a pool, as `status/reason`.
    pub fn pool_says(&self, pool: &str, condition: &str) -> String {
        let status = self.hub.pools.get(&Key::cluster(pool)).and_then(|object| object.status.as_ref());
        let found = status.and_then(|status| status.conditions.iter().find(|told| told.type_ == condition));
        found.map(|told| format!("{}/{}", told.status, told.reason)).unwrap_or_default()
    }

    /// Addresses that are recorded, and whose they are: `address namespace/name …`, sorted.
    pub fn records(&self) -> Vec<String> {
        let record = |object: &nave_api::IPAllocation| {
            let address = object.spec.address.clone().unwrap_or_else(|| object.metadata.name.clone().unwrap());
            let owners: Vec<String> =
                object.spec.owners.iter().map(|owner| self.origin(&owner.namespace, &owner.name)).collect();
            format!("{address} {}", owners.join(" ")).trim_end().to_owned()
        };
        self.hub.allocations.values().map(record).collect()
    }

    /// The hub's listeners, as `tcp/203.0.113.0/80`.
    pub fn listeners(&self) -> Vec<String> {
        self.served(ResourceType::Listener).map(|resource| resource.name().to_string()).collect()
    }

    /// Whether a listener that begins like this says something, such as a network.
    pub fn listener_says(&self, listener: &str, text: &str) -> bool {
        let found = self.served(ResourceType::Listener).find(|resource| resource.name().starts_with(listener));
        let body = found.unwrap_or_else(|| panic!("{listener} is not served")).body();
        body.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// Where the hub sends the traffic of a port such as `tcp/80`.
    pub fn backends(&self, place: &str, port: &str) -> Vec<String> {
        sockets(self.find(ResourceType::Endpoints, place, port))
    }

    /// How the hub treats the traffic of a port such as `tcp/80`.
    pub fn cluster(&self, place: &str, port: &str) -> Cluster {
        Cluster::decode(self.find(ResourceType::Cluster, place, port).body()).expect("our own bytes")
    }

    /// What stands for a Service in the hub.
    pub fn intent(&self, place: &str) -> Key {
        let (spoke, key) = self.place(place);
        Key::new(self.spokes[spoke].namespace(), intent::name(&key))
    }

    /// What holds whatever happened: one owner of each address and port, every record is explained by a load balancer that is there,
    /// and Services show recorded addresses only.
    pub fn check(&self) {
        let mut taken = BTreeMap::new();
        for (name, object) in &self.hub.allocations {
            for owner in &object.spec.owners {
                let key = Key::new(owner.namespace.as_str(), owner.name.as_str());
                assert!(self.hub.balancers.contains_key(&key), "{name} is kept for {key}, which is gone");
                for port in &owner.ports {
                    let before = taken.insert((name.clone(), port.protocol.as_str(), port.port), key.clone());
                    assert_eq!(before, None, "{name} port {} has two owners", port.port);
                }
            }
        }
        let given = self.hub.cloud.orders.values().flat_map(|(_, addresses)| addresses.iter().map(ToString::to_string));
        let addresses = self.hub.allocations.values().filter_map(|object| object.spec.address.clone());
        let recorded: BTreeSet<String> = addresses.chain(given).collect();
        for spoke in &self.spokes {
            for key in spoke.server.services.keys() {
                let ours = shown(&spoke.server.services, key).iter().filter(|entry| entry.ip_mode.is_some());
                for address in ours.filter_map(|entry| entry.ip.as_ref()) {
                    assert!(recorded.contains(address), "{key} shows {address}, which nobody recorded");
                }
            }
        }
    }

    fn origin(&self, namespace: &str, name: &str) -> String {
        let origin = self.hub.balancers.get(&Key::new(namespace, name)).and_then(|object| object.spec.origin.as_ref());
        origin.map_or_else(|| name.to_owned(), |origin| format!("{}/{}", origin.namespace, origin.name))
    }

    fn served(&self, kind: ResourceType) -> impl Iterator<Item = &Resource> {
        let all = self.hub.served.values().flat_map(BTreeMap::values);
        all.filter(move |resource| resource.kind() == kind)
    }

    fn find(&self, kind: ResourceType, place: &str, port: &str) -> &Resource {
        let name = format!("{}/{port}", self.intent(place));
        self.served(kind).find(|resource| **resource.name() == *name).unwrap_or_else(|| panic!("{name} is not served"))
    }
}

fn shown<'a>(services: &'a BTreeMap<SpokeKey, Service>, key: &SpokeKey) -> &'a [LoadBalancerIngress] {
    services.get(key).map(nave_agent_core::status::shown).unwrap_or_default()
}

fn sockets(resource: &Resource) -> Vec<String> {
    let assignment = ClusterLoadAssignment::decode(resource.body()).expect("our own bytes");
    let hosts = assignment.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let socket = |identifier: HostIdentifier| {
        let HostIdentifier::Endpoint(endpoint) = identifier else { return None };
        let Address::SocketAddress(socket) = endpoint.address?.address? else { return None };
        let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
        Some(format!("{}:{port}", socket.address))
    };
    hosts.map(|host| host.host_identifier.and_then(socket).expect("an address and a port")).collect()
}
