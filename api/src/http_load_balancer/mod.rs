//! HTTPLoadBalancer: what a spoke asks on layer 7, in the vocabulary of Gateway API's HTTPRoute.

pub mod filter;
pub mod matching;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::tcp_load_balancer::{Address, AddressRequest, NodeBackends, Origin};
use crate::{Duration, condition, limits, rules};
use filter::Filter;
use matching::Match;

/// Hostnames and rules that lead to backends in a spoke.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "HTTPLoadBalancer",
    plural = "httploadbalancers",
    shortname = "httplb",
    category = "nave",
    namespaced,
    status = "HTTPLoadBalancerStatus",
    derive = "PartialEq",
    doc = "Hostnames and rules that lead to backends in a spoke.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of an HTTPLoadBalancer is a DNS label of at most 63 characters"),
    printcolumn(name = "Origin", type_ = "string", json_path = ".spec.origin.name"),
    printcolumn(name = "Hostname", type_ = "string", json_path = ".status.hostname"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[0].value"),
    printcolumn(name = "Programmed", type_ = "string", json_path = ".status.conditions[?(@.type=='Programmed')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.status!='True')].reason", priority = 1, description = "Of the first condition that is not True: Accepted, Allocated, Programmed. Empty where all are"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.status!='True')].message", priority = 1, description = "Of the same condition"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.rules.all(r, r.backends.all(b, self.backends.exists(known, known.name == b.name)))").message("a rule refers to a backend that backends does not list"))]
#[x_kube(validation = Rule::new("self.rules.all(r, r.filters.all(f, !has(f.requestMirror) || self.backends.exists(known, known.name == f.requestMirror.backend)))").message("a requestMirror refers to a backend that backends does not list"))]
pub struct HTTPLoadBalancerSpec {
    /// The object of the spoke that this stands for: for people and for cleaning up, never a right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The hostnames besides the generated one, lower case, a leading `*.` allowed. Default: none.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = rules::hostnames("hostnames"))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,
    /// Certificates. Default: the hub's own for the generated hostname.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub tls: Vec<HttpTls>,
    /// The rules. A request that no rule matches gets 404.
    #[schemars(length(min = 1, max = 64))]
    pub rules: Vec<HttpRule>,
    /// The backends that the rules refer to by name.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub backends: Vec<HttpBackend>,
    /// Which addresses to get. Default: the shared address of the default pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressRequest>,
}

/// A certificate for hostnames.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpTls {
    /// The hostnames; all of the load balancer's when empty.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = rules::hostnames("hostnames"))]
    pub hostnames: Vec<String>,
    /// The Secret of type kubernetes.io/tls in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// One rule: what it matches, what it does, where it leads.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.filters.exists(f, has(f.requestRedirect)) || self.backends.size() == 0").message("a rule that redirects has no backends"))]
#[x_kube(validation = Rule::new("!self.filters.exists(f, (has(f.urlRewrite) && has(f.urlRewrite.path) && has(f.urlRewrite.path.replacePrefixMatch)) || (has(f.requestRedirect) && has(f.requestRedirect.path) && has(f.requestRedirect.path.replacePrefixMatch))) || self.matches.all(m, !has(m.path) || m.path.type == 'PathPrefix')").message("replacePrefixMatch needs a PathPrefix in every match of its rule"))]
pub struct HttpRule {
    /// Any of these. Default: the prefix `/`.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub matches: Vec<Match>,
    /// What is done to requests and responses. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.filter(f, has(f.requestRedirect) || has(f.urlRewrite)).size() <= 1").message("a rule has one requestRedirect or one urlRewrite, not both"))]
    #[x_kube(validation = Rule::new("self.filter(f, has(f.requestHeaderModifier)).size() <= 1 && self.filter(f, has(f.responseHeaderModifier)).size() <= 1").message("a rule has one requestHeaderModifier and one responseHeaderModifier at most: put the changes together"))]
    pub filters: Vec<Filter>,
    /// Where requests go, by weight. None, and no redirect: they get 500.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub backends: Vec<WeightedBackend>,
    /// How long a request may take. Default: no limit but the connection's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RuleTimeouts>,
}

/// A backend by name, with its share.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WeightedBackend {
    /// The name in `spec.backends`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its share of the rule's requests, 0 to 1000000. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000))]
    pub weight: Option<u32>,
}

/// How long a request may take.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.request) || !has(self.backendRequest) || duration(self.request) == duration('0s') || duration(self.backendRequest) <= duration(self.request)").message("backendRequest is not longer than request"))]
pub struct RuleTimeouts {
    /// From the request's first byte to the response's last; 0s: no limit. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// One try of one backend; 0s: no limit. Default: as `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
}

/// A backend of HTTP rules.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpBackend {
    /// Its name in the rules.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::label("name"))]
    pub name: String,
    /// The node port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The nodes.
    pub nodes: NodeBackends,
}

/// What became of an HTTPLoadBalancer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HTTPLoadBalancerStatus {
    /// The generated hostname; CNAME your own to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub hostname: Option<String>,
    /// The hostnames it has, and since when.
    #[serde(default)]
    #[schemars(length(max = 65))]
    pub hostnames: Vec<ClaimedHostname>,
    /// Its addresses.
    #[serde(default)]
    #[schemars(length(max = limits::SHOWN_ADDRESSES))]
    pub addresses: Vec<Address>,
    /// Accepted, Allocated, Programmed.
    #[serde(default)]
    #[schemars(transform = condition::bounded)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A hostname that a load balancer has.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedHostname {
    /// The hostname.
    #[schemars(length(max = 253))]
    pub value: String,
    /// Since when; the older claim wins.
    #[schemars(transform = rules::moment)]
    pub since: Time,
}
