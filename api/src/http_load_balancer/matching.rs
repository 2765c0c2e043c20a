//! What a request must look like: HTTPRoute's matches, field by field. Knows their forms; compares nothing.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::TOKEN;

/// What a request must look like; all of it. Among the matches of all rules for a hostname the most specific one wins, as
/// HTTPRoute says: an exact path, then the longest prefix, then a method, then the most headers, then the most query
/// parameters, then the older load balancer, then the earlier rule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// The path. Default: the prefix `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Headers, all of them. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<ValueMatch>,
    /// Query parameters, all of them; of a repeated parameter the first counts. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub query_params: Vec<ValueMatch>,
    /// The method. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
}

/// A path to match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'RegularExpression' || self.value.startsWith('/')").message("the value of an Exact or PathPrefix match begins with a slash"))]
#[x_kube(validation = Rule::new("self.type == 'RegularExpression' || !self.value.matches('//|/[.]{1,2}(/|$)|#|%2[fF]')").message("the value of an Exact or PathPrefix match is a normal path: without //, /./, /../, # and an encoded slash"))]
pub struct PathMatch {
    /// Exact, PathPrefix (whole segments) or RegularExpression (RE2). Default: PathPrefix.
    #[serde(rename = "type", default)]
    pub kind: PathMatchType,
    /// The path, prefix or expression.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// How a path is compared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Whole leading segments: `/shop` matches `/shop` and `/shop/cart`, not `/shopping`.
    #[default]
    PathPrefix,
    /// An RE2 expression over the whole path.
    RegularExpression,
}

/// A header or a query parameter to match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ValueMatch {
    /// The name; of headers the case does not matter.
    #[schemars(length(min = 1, max = 256))]
    #[schemars(regex(pattern = TOKEN))]
    pub name: String,
    /// Exact or RegularExpression (RE2). Default: Exact.
    #[serde(rename = "type", default)]
    pub kind: ValueMatchType,
    /// The value or expression.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// How a value is compared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueMatchType {
    /// The whole value, case and all.
    #[default]
    Exact,
    /// An RE2 expression over the whole value.
    RegularExpression,
}

/// A method of HTTP.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// CONNECT.
    Connect,
    /// OPTIONS.
    Options,
    /// TRACE.
    Trace,
    /// PATCH.
    Patch,
}
