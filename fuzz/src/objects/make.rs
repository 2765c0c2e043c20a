//! Makes objects from a kind's schema, with dice. Knows schemas, and values that have broken programs; knows no kind.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::Sent;
use super::dice::Dice;
use super::kinds::Kind;
use super::server::NEIGHBOUR;

/// From so many bytes on, an object only gets what it must have.
const LARGE: usize = 48 * 1024;
/// A die from here on makes a value that the schema does not have.
const WILD: u8 = 244;

const NAMES: [&str; 7] = ["fuzzed", "default", "evil", "web", "public", "203.0.113.9", "kube-system"];
/// Of a tenant that has nothing to do with the neighbours which must not notice.
const NAMESPACE: &str = "tenant-evil";
const VERSIONS: [&str; 5] = ["12", "18446744073709551615", "18446744073709551616", "0", "none"];
const TIMES: [&str; 9] = [
    "2026-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "0000-01-01T00:00:00Z",
    "2026-01-01T00:00:00.123456789Z",
    "1970-01-01T00:00:00Z",
    "9999-12-30T22:00:01.000000Z",
    "2026-06-30T23:59:60Z",
    "2026-01-01T00:00:00+23:59",
    "2026-01-01t00:00:00zt",
];
const TEXTS: [&str; 48] = [
    "web",
    "",
    "LoadBalancer",
    "nave.dev/load-balancer",
    "TCP",
    "UDP",
    "SCTP",
    "IPv4",
    "IPv6",
    "Local",
    "Cluster",
    "PreferDualStack",
    "RequireDualStack",
    "True",
    "False",
    "Ready",
    "Programmed",
    "InternalIP",
    "ExternalIP",
    "Hostname",
    "default",
    "shop",
    "tenant-evil",
    "tenant-good",
    "Service",
    "203.0.113.1",
    "203.0.113.9",
    "10.0.0.1",
    "0.0.0.0",
    "127.0.0.1",
    "::1",
    "::",
    "fe80::1%eth0",
    "::ffff:10.0.0.1",
    "2001:db8::/64",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "::/0",
    "255.255.255.255",
    "5s",
    "0s",
    "999999h999999h",
    "250ms",
    "18446744073709551616",
    "nave.dev/agent",
    "kube-system",
    "\u{0}\u{1b}\u{7f}\u{feff}\u{1f980}<&>\u{2028}",
    "public",
];
const KEYS: [&str; 24] = [
    "nave.dev/pool",
    "nave.dev/cluster",
    "nave.dev/balancing",
    "nave.dev/source-ranges",
    "nave.dev/addresses",
    "nave.dev/backends",
    "nave.dev/health-check",
    "nave.dev/health-check-interval",
    "nave.dev/idle-timeout",
    "nave.dev/connect-timeout",
    "nave.dev/max-connections",
    "nave.dev/proxy-protocol",
    "nave.dev/ejection",
    "nave.dev/tenant",
    "nave.dev/fleet",
    "kubernetes.io/service-name",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "service.kubernetes.io/headless",
    "metallb.universe.tf/address-pool",
    "kubectl.kubernetes.io/last-applied-configuration",
    "",
    "a",
    "nave.dev/subset",
];
/// JSON that no field has, as API servers of any age, and proxies before them, may send it.
const STRANGE: [&str; 20] = [
    "null",
    "[]",
    "{}",
    "true",
    "-1",
    "1.5",
    "1e400",
    "-1e-400",
    "9e999999999",
    "18446744073709551616",
    "-9223372036854775809",
    "\"9999-12-31T23:59:59Z\"",
    "[null]",
    "[[[]]]",
    "{\"\":null}",
    "\"\\ud83e\\udd80\"",
    "0",
    "\"\"",
    "-0",
    "1E+2",
];
/// Lengths of texts and depths of lists at which readers have ended.
const LENGTHS: [usize; 5] = [63, 64, 253, 256, 5000];
const DEPTHS: [usize; 3] = [2, 127, 200];

/// An object of the kind; without dice the plainest that the kind has.
pub fn object(kind: &Kind, dice: Dice<'_>) -> Sent {
    let mut make = Make { out: String::new(), dice };
    let (name, version) = (make.dice.one(&NAMES), make.dice.one(&VERSIONS));
    let is_ending = make.object(kind, name, version);
    let owned = |text: &str| Some(text.to_owned());
    let (name, namespace, version) = (owned(name), owned(NAMESPACE), owned(version));
    Sent { text: make.out, name, namespace, version, is_ending, neighbour: neighbour(kind) }
}

/// The plainest object of the kind, under the name of the server's other objects.
pub fn neighbour(kind: &Kind) -> String {
    let mut make = Make { out: String::new(), dice: Dice::new(&[]) };
    make.object(kind, NEIGHBOUR, VERSIONS[0]);
    make.out
}

struct Make<'a> {
    out: String,
    dice: Dice<'a>,
}

impl Make<'_> {
    /// Whether it is to end.
    fn object(&mut self, kind: &Kind, name: &str, version: &str) -> bool {
        let schema = kind.schema();
        // In a list the items of Kubernetes' own kinds do not say what they are.
        let head = if self.dice.roll().is_multiple_of(2) { (kind.head)() } else { String::new() };
        let _ = write!(self.out, "{{{head}\"metadata\":");
        let is_ending = self.metadata(name, version);
        let fields = schema["properties"].as_object().into_iter().flatten();
        for (field, schema_of) in
            fields.filter(|(field, _)| !["kind", "apiVersion", "metadata"].contains(&field.as_str()))
        {
            // What an object is about is what matters: it is there more often than not.
            if is_required(schema, field) || !self.dice.roll().is_multiple_of(4) {
                self.key(field);
                self.value(schema_of);
            }
        }
        if self.dice.roll() % 8 == 1 {
            self.key("unknown");
            self.strange();
        }
        self.out.push('}');
        is_ending
    }

    /// Key and version as every API server writes them, and the rest as it comes.
    fn metadata(&mut self, name: &str, version: &str) -> bool {
        let _ = write!(self.out, "{{\"name\":{name:?},\"namespace\":{NAMESPACE:?},\"resourceVersion\":{version:?}");
        let mut is_ending = false;
        for field in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "generation",
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
            "managedFields",
            "selfLink",
        ] {
            if self.dice.roll().is_multiple_of(4) {
                continue;
            }
            self.key(field);
            let from = self.out.len();
            match (self.dice.roll() >= WILD, field) {
                (false, "uid") => self.text(None),
                (false, "creationTimestamp" | "deletionTimestamp") => self.time(),
                (false, "generation") => self.integer(&Value::Null),
                (false, "labels" | "annotations") => self.map(&Value::Null),
                (false, "finalizers") => self.list(&Value::Null),
                (_, _) => self.strange(),
            }
            is_ending |= field == "deletionTimestamp" && &self.out[from..] != "null";
        }
        self.out.push('}');
        is_ending
    }

    fn value(&mut self, schema: &Value) {
        if self.dice.roll() >= WILD {
            return self.strange();
        }
        if let Some(choices) = schema["enum"].as_array() {
            let choice = &choices[self.dice.below(choices.len())];
            let _ = write!(self.out, "{choice}");
            return;
        }
        for several in ["oneOf", "anyOf", "allOf"] {
            if let Some(schemas) = schema[several].as_array().filter(|schemas| !schemas.is_empty()) {
                let which = self.dice.below(schemas.len());
                return self.value(&schemas[which]);
            }
        }
        match kind_of(schema) {
            "object" if schema["properties"].is_object() => self.fields(schema),
            "object" => self.map(schema),
            "array" => self.list(schema),
            "string" => self.text(Some(schema)),
            "integer" => self.integer(schema),
            "number" => self.out.push_str("0.5"),
            "boolean" => {
                let text = self.dice.one(&["false", "true"]);
                self.out.push_str(text);
            }
            _ => self.strange(),
        }
    }

    fn fields(&mut self, schema: &Value) {
        let none = Map::new();
        let fields = schema["properties"].as_object().unwrap_or(&none);
        // Of a union exactly one member is set.
        let is_union =
            schema["x-kubernetes-validations"][0]["message"].as_str().is_some_and(|m| m.starts_with("exactly one"));
        let member = self.dice.below(fields.len());
        self.out.push('{');
        for (at, (field, of)) in fields.iter().enumerate() {
            let wanted = if is_union { at == member } else { self.dice.roll() % 2 == 1 && self.out.len() < LARGE };
            if wanted || is_required(schema, field) {
                self.key(field);
                self.value(of);
            }
        }
        self.out.push('}');
    }

    fn map(&mut self, schema: &Value) {
        self.out.push('{');
        for _ in 0..self.count(schema["maxProperties"].as_u64(), 0) {
            let key = self.dice.one(&KEYS);
            self.key(key);
            if schema["additionalProperties"].is_object() {
                self.value(&schema["additionalProperties"]);
            } else {
                self.text(None);
            }
        }
        self.out.push('}');
    }

    fn list(&mut self, schema: &Value) {
        self.out.push('[');
        for at in 0..self.count(schema["maxItems"].as_u64(), schema["minItems"].as_u64().unwrap_or(0)) {
            if at > 0 {
                self.out.push(',');
            }
            if schema["items"].is_object() { self.value(&schema["items"]) } else { self.text(None) }
        }
        self.out.push(']');
    }

    fn count(&mut self, most: Option<u64>, least: u64) -> u64 {
        let count = match self.dice.roll() {
            _ if self.out.len() >= LARGE => 0,
            255 => 300,
            die => u64::from(die % 4),
        };
        count.min(most.unwrap_or(u64::MAX)).max(least)
    }

    fn integer(&mut self, schema: &Value) {
        let bound = |name: &str| schema[name].as_f64();
        let (least, most) = (bound("minimum").unwrap_or(f64::MIN), bound("maximum").unwrap_or(f64::MAX));
        let all = [
            1,
            0,
            80,
            443,
            30080,
            2,
            -1,
            100,
            65535,
            65536,
            2_147_483_647,
            -2_147_483_648,
            4_294_967_295,
            i64::MAX,
            i64::MIN,
        ];
        #[allow(clippy::cast_precision_loss, reason = "a bound of a schema is such a number, too")]
        let within: Vec<i64> = all.into_iter().filter(|n| least <= *n as f64 && *n as f64 <= most).collect();
        let number = if within.is_empty() { 1 } else { self.dice.one(&within) };
        let _ = write!(self.out, "{number}");
    }

    fn text(&mut self, schema: Option<&Value>) {
        let format = schema.and_then(|schema| schema["format"].as_str());
        if let Some("date-time" | "micro-time") = format {
            return self.time();
        }
        if format == Some("byte") {
            let text = self.dice.one(&["\"aHVudGVyMg==\"", "\"\"", "\"hunter2!\""]);
            return self.out.push_str(text);
        }
        let long = schema.and_then(|schema| schema["maxLength"].as_u64()).and_then(|most| usize::try_from(most).ok());
        let text = match self.dice.roll() {
            250.. => "x".repeat(long.unwrap_or_else(|| self.dice.one(&LENGTHS)).min(LARGE)),
            240.. => (0..self.dice.below(40)).map(|_| char::from(self.dice.roll())).collect(),
            die => TEXTS[usize::from(die) % TEXTS.len()].to_owned(),
        };
        let _ = write!(self.out, "{}", Value::from(text));
    }

    fn time(&mut self) {
        let time = self.dice.one(&TIMES);
        let _ = write!(self.out, "{time:?}");
    }

    fn strange(&mut self) {
        match self.dice.roll() {
            250.. => {
                let depth = self.dice.one(&DEPTHS);
                let _ = write!(self.out, "{}{}", "[".repeat(depth), "]".repeat(depth));
            }
            245.. => {
                let _ = write!(self.out, "\"{}\"", "x".repeat(self.dice.one(&LENGTHS)));
            }
            240.. => self.out.push_str(r#"[{"manager":7,"time":"9999-12-31T23:59:59Z","fieldsV1":[[]]}]"#),
            die => self.out.push_str(STRANGE[usize::from(die) % STRANGE.len()]),
        }
    }

    fn key(&mut self, key: &str) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        let _ = write!(self.out, "{key:?}:");
    }
}

fn is_required(schema: &Value, field: &str) -> bool {
    schema["required"].as_array().is_some_and(|required| required.iter().any(|name| name == field))
}

/// The type; of several the first.
fn kind_of(schema: &Value) -> &str {
    schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default()
}
