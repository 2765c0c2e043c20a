//! Secrets that an agent may not create in its own namespace, and the two sorts that it may. Knows the requests; the admission
//! policies of the manager's chart judge them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::attempt::{Attempt, Expect, OWN};
use super::objects::with;

const PATH: &str = "/api/v1/namespaces/tenant-spoke-2/secrets";

/// All of them. The administrator's Secret `others` is a certificate that no agent made.
pub fn attempts() -> Vec<Attempt> {
    let mut all = of_other_types();
    all.extend(of_other_forms());
    all.extend(of_other_hands());
    all.extend(that_are_taken());
    all
}

/// An immutable Secret with these keys.
pub fn secret(name: &str, kind: &str, keys: &[&str]) -> Value {
    let value = BASE64_STANDARD.encode("text");
    let data: serde_json::Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), json!(value))).collect();
    let metadata = json!({"name": name, "namespace": OWN});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data, "immutable": true})
}

fn certificate(name: &str) -> Value {
    secret(name, "kubernetes.io/tls", &["tls.crt", "tls.key"])
}

/// A certificate with an entry that is too large.
fn large(key: &str) -> Value {
    with(certificate("copy-large"), &format!("/data/{key}"), json!(BASE64_STANDARD.encode(vec![b'x'; 65 * 1024])))
}

fn of_other_types() -> Vec<Attempt> {
    let mut token = secret("copy-token", "kubernetes.io/service-account-token", &[]);
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    let of = |name: &str, kind: &str, keys: &[&str]| secret(&format!("copy-{name}"), kind, keys);
    let basic = of("basic", "kubernetes.io/basic-auth", &["username", "password"]);
    vec![
        Attempt::post("get a token that never ends by a Secret", PATH, token),
        Attempt::post("store a password", PATH, basic),
        Attempt::post("store a bootstrap token", PATH, of("boot", "bootstrap.kubernetes.io/token", &["token-id"])),
        Attempt::post("store anything", PATH, of("any", "Opaque", &["anything"])),
        Attempt::post("store something beside an authority", PATH, of("two", "Opaque", &["ca.crt", "more"])),
        Attempt::post("store nothing", PATH, of("none", "Opaque", &[])),
        Attempt::post("store a type of its own", PATH, of("own", "example.com/own", &["ca.crt"])),
    ]
}

fn of_other_forms() -> Vec<Attempt> {
    let changed = |place: &str, value: Value| with(certificate("copy-form"), place, value);
    let owner =
        json!([{"apiVersion": "v1", "kind": "Secret", "name": "agent", "uid": "u1", "blockOwnerDeletion": true}]);
    let entries = |count: usize| -> Value { (0..count).map(|at| (format!("example.com/{at}"), json!("x"))).collect() };
    let generated = json!({"generateName": "other-", "namespace": OWN});
    vec![
        Attempt::post("store a certificate under another name", PATH, certificate("web")),
        Attempt::post("store its kubeconfig", PATH, certificate("agent")),
        Attempt::post("have another name generated", PATH, changed("/metadata", generated)),
        Attempt::post("store a certificate that can change", PATH, changed("/immutable", json!(false))),
        Attempt::post("leave open whether it can change", PATH, changed("/immutable", Value::Null)),
        Attempt::post(
            "hold a Secret by a finalizer",
            PATH,
            changed("/metadata/finalizers", json!(["example.com/own"])),
        ),
        Attempt::post("delay the end of its credential", PATH, changed("/metadata/ownerReferences", owner)),
        Attempt::post("store a certificate of 65 KiB", PATH, large("tls.crt")),
        Attempt::post("store a key of 65 KiB", PATH, large("tls.key")),
        Attempt::post("annotate a Secret 65 times", PATH, changed("/metadata/annotations", entries(65))),
    ]
}

fn of_other_hands() -> Vec<Attempt> {
    let at = |name: &str| format!("{PATH}/{name}");
    let labels = json!({"metadata": {"labels": {"nave.dev/origin-uid": "mine"}}});
    let theirs = PATH.replace("spoke-2", "spoke-1");
    let mut elsewhere = certificate("copy-elsewhere");
    elsewhere["metadata"]["namespace"] = json!("tenant-spoke-1");
    vec![
        Attempt::apply("apply over its kubeconfig", &at("agent"), secret("agent", "Opaque", &["ca.crt"])),
        Attempt::patch("call its kubeconfig its own", &at("agent"), labels.clone()),
        Attempt::patch("change its kubeconfig", &at("agent"), json!({"data": {"kubeconfig": null}})),
        Attempt::delete("delete its kubeconfig", &at("agent")),
        Attempt::apply("apply over an administrator's Secret", &at("others"), certificate("others")),
        Attempt::patch("call an administrator's Secret its own", &at("others"), labels),
        Attempt::delete("delete an administrator's Secret", &at("others")),
        Attempt::delete("delete all Secrets", PATH),
        Attempt::post("store a certificate with the victim", &theirs, elsewhere),
        Attempt::delete("delete the victim's kubeconfig", &format!("{theirs}/agent")),
    ]
}

fn that_are_taken() -> Vec<Attempt> {
    let at = format!("{PATH}/copy-tls");
    let authority = secret("copy-authority", "Opaque", &["ca.crt"]);
    vec![
        Attempt::post("a certificate is taken", PATH, certificate("copy-tls")).expecting(Expect::Harmless),
        Attempt::post("the same again is there already", PATH, certificate("copy-tls"))
            .expecting(Expect::Refused(&[409])),
        Attempt::post("an authority is taken", PATH, authority).expecting(Expect::Harmless),
        Attempt::apply("apply a certificate of its own", &at, certificate("copy-tls")),
        Attempt::patch("change a certificate of its own", &at, json!({"metadata": {"labels": {"a": "b"}}})),
        Attempt::get("read a certificate of its own", &at),
        Attempt::delete("delete a certificate of its own", &at),
    ]
}
