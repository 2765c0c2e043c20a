//! The CRDs as trees of schemas, and objects built along a way through them. Knows schemas; knows no field by its name.
#![allow(dead_code, reason = "each test binary uses a part")]

use serde_json::{Map, Value, json};

/// A step from a schema to one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Field(String),
    Item,
    Entry,
}

/// Kind and schema of every CRD, without what the API server itself bounds: apiVersion, kind and metadata.
pub fn schemas() -> Vec<(String, Value)> {
    let crds = nave_api::crds().into_iter().map(|crd| serde_json::to_value(crd).unwrap());
    let schema = |mut crd: Value| {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take();
        let fields = schema["properties"].as_object_mut().unwrap();
        fields.retain(|name, _| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
        (kind, schema)
    };
    crds.map(schema).collect()
}

/// Every schema with the way to it, the root first.
pub fn walk(schema: &Value) -> Vec<(Vec<Step>, &Value)> {
    let mut all = Vec::new();
    let mut open = vec![(Vec::new(), schema)];
    while let Some((way, schema)) = open.pop() {
        let mut below = |step: Step, schema| open.push(([way.as_slice(), &[step]].concat(), schema));
        for (name, schema) in fields(schema) {
            below(Step::Field(name.clone()), schema);
        }
        if schema["items"].is_object() {
            below(Step::Item, &schema["items"]);
        }
        if schema["additionalProperties"].is_object() {
            below(Step::Entry, &schema["additionalProperties"]);
        }
        all.push((way, schema));
    }
    all
}

/// The way as people write it: `spec.ports[].port`.
pub fn written(way: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::Item => "[]".to_owned(),
        Step::Entry => "{}".to_owned(),
    };
    way.iter().map(step).collect::<String>().trim_start_matches('.').to_owned()
}

/// The smallest value of the schema that has `leaf` at the end of the way.
pub fn along(schema: &Value, way: &[Step], leaf: &Value) -> Value {
    let Some((step, rest)) = way.split_first() else { return leaf.clone() };
    match step {
        Step::Field(name) => {
            let mut object = if is_union(schema) { json!({}) } else { least(schema) };
            object[name] = along(&schema["properties"][name], rest, leaf);
            object
        }
        Step::Item => json!([along(&schema["items"], rest, leaf)]),
        Step::Entry => json!({"key": along(&schema["additionalProperties"], rest, leaf)}),
    }
}

/// The smallest value of the schema.
pub fn least(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|choices| choices.first()) {
        return first.clone();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {
            let is_union = is_union(schema);
            let fields = fields(schema).enumerate();
            let wanted = fields.filter(|(at, (name, _))| if is_union { *at == 0 } else { is_required(schema, name) });
            wanted.map(|(_, (name, schema))| (name.clone(), least(schema))).collect::<Map<_, _>>().into()
        }
        "array" => (0..schema["minItems"].as_u64().unwrap_or(0)).map(|_| least(&schema["items"])).collect(),
        "string" if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
        "string" => "x".repeat(size(&schema["minLength"]).unwrap_or(0)).into(),
        "integer" => whole(&schema["minimum"]).unwrap_or_default().into(),
        "boolean" => json!(false),
        other => panic!("a schema of type {other:?}: {schema}"),
    }
}

/// A bound of a schema. A CRD has floating-point numbers there, which hold these exactly.
pub fn whole(bound: &Value) -> Option<i64> {
    let bound = bound.as_f64()?;
    assert!(
        bound.fract() == 0.0 && bound.abs() <= 9_007_199_254_740_991.0,
        "{bound} is no whole number that a float tells from others"
    );
    #[allow(clippy::cast_possible_truncation, reason = "asserted above")]
    Some(bound as i64)
}

/// A bound of a length.
pub fn size(bound: &Value) -> Option<usize> {
    bound.as_u64().and_then(|bound| bound.try_into().ok())
}

pub fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// Whether exactly one of the object's fields is set.
pub fn is_union(schema: &Value) -> bool {
    rules(schema).any(|rule| rule["message"].as_str().is_some_and(|message| message.starts_with("exactly one of")))
}

pub fn rules(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten()
}

fn is_required(schema: &Value, field: &str) -> bool {
    schema["required"].as_array().is_some_and(|required| required.iter().any(|name| name == field))
}
