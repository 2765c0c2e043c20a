//! Secrets that an agent may not write into its own room, and the two sorts that it may. Knows the requests; the admission
//! policy of the manager's chart judges them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::attempt::{Attempt, Expect, OWN};

const PATH: &str = "/api/v1/namespaces/tenant-spoke-2/secrets";

/// All of them. The administrator's Secret `others` is a certificate without our label.
pub fn attempts() -> Vec<Attempt> {
    let mut all = of_other_types();
    all.extend(of_other_hands());
    all.extend(that_are_taken());
    all
}

/// A Secret with our label and these keys.
pub fn secret(name: &str, kind: &str, keys: &[&str]) -> Value {
    let value = BASE64_STANDARD.encode("text");
    let data: serde_json::Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), json!(value))).collect();
    let labels = json!({"nave.dev/origin-uid": "5d1b2a52"});
    let metadata = json!({"name": name, "namespace": OWN, "labels": labels});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data})
}

fn of_other_types() -> Vec<Attempt> {
    let mut token = secret("token", "kubernetes.io/service-account-token", &[]);
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    let basic = secret("basic", "kubernetes.io/basic-auth", &["username", "password"]);
    vec![
        Attempt::post("get a token that never ends by a Secret", PATH, token),
        Attempt::post("store a password", PATH, basic),
        Attempt::post("store a bootstrap token", PATH, secret("boot", "bootstrap.kubernetes.io/token", &["token-id"])),
        Attempt::post("store anything", PATH, secret("any", "Opaque", &["anything"])),
        Attempt::post("store something beside an authority", PATH, secret("two", "Opaque", &["ca.crt", "more"])),
        Attempt::post("store nothing", PATH, secret("none", "Opaque", &[])),
        Attempt::post("store a type of its own", PATH, secret("own", "example.com/own", &["ca.crt"])),
    ]
}

fn of_other_hands() -> Vec<Attempt> {
    let tls = |name: &str| secret(name, "kubernetes.io/tls", &["tls.crt", "tls.key"]);
    let at = |name: &str| format!("{PATH}/{name}");
    let mut unlabelled = tls("unlabelled");
    unlabelled["metadata"]["labels"] = json!({});
    let labels = json!({"metadata": {"labels": {"nave.dev/origin-uid": "mine"}}});
    let theirs = PATH.replace("spoke-2", "spoke-1");
    let mut elsewhere = tls("elsewhere");
    elsewhere["metadata"]["namespace"] = json!("tenant-spoke-1");
    vec![
        Attempt::post("store a certificate without our label", PATH, unlabelled),
        Attempt::apply("apply over its kubeconfig", &at("agent"), secret("agent", "Opaque", &["ca.crt"])),
        Attempt::patch("call its kubeconfig its own", &at("agent"), labels.clone()),
        Attempt::patch("change its kubeconfig", &at("agent"), json!({"data": {"kubeconfig": null}})),
        Attempt::delete("delete its kubeconfig", &at("agent")),
        Attempt::apply("apply over an administrator's Secret", &at("others"), tls("others")),
        Attempt::patch("call an administrator's Secret its own", &at("others"), labels),
        Attempt::delete("delete an administrator's Secret", &at("others")),
        Attempt::delete("delete all Secrets", PATH),
        Attempt::post("store a certificate with the victim", &theirs, elsewhere),
        Attempt::delete("delete the victim's kubeconfig", &format!("{theirs}/agent")),
    ]
}

fn that_are_taken() -> Vec<Attempt> {
    let tls = || secret("tls", "kubernetes.io/tls", &["tls.crt", "tls.key"]);
    let at = format!("{PATH}/tls");
    let authority = secret("authority", "Opaque", &["ca.crt"]);
    vec![
        Attempt::apply("a certificate is taken", &at, tls()).expecting(Expect::Harmless),
        Attempt::apply("a certificate is taken again", &at, tls()).expecting(Expect::Harmless),
        Attempt::patch("take our label off a certificate", &at, json!({"metadata": {"labels": null}})),
        Attempt::get("read a certificate of its own", &at),
        Attempt::apply("an authority is taken", &format!("{PATH}/authority"), authority).expecting(Expect::Harmless),
        Attempt::patch(
            "add something to an authority",
            &format!("{PATH}/authority"),
            json!({"data": {"more": "bW9yZQ=="}}),
        ),
        Attempt::delete("a certificate of its own is deleted", &at).expecting(Expect::Done),
    ]
}
