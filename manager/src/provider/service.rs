//! The hub's own cloud, by Services of type LoadBalancer in the managers' namespace. Knows Kubernetes' Services; knows no load
//! balancer of ours but by name.

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use nave_api::ip_pool::ServiceSource;
use nave_api::names::{
    FLEET_LABEL, MANAGER_MANAGER, ORDER_ANNOTATION, OWNER_ANNOTATION, OWNER_UID_ANNOTATION, POOL_LABEL,
};
use nave_manager_core::{Delivery, Key, Order, Seen};

use super::{Ending, Provider};
use crate::conductor::Inbox;
use crate::watch;

/// The hub's Services.
pub(super) struct Services {
    api: Api<Service>,
}

impl Services {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }
}

impl Provider for Services {
    type Source = ServiceSource;

    async fn order(&self, source: &ServiceSource, order: &Order) -> kube::Result<()> {
        let params = PatchParams::apply(MANAGER_MANAGER).force();
        self.api.patch(&order.id, &params, &Patch::Apply(service(source, order))).await.map(drop)
    }

    async fn withdraw(&self, id: &str) -> kube::Result<Ending> {
        match self.api.delete(id, &DeleteParams::default()).await {
            Ok(_) => Ok(Ending::Begun),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Ending::Over),
            Err(error) => Err(error),
        }
    }

    fn watch(&self, inbox: Inbox) {
        let mut events = watch::events(self.api.clone(), Config::default().labels(POOL_LABEL));
        tokio::spawn(async move {
            let mut listed = Vec::new();
            while let Some(event) = events.next().await {
                match event {
                    Event::Init => listed.clear(),
                    Event::InitApply(service) => listed.push(delivery(&service)),
                    Event::InitDone => inbox.seen(Seen::Deliveries(std::mem::take(&mut listed))),
                    Event::Apply(service) => {
                        let delivery = delivery(&service);
                        inbox.seen(Seen::Delivery(delivery.id.clone(), Some(delivery)));
                    }
                    Event::Delete(service) => {
                        inbox.seen(Seen::Delivery(service.metadata.name.unwrap_or_default(), None));
                    }
                }
            }
        });
    }
}

/// The Service that an order asks for.
fn service(source: &ServiceSource, order: &Order) -> Service {
    let Order { id, pool, source: _, fleet, owner, uid, ports } = order;
    let ServiceSource { per: _, envoy_ports: _, load_balancer_class, annotations, selector } = source;
    let mut annotations = annotations.clone();
    annotations.insert(ORDER_ANNOTATION.to_owned(), order.digest());
    if let Some(owner) = owner {
        annotations.insert(OWNER_ANNOTATION.to_owned(), owner.to_string());
        annotations.insert(OWNER_UID_ANNOTATION.to_owned(), uid.clone());
    }
    let ports = ports.iter().map(|port| ServicePort {
        name: Some(format!("{}-{}", port.protocol.as_str().to_ascii_lowercase(), port.port)),
        port: port.port.into(),
        protocol: Some(port.protocol.as_str().to_owned()),
        target_port: Some(IntOrString::Int(port.target.into())),
        ..ServicePort::default()
    });
    let everywhere = || BTreeMap::from([(FLEET_LABEL.to_owned(), fleet.clone())]);
    Service {
        metadata: ObjectMeta {
            name: Some(id.clone()),
            labels: Some(BTreeMap::from([(POOL_LABEL.to_owned(), pool.clone())])),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("LoadBalancer".to_owned()),
            load_balancer_class: load_balancer_class.clone(),
            // Envoy shall see who connects: source ranges and PROXY protocol are about clients, not about nodes.
            external_traffic_policy: Some("Local".to_owned()),
            selector: Some(selector.clone().unwrap_or_else(everywhere)),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// What such a Service delivers.
fn delivery(service: &Service) -> Delivery {
    let metadata = &service.metadata;
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned();
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(POOL_LABEL)).cloned();
    let owner = annotation(OWNER_ANNOTATION);
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let given: Vec<&LoadBalancerIngress> = balancer.and_then(|b| b.ingress.as_ref()).into_iter().flatten().collect();
    let address = |ingress: &&LoadBalancerIngress| ingress.ip.as_ref().and_then(|ip| ip.parse().ok());
    Delivery {
        id: metadata.name.clone().unwrap_or_default(),
        pool: label.unwrap_or_default(),
        owner: owner
            .as_deref()
            .and_then(|owner| owner.split_once('/'))
            .map(|(namespace, name)| Key::new(namespace, name)),
        uid: annotation(OWNER_UID_ANNOTATION).unwrap_or_default(),
        digest: annotation(ORDER_ANNOTATION).unwrap_or_default(),
        addresses: given.iter().filter_map(address).collect(),
        hostnames: given.iter().filter(|i| address(i).is_none()).filter_map(|i| i.hostname.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_api::ip_pool::Source;
    use nave_api::tcp_load_balancer::Protocol;
    use nave_manager_core::OrderedPort;

    #[test]
    fn a_service_says_by_which_order_it_was_made() {
        let source =
            ServiceSource { annotations: [("cloud/size".into(), "small".into())].into(), ..ServiceSource::default() };
        let order = Order {
            id: "nave-cloud-web-0123456789".into(),
            pool: "cloud".into(),
            source: Source::Service(source.clone()),
            fleet: "default".into(),
            owner: Some(Key::new("tenant-shop", "web")),
            uid: "u1".into(),
            ports: vec![OrderedPort { protocol: Protocol::Tcp, port: 80, target: 20_000 }],
        };
        let expected = Delivery {
            id: order.id.clone(),
            pool: order.pool.clone(),
            owner: order.owner.clone(),
            uid: order.uid.clone(),
            digest: order.digest(),
            addresses: Vec::new(),
            hostnames: Vec::new(),
        };
        assert_eq!(delivery(&service(&source, &order)), expected);
    }
}
