//! Rules that several kinds share, in the API server's own language (CEL), with messages that say how to mend it. Knows
//! the forms of names, networks and times; knows no kind.

use kube::core::Rule;
use schemars::Schema;
use serde_json::{Map, Value, json};

/// A DNS label: what names of our kinds are made of.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A DNS name of two labels or more, with an optional `*.` before it.
const HOSTNAME: &str = r"^([*][.])?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?$";

/// The name of a label or an annotation, with an optional domain before it.
const KEY: &str = "^(([a-z0-9]([-a-z0-9]*[a-z0-9])?[.])*[a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";

/// A token of HTTP: what header names are made of. A pattern, as the deep lists of rules leave no budget for CEL.
pub(crate) const TOKEN: &str = "^[A-Za-z0-9!#$%&*+.^_`|~-]+$";

/// The string is a DNS label.
pub(crate) fn label(what: &str) -> Rule {
    Rule::new(format!("self.matches('{LABEL}')")).message(&*format!(
        "{what} consists of lower case letters, digits and dashes, and begins and ends with a letter or digit"
    ))
}

/// Every string of the list is a DNS label.
pub(crate) fn labels(what: &str) -> Rule {
    Rule::new(format!("self.all(n, n.matches('{LABEL}'))"))
        .message(&*format!("{what} lists names of lower case letters, digits and dashes"))
}

/// Every key of the map is the name of a label or an annotation.
pub(crate) fn keys(what: &str) -> Rule {
    Rule::new(format!("self.all(key, key.size() <= 317 && key.matches('{KEY}'))")).message(&*format!(
        "the keys of {what} are names such as example.com/size: a domain and a slash, or neither, and 63 letters, digits, dashes, \
         underscores and dots at most"
    ))
}

/// Every string of the list is a hostname.
pub(crate) fn hostnames(what: &str) -> Rule {
    Rule::new(format!("self.all(h, h.matches('{HOSTNAME}'))")).message(&*format!(
        "{what} lists DNS names in lower case such as shop.example.com or *.shop.example.com, without port and final dot"
    ))
}

/// The string is a hostname without `*.`.
pub(crate) fn hostname(what: &str) -> Rule {
    Rule::new(format!("!self.startsWith('*') && self.matches('{HOSTNAME}')"))
        .message(&*format!("{what} is a DNS name in lower case such as shop.example.com"))
}

/// Every string of the list is a network.
pub(crate) fn networks(what: &str, example: &str) -> Rule {
    Rule::new("self.all(n, isCIDR(n))").message(&*format!("{what} lists networks in CIDR notation, such as {example}"))
}

/// Every string of the list is a network, a range or an address.
pub(crate) fn spans(what: &str) -> Rule {
    Rule::new(
        "self.all(a, isCIDR(a) || isIP(a) || (a.split('-').size() == 2 && a.split('-').all(end, isIP(end)) \
         && ip(a.split('-')[0]).family() == ip(a.split('-')[1]).family()))",
    )
    .message(&*format!(
        "{what} lists networks (203.0.113.0/24), ranges of one family (198.51.100.10-198.51.100.20) and single addresses"
    ))
}

/// The duration is longer than nothing.
pub(crate) fn some_time(what: &str) -> Rule {
    Rule::new("!self.matches('^([0-9]{1,6}(ms|s|m|h))+$') || duration(self) > duration('0s')")
        .message(&*format!("{what} is longer than 0s"))
}

/// The path begins with a slash.
pub(crate) fn absolute(what: &str) -> Rule {
    Rule::new("self.startsWith('/')").message(&*format!("{what} begins with a slash"))
}

/// The year of a moment that Rust's clock and Kubernetes' can both hold, in whatever time zone it is written; then a date and a
/// time with a zone.
const MOMENT: &str = r"^([0-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

/// Bounds a moment: the format `date-time` alone admits texts of any length, and moments that no clock of ours can hold.
pub(crate) fn moment(schema: &mut Schema) {
    schema.insert("maxLength".to_owned(), 35.into());
    schema.insert("pattern".to_owned(), MOMENT.into());
}

/// Makes of an enum, one object per variant, a union that answers with a sentence: `oneOf` would say `must validate one
/// and only one schema` and keep every rule besides from being checked.
pub(crate) fn exactly_one(schema: &mut Schema) {
    let Some(Value::Array(variants)) = schema.remove("oneOf") else { return };
    let members: Map<String, Value> = variants.iter().filter_map(member).collect();
    let names: Vec<&str> = members.keys().map(String::as_str).collect();
    let counted: Vec<String> = names.iter().map(|name| format!("(has(self.{name}) ? 1 : 0)")).collect();
    let rule = json!([{
        "rule": format!("{} == 1", counted.join(" + ")),
        "message": format!("exactly one of {} is set", names.join(", ")),
    }]);
    schema.insert("type".to_owned(), "object".into());
    schema.insert("x-kubernetes-validations".to_owned(), rule);
    schema.insert("properties".to_owned(), Value::Object(members));
}

/// The one property of a variant, with the variant's documentation.
fn member(variant: &Value) -> Option<(String, Value)> {
    let (name, value) = variant.get("properties")?.as_object()?.iter().next()?;
    let mut value = value.clone();
    if let (Some(text), Some(fields)) = (variant.get("description"), value.as_object_mut()) {
        fields.insert("description".to_owned(), text.clone());
    }
    Some((name.clone(), value))
}
