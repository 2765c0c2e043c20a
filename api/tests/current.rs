//! Holds the table of largest specs in docs/tenants.md against the schemas. `UPDATE_GENERATED=1` writes it, which is what
//! `cargo xtask gen` does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod support;

use std::path::PathBuf;

use serde_json::Value;
use support::{fields, is_union, schemas, size, whole};

const BEGIN: &str = "<!-- The table is rendered from api/ by `cargo xtask gen`. -->\n";
const END: &str = "<!-- Its end. -->\n";
/// The longest request that etcd takes, in bytes: its own default, and that of the API server.
const REQUEST: u64 = 1_572_864;
/// A character of a string as the API server stores it: `<`, `>`, `&` and control characters become `\u003c` and the like.
const CHARACTER: u64 = 6;
/// A character of a moment, which is ASCII.
const PLAIN: u64 = 1;
/// The longest key of a map, in characters: a domain, a slash and a name.
const KEY: u64 = 317;

#[test]
fn the_largest_spec_of_every_kind_is_what_the_page_says() {
    let page = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tenants.md"));
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page has the beginning of the table");
    let (_, after) = rest.split_once(END).expect("the page has the end of the table");
    let rendered = [before, BEGIN, &table(), END, after].concat();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&page, &rendered).unwrap();
    } else {
        assert!(text == rendered, "the table of docs/tenants.md is not what api/ says: run `cargo xtask gen`");
    }
}

#[test]
fn a_spec_is_as_large_as_its_fields_together() {
    let schema = serde_json::json!({"type": "object", "properties": {
        "list": {"type": "array", "maxItems": 2, "items": {"type": "integer", "minimum": -5, "maximum": 100}},
        "flag": {"type": "boolean"},
        "text": {"type": "string", "maxLength": 3},
        "word": {"enum": ["a", "long"]},
    }});
    let escaped = r"\u0001";
    let spec = format!(r#"{{"flag":false,"list":[100,100],"text":"{escaped}{escaped}{escaped}","word":"long"}}"#);
    assert_eq!(largest(&schema), u64::try_from(spec.len()).unwrap());
}

fn table() -> String {
    let row = |(kind, schema): (String, Value)| {
        let bytes = largest(&schema["properties"]["spec"]);
        let holds = if bytes <= REQUEST {
            "the schema"
        } else {
            "the API server's limit, 1 572 864 bytes for the whole object"
        };
        format!("| {kind} | {} | {holds} |\n", grouped(bytes))
    };
    let rows: String = schemas().into_iter().map(row).collect();
    "| kind | largest spec that the schema admits, in bytes | what holds |\n|---|---|---|\n".to_owned() + &rows
}

/// The most bytes that a value of the schema takes as JSON without spaces.
fn largest(schema: &Value) -> u64 {
    if let Some(choices) = schema["enum"].as_array() {
        return choices.iter().map(|choice| length(&choice.to_string())).max().unwrap_or(0);
    }
    let most =
        |bound: &str| u64::try_from(size(&schema[bound]).unwrap_or_else(|| panic!("no {bound}: {schema}"))).unwrap();
    // What stands between brackets, with a comma behind all but the last.
    let bracketed = |inner: u64| 2 + inner.saturating_sub(1);
    match schema["type"].as_str().unwrap_or_default() {
        "object" if schema["additionalProperties"].is_object() => {
            let entry = 2 + KEY + 1 + largest(&schema["additionalProperties"]) + 1;
            bracketed(most("maxProperties") * entry)
        }
        "object" => {
            let sizes = fields(schema).map(|(name, schema)| 2 + length(name) + 1 + largest(schema) + 1);
            bracketed(if is_union(schema) { sizes.max().unwrap_or(0) } else { sizes.sum() })
        }
        "array" => bracketed(most("maxItems") * (largest(&schema["items"]) + 1)),
        "string" => 2 + most("maxLength") * if schema["format"] == "date-time" { PLAIN } else { CHARACTER },
        "integer" => {
            let digits = |bound: &str| {
                length(&whole(&schema[bound]).unwrap_or_else(|| panic!("no {bound}: {schema}")).to_string())
            };
            digits("minimum").max(digits("maximum"))
        }
        "boolean" => length("false"),
        other => panic!("a schema of type {other:?}: {schema}"),
    }
}

fn length(text: &str) -> u64 {
    text.len().try_into().unwrap()
}

/// With a space between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
    parts.join(" ")
}
