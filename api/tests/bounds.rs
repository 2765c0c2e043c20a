//! Every field of every schema has a bound, and its Rust type holds what lies within: an object that the API server takes can be
//! read. Knows schemas and types; knows no field by its name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod support;

use nave_api::{AddressGroup, Fleet, HTTPLoadBalancer, IPAllocation, IPPool, NodeSet, TCPLoadBalancer, Tenant};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use support::{Step, along, least, rules, schemas, size, walk, whole, written};

/// Moments at the ends of what the pattern of a moment admits, in both zones that are farthest away.
const MOMENTS: [&str; 6] = [
    "0000-01-01T00:00:00+23:59",
    "0000-01-01T00:00:00Z",
    "2999-12-31T23:59:59Z",
    "9998-12-31T23:59:59Z",
    "9998-12-31T23:59:59-23:59",
    "9998-12-31t23:59:59.999999999-23:59",
];

#[test]
fn every_field_of_every_schema_has_a_bound() {
    let mut unbounded = Vec::new();
    for (kind, schema) in &schemas() {
        for (way, schema) in walk(schema) {
            unbounded.extend(lacking(schema).map(|lacks| format!("{kind} {}: {lacks}", written(&way))));
        }
    }
    assert!(unbounded.is_empty(), "{unbounded:#?}");
}

#[test]
fn the_rust_types_hold_whatever_the_schemas_admit() {
    let mut refused = Vec::new();
    let mut tried = 0;
    for (kind, schema) in &schemas() {
        for (way, field) in walk(schema) {
            for extreme in extremes(field, &way) {
                tried += 1;
                let object = along(schema, &way, &extreme);
                if let Err(error) = read(kind, object) {
                    refused.push(format!("{kind} {}: {error}", written(&way)));
                }
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(tried > 500, "{tried} extremes");
}

#[test]
fn a_value_beyond_a_type_is_not_read() {
    let ports =
        |port: Value| json!({"spec": {"ports": [{"port": port, "backendPort": 1}], "backends": {"endpoints": []}}});
    assert!(read("TCPLoadBalancer", ports(json!(65535))).is_ok());
    assert!(read("TCPLoadBalancer", ports(json!(65536))).is_err());
    let seen = |time: &str| json!({"spec": {}, "status": {"agent": {"seenAt": time}}});
    assert!(read("Tenant", seen("9998-12-31T23:59:59Z")).is_ok());
    assert!(read("Tenant", seen("9999-12-31T23:59:59Z")).is_err());
}

/// What the schema does not bound.
fn lacking(schema: &Value) -> Option<&'static str> {
    let has = |bound: &str| !schema[bound].is_null();
    if has("x-kubernetes-preserve-unknown-fields")
        || has("x-kubernetes-int-or-string")
        || has("x-kubernetes-embedded-resource")
    {
        return Some("it takes anything");
    }
    if has("enum") {
        return None;
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" if has("additionalProperties") => {
            let bounds_keys = |rule: &Value| {
                rule["rule"].as_str().is_some_and(|rule| rule.starts_with("self.all(key, key.size() <= "))
            };
            let all = [
                (has("maxProperties"), "no maxProperties"),
                (rules(schema).any(bounds_keys), "no rule bounds its keys"),
            ];
            all.into_iter().find_map(|(holds, lacks)| (!holds).then_some(lacks))
        }
        "object" | "boolean" => None,
        "array" => (!has("maxItems")).then_some("no maxItems"),
        "string" if schema["format"] == "date-time" && !has("pattern") => {
            Some("the format date-time alone bounds no year")
        }
        "string" => (!has("maxLength")).then_some("no maxLength"),
        "integer" => (!has("minimum") || !has("maximum")).then_some("no minimum or no maximum"),
        _ => Some("a type that this test does not know"),
    }
}

/// Values at the ends of what the schema admits.
fn extremes(schema: &Value, way: &[Step]) -> Vec<Value> {
    if let Some(choices) = schema["enum"].as_array() {
        return choices.clone();
    }
    let most = |bound: &str| size(&schema[bound]).unwrap_or_else(|| panic!("{} has no {bound}", written(way)));
    match schema["type"].as_str().unwrap_or_default() {
        "object" if schema["additionalProperties"].is_object() => {
            let entry = |at| (format!("example.com/{at}"), least(&schema["additionalProperties"]));
            vec![json!({}), (0..most("maxProperties")).map(entry).collect::<Map<_, _>>().into()]
        }
        "object" => vec![least(schema)],
        "array" => {
            let least = least(&schema["items"]);
            vec![vec![least; most("maxItems")].into()]
        }
        "string" if schema["format"] == "date-time" => {
            MOMENTS.iter().filter(|moment| moment.len() <= most("maxLength")).map(|moment| json!(moment)).collect()
        }
        "string" => vec!["\u{1f980}".repeat(most("maxLength")).into(), least(schema)],
        "integer" => [&schema["minimum"], &schema["maximum"]].into_iter().map(|bound| whole(bound).into()).collect(),
        "boolean" => vec![json!(true), json!(false)],
        other => panic!("{} is of type {other:?}", written(way)),
    }
}

fn read(kind: &str, object: Value) -> Result<(), serde_json::Error> {
    fn of<K: DeserializeOwned>(object: Value) -> Result<(), serde_json::Error> {
        serde_json::from_value::<K>(object).map(drop)
    }
    let mut object = object;
    object["metadata"] = json!({"name": "x"});
    match kind {
        "AddressGroup" => of::<AddressGroup>(object),
        "Fleet" => of::<Fleet>(object),
        "HTTPLoadBalancer" => of::<HTTPLoadBalancer>(object),
        "IPAllocation" => of::<IPAllocation>(object),
        "IPPool" => of::<IPPool>(object),
        "NodeSet" => of::<NodeSet>(object),
        "TCPLoadBalancer" => of::<TCPLoadBalancer>(object),
        "Tenant" => of::<Tenant>(object),
        other => panic!("the kind {other} has a type, too"),
    }
}
