//! The hub's own cloud, by Services of type LoadBalancer in the managers' namespace. Knows Kubernetes' Services; knows no load
//! balancer of ours but by name.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::{NamespaceResourceScope, Resource as _};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, Resource};
use nave_api::ip_pool::ServiceSource;
use nave_api::names::{
    FLEET_LABEL, MANAGER_MANAGER, ORDER_ANNOTATION, ORDERED_SPEC_ANNOTATION, OWNER_ANNOTATION, OWNER_UID_ANNOTATION,
    POOL_LABEL,
};
use nave_api::tcp_load_balancer::Protocol;
use nave_manager_core::{Delivery, Key, Order, Seen};
use nave_watch::Decoded;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Ending, Provider};
use crate::conductor::Inbox;
use crate::watch::Watches;

/// The hub's Services.
pub(super) struct Services {
    api: Api<Decoded<HubService>>,
}

/// What matters of a Service: what others write into its conditions makes it neither unreadable nor unlike what was ordered.
#[derive(Clone, Debug, Default, Deserialize)]
struct HubService {
    metadata: ObjectMeta,
    spec: Option<ServiceSpec>,
    status: Option<HubServiceStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HubServiceStatus {
    load_balancer: Option<LoadBalancerStatus>,
}

impl Resource for HubService {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        Service::KIND.into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        Service::GROUP.into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        Service::VERSION.into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        Service::URL_PATH_SEGMENT.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Services {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }
}

impl Provider for Services {
    type Source = ServiceSource;

    async fn order(&self, source: &ServiceSource, order: &Order) -> kube::Result<()> {
        let (params, wanted) = (PatchParams::apply(MANAGER_MANAGER).force(), service(source, order));
        let shown = self.api.patch(&order.id, &params, &Patch::Apply(&wanted)).await?;
        let Some(shown) = shown.readable() else { return Ok(()) };
        let Some(patch) = without_others(&wanted, &shown) else { return Ok(()) };
        self.api.patch(&order.id, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    async fn withdraw(&self, id: &str) -> kube::Result<Ending> {
        match self.api.delete(id, &DeleteParams::default()).await {
            Ok(_) => Ok(Ending::Begun),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Ending::Over),
            Err(error) => Err(error),
        }
    }

    fn watch(&self, watches: &Watches, inbox: Inbox) {
        let mut events = watches.events(self.api.clone(), Config::default().labels(POOL_LABEL));
        tokio::spawn(async move {
            let (mut all, mut unreadable) = (Vec::new(), BTreeSet::new());
            while let Some(event) = events.next().await {
                match event {
                    Event::Init => (all, unreadable) = (Vec::new(), BTreeSet::new()),
                    Event::InitApply(Decoded::Object(service)) => all.push(delivery(&service)),
                    Event::InitApply(service @ Decoded::Unreadable(_)) => drop(unreadable.insert(name(&service))),
                    Event::InitDone => {
                        let (all, unreadable) = (std::mem::take(&mut all), std::mem::take(&mut unreadable));
                        inbox.seen(Seen::Deliveries { all, unreadable });
                    }
                    Event::Apply(Decoded::Object(service)) => {
                        let delivery = delivery(&service);
                        inbox.seen(Seen::Delivery(delivery.id.clone(), Some(delivery)));
                    }
                    // What it delivered last stays in force.
                    Event::Apply(Decoded::Unreadable(_)) => {}
                    Event::Delete(service) => inbox.seen(Seen::Delivery(name(&service), None)),
                }
            }
        });
    }
}

fn name(service: &Decoded<HubService>) -> String {
    service.meta().name.clone().unwrap_or_default()
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
    let spec = ServiceSpec {
        type_: Some("LoadBalancer".to_owned()),
        load_balancer_class: load_balancer_class.clone(),
        // Envoy shall see who connects: source ranges and PROXY protocol are about clients, not about nodes.
        external_traffic_policy: Some("Local".to_owned()),
        selector: Some(selector.clone().unwrap_or_else(everywhere)),
        ports: Some(ports.collect()),
        ..ServiceSpec::default()
    };
    annotations.insert(ORDERED_SPEC_ANNOTATION.to_owned(), hash(&spec));
    Service {
        metadata: ObjectMeta {
            name: Some(id.clone()),
            labels: Some(BTreeMap::from([(POOL_LABEL.to_owned(), pool.clone())])),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// Takes out the ports that somebody else has put into a Service of ours: applying leaves to each what is his. Ours stay as they
/// are shown, with the node ports that they were given.
fn without_others(wanted: &Service, shown: &HubService) -> Option<Value> {
    fn ports(spec: &Option<ServiceSpec>) -> impl Iterator<Item = &ServicePort> {
        spec.iter().flat_map(|spec| spec.ports.iter().flatten())
    }
    let ours = |port: &&ServicePort| {
        ports(&wanted.spec).any(|ours| (ours.port, &ours.protocol) == (port.port, &port.protocol))
    };
    let kept: Vec<&ServicePort> = ports(&shown.spec).filter(ours).collect();
    let version = &shown.metadata.resource_version;
    (kept.len() < ports(&shown.spec).count())
        .then(|| json!({"metadata": {"resourceVersion": version}, "spec": {"ports": kept}}))
}

/// A hash of the fields that an order sets and somebody else may change. What the API and the cloud add is not in it, such as
/// node ports; `loadBalancerClass` never changes.
fn hash(spec: &ServiceSpec) -> String {
    let port = |port: &ServicePort| {
        let ServicePort { name, port, protocol, target_port, app_protocol: _, node_port: _ } = port;
        format!("{port} {protocol:?} {name:?} {target_port:?}")
    };
    let mut ports: Vec<String> = spec.ports.iter().flatten().map(port).collect();
    ports.sort_unstable();
    let ServiceSpec { type_, external_traffic_policy, selector, .. } = spec;
    let selector = selector.as_ref().filter(|selector| !selector.is_empty()); // the API shows an empty one as none
    let text = format!("{type_:?} {external_traffic_policy:?} {selector:?} {ports:?}");
    let digits: Vec<String> = Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// What such a Service delivers. What others have changed in it is by no order: then the engine orders it anew.
fn delivery(service: &HubService) -> Delivery {
    let metadata = &service.metadata;
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned();
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(POOL_LABEL)).cloned();
    let owner = annotation(OWNER_ANNOTATION);
    let is_as_ordered = service.spec.as_ref().map(hash) == annotation(ORDERED_SPEC_ANNOTATION);
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
        digest: annotation(ORDER_ANNOTATION).filter(|_| is_as_ordered).unwrap_or_default(),
        addresses: given.iter().filter_map(address).collect(),
        hostnames: given.iter().filter(|i| address(i).is_none()).filter_map(|i| i.hostname.clone()).collect(),
        ports: service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).filter_map(door).collect(),
    }
}

/// A port as clients find it, if it is one of ours.
fn door(port: &ServicePort) -> Option<(Protocol, u16)> {
    Some((Protocol::of_service(port.protocol.as_deref())?, u16::try_from(port.port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_api::ip_pool::Source;
    use nave_manager_core::OrderedPort;

    fn source() -> ServiceSource {
        ServiceSource { annotations: [("cloud/size".into(), "small".into())].into(), ..ServiceSource::default() }
    }

    fn order() -> Order {
        Order {
            id: "nave-cloud-web-0123456789".into(),
            pool: "cloud".into(),
            source: Source::Service(source()),
            fleet: "default".into(),
            owner: Some(Key::new("tenant-shop", "web")),
            uid: "u1".into(),
            ports: vec![
                OrderedPort { protocol: Protocol::Tcp, port: 80, target: 20_000 },
                OrderedPort { protocol: Protocol::Udp, port: 80, target: 20_001 },
            ],
        }
    }

    /// The Service as the API shows it.
    fn shown(service: Service) -> HubService {
        let Service { metadata, spec, status: _ } = service;
        HubService { metadata, spec, status: None }
    }

    #[test]
    fn a_service_says_by_which_order_it_was_made() {
        let order = order();
        let expected = Delivery {
            id: order.id.clone(),
            pool: order.pool.clone(),
            owner: order.owner.clone(),
            uid: order.uid.clone(),
            digest: order.digest(),
            addresses: Vec::new(),
            hostnames: Vec::new(),
            ports: [(Protocol::Tcp, 80), (Protocol::Udp, 80)].into(),
        };
        assert_eq!(delivery(&shown(service(&source(), &order))), expected);
    }

    #[test]
    fn what_the_api_adds_to_a_service_leaves_it_as_ordered() {
        let mut service = service(&source(), &order());
        let spec = service.spec.as_mut().unwrap();
        spec.cluster_ip = Some("10.96.0.7".into());
        spec.session_affinity = Some("None".into());
        spec.allocate_load_balancer_node_ports = Some(true);
        let ports = spec.ports.as_mut().unwrap();
        ports.iter_mut().zip(30_000..).for_each(|(port, number)| port.node_port = Some(number));
        ports.reverse();
        assert_eq!(delivery(&shown(service)).digest, order().digest());
    }

    #[test]
    fn what_others_put_into_a_service_is_taken_out_and_ours_keeps_its_node_ports() {
        let wanted = service(&source(), &order());
        let mut shown = shown(wanted.clone());
        assert_eq!(without_others(&wanted, &shown), None);
        shown.metadata.resource_version = Some("7".into());
        let ports = shown.spec.as_mut().unwrap().ports.as_mut().unwrap();
        ports.iter_mut().zip(30_000..).for_each(|(port, number)| port.node_port = Some(number));
        let kept = json!(ports);
        ports.push(ServicePort { port: 81, protocol: Some("TCP".into()), ..ServicePort::default() });
        let expected = json!({"metadata": {"resourceVersion": "7"}, "spec": {"ports": kept}});
        assert_eq!(without_others(&wanted, &shown), Some(expected));
    }

    #[test]
    fn a_service_that_somebody_changed_is_by_no_order() {
        let changes: [fn(&mut ServiceSpec); 5] = [
            |spec| spec.type_ = Some("ClusterIP".into()),
            |spec| spec.external_traffic_policy = Some("Cluster".into()),
            |spec| spec.selector = Some([("app".to_owned(), "other".to_owned())].into()),
            |spec| spec.ports.as_mut().unwrap()[0].target_port = Some(IntOrString::Int(22)),
            |spec| spec.ports.as_mut().unwrap().truncate(1),
        ];
        for change in changes {
            let mut service = service(&source(), &order());
            change(service.spec.as_mut().unwrap());
            assert_eq!(delivery(&shown(service.clone())).digest, "", "{:?}", service.spec);
        }
    }
}
