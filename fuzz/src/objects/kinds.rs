//! The kinds that agents and managers watch, list or get. Knows their types and which core decides on them; knows no object.

use std::fmt::Debug;
use std::sync::OnceLock;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, ResourceQuota, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Resource;
use kube::core::PartialObjectMeta;
use nave_agent_core::World;
use nave_api::{AddressGroup, Fleet, HTTPLoadBalancer, IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use nave_manager_core::Seen;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Sent, agent, hold_of, manager};

/// What a watch can read.
pub trait Readable: Resource<DynamicType = ()> + DeserializeOwned + Serialize + Clone + Debug + Send + 'static {}

impl<K: Resource<DynamicType = ()> + DeserializeOwned + Serialize + Clone + Debug + Send + 'static> Readable for K {}

/// A kind and what must hold of its objects.
pub struct Kind {
    pub name: &'static str,
    /// Whether the object could be read.
    pub hold: fn(&Sent) -> bool,
    /// Kind and apiVersion, as fields of JSON.
    pub head: fn() -> String,
    schema: fn() -> Schema,
    /// The schema, once it was asked for.
    made: OnceLock<Value>,
}

impl Kind {
    /// From the kind's Rust type, which is what the CRD is made of, too.
    pub fn schema(&self) -> &Value {
        self.made.get_or_init(|| (self.schema)().to_value())
    }
}

/// In the order of the letters that choose them.
pub static KINDS: [Kind; 23] = [
    of::<AddressGroup>("AddressGroup", |sent| hold_of::<AddressGroup>(sent).readable().is_some()),
    of::<Fleet>("Fleet", |sent| manager::decide(hold_of(sent), Seen::Fleets)),
    of::<HTTPLoadBalancer>("HTTPLoadBalancer", |sent| hold_of::<HTTPLoadBalancer>(sent).readable().is_some()),
    of::<IPAllocation>("IPAllocation", |sent| manager::decide(hold_of(sent), Seen::Allocations)),
    of::<IPPool>("IPPool", |sent| manager::decide(hold_of(sent), Seen::Pools)),
    of::<NodeSet>("NodeSet", |sent| {
        let object = hold_of(sent);
        agent::decide(object.clone(), World::see_node_set);
        manager::decide_beside(object, Seen::NodeSets)
    }),
    of::<TCPLoadBalancer>("TCPLoadBalancer", |sent| {
        let object = hold_of(sent);
        agent::decide(object.clone(), World::see_intent);
        manager::decide_beside(object, Seen::LoadBalancers)
    }),
    of::<Tenant>("Tenant", |sent| manager::decide(hold_of(sent), Seen::Tenants)),
    of::<Service>("Service", |sent| agent::decide_beside(hold_of(sent), World::see_service)),
    of::<Node>("Node", |sent| agent::decide(hold_of(sent), World::see_node)),
    of::<EndpointSlice>("EndpointSlice", |sent| agent::decide_beside(hold_of(sent), World::see_slice)),
    of::<Secret>("Secret", |sent| hold_of::<Secret>(sent).readable().is_some()),
    of::<Lease>("Lease", |sent| hold_of::<Lease>(sent).readable().is_some()),
    of::<Namespace>("Namespace", |sent| hold_of::<Namespace>(sent).readable().is_some()),
    of::<ServiceAccount>("ServiceAccount", |sent| hold_of::<ServiceAccount>(sent).readable().is_some()),
    of::<Role>("Role", |sent| hold_of::<Role>(sent).readable().is_some()),
    of::<RoleBinding>("RoleBinding", |sent| hold_of::<RoleBinding>(sent).readable().is_some()),
    of::<ResourceQuota>("ResourceQuota", |sent| hold_of::<ResourceQuota>(sent).readable().is_some()),
    of::<ServiceCIDR>("ServiceCIDR", |sent| hold_of::<ServiceCIDR>(sent).readable().is_some()),
    of::<SelfSubjectAccessReview>("SelfSubjectAccessReview", |sent| {
        hold_of::<SelfSubjectAccessReview>(sent).readable().is_some()
    }),
    // Of these the programs ask for the metadata alone.
    of::<Namespace>("metadata of a Namespace", metadata::<Namespace>),
    of::<Secret>("metadata of a Secret", metadata::<Secret>),
    of::<CustomResourceDefinition>("metadata of a CustomResourceDefinition", metadata::<CustomResourceDefinition>),
];

const fn of<K: JsonSchema + Resource<DynamicType = ()>>(name: &'static str, hold: fn(&Sent) -> bool) -> Kind {
    Kind { name, hold, head: head::<K>, schema: schema::<K>, made: OnceLock::new() }
}

fn head<K: Resource<DynamicType = ()>>() -> String {
    format!(r#""kind":"{}","apiVersion":"{}","#, K::kind(&()), K::api_version(&()))
}

fn schema<K: JsonSchema>() -> Schema {
    SchemaSettings::openapi3()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<K>()
}

fn metadata<K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static>(sent: &Sent) -> bool {
    hold_of::<PartialObjectMeta<K>>(sent).readable().is_some()
}
