//! What is done to a request and its response: HTTPRoute's filters, field by field. A filter is the one member that it
//! sets; HTTPRoute's `type` beside it would say the same again. Knows their forms; does nothing.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{self, TOKEN};

/// One thing that is done; exactly one member.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = rules::exactly_one)]
pub enum Filter {
    /// Changes the request's headers before a backend sees them.
    RequestHeaderModifier(HeaderModifier),
    /// Changes the response's headers before the client sees them.
    ResponseHeaderModifier(HeaderModifier),
    /// Answers with a redirect; no backend is asked.
    RequestRedirect(Redirect),
    /// Changes host and path of the request before a backend sees them.
    UrlRewrite(Rewrite),
    /// Sends a copy of the request to another backend as well, whose answers are dropped.
    RequestMirror(Mirror),
}

/// Changes of headers, in this order: removed, set, added.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeaderModifier {
    /// Headers that get this value whether they are there or not. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub set: Vec<Header>,
    /// Headers that get this value besides those that are there. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub add: Vec<Header>,
    /// Names of headers that are taken away. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub remove: Vec<String>,
}

/// A header and its value.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The name, in any case.
    #[schemars(length(min = 1, max = 256))]
    #[schemars(regex(pattern = TOKEN))]
    pub name: String,
    /// The value.
    #[schemars(length(min = 1, max = 4096))]
    #[schemars(regex(pattern = r"^[^\x00-\x08\x0a-\x1f\x7f]+$"))]
    pub value: String,
}

/// A redirect. What it leaves out stays as in the request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// http or https. Default: the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The host. Default: the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::hostname("hostname"))]
    pub hostname: Option<String>,
    /// The path. Default: the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// The port. Default: the well-known one of `scheme`, else the listener's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308. Default: 302.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self in [301, 302, 303, 307, 308]").message("statusCode is 301, 302, 303, 307 or 308"))]
    pub status_code: Option<u16>,
}

/// A scheme of HTTP.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

/// Other host and path for the backend.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// The host. Default: the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::hostname("hostname"))]
    pub hostname: Option<String>,
    /// The path. Default: the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// Another path; exactly one member.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = rules::exactly_one)]
pub enum PathModifier {
    /// This whole path.
    ReplaceFullPath(#[schemars(length(min = 1, max = 1024))] String),
    /// This in place of the prefix that matched; only where every match of the rule is a PathPrefix.
    ReplacePrefixMatch(#[schemars(length(max = 1024))] String),
}

/// A copy of requests.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// The name in `spec.backends`.
    #[schemars(length(min = 1, max = 63))]
    pub backend: String,
    /// How many of a hundred requests, 0 to 100. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub percent: Option<u32>,
}
