//! Who may write may not read: every verb on Secrets, with every type of patch, dry-run and propagation policy, by the credential of an agent
//! and by that of the manager. Whatever the API server answers, refusals too, carries nothing of a Secret that is not theirs to read.

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use nave_e2e::account::{Chart, account};
use nave_e2e::{Lab, control_plane};
use serde_json::{Value, json};

use super::attempt::{OWN, VICTIM};

/// What no answer may carry, and how it looks in a Secret's data.
const CANARY: &str = "canary-that-sings-7f3a9c";
const ENCODED: &str = "Y2FuYXJ5LXRoYXQtc2luZ3MtN2YzYTlj";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_to_an_agent_or_a_manager_carries_a_secret_that_is_not_its_own() {
    let mut lab = Lab::light().spokes(2).start().await.unwrap();
    lab.spokes[1].agent = None;
    let agent = super::credential(&lab).await;
    lab.hub.credential("spoke-1").await.unwrap();
    let kubeconfig = account(&lab.hub.plane, Chart::Manager).await.unwrap();
    let manager = control_plane::connect(&std::fs::read_to_string(kubeconfig).unwrap()).await.unwrap();

    let tenants = [(OWN, "agent"), (OWN, "others"), (VICTIM, "agent"), (VICTIM, "others")];
    let hubs = [("nave-system", "app"), ("kube-system", "agent"), ("kube-system", "app"), ("tenant-none", "agent")];
    place(&lab, &tenants, &hubs).await;
    let all: Vec<_> = tenants.iter().chain(&hubs).copied().collect();

    assert_eq!(sung(&agent, &all).await, Vec::<String>::new(), "to an agent");
    assert_eq!(sung(&manager, &hubs).await, Vec::<String>::new(), "to the manager");
    for (what, path, object) in rights() {
        let (code, answer) = send(&manager, &Method::POST, &path, "application/json", &object).await;
        assert!([403, 422].contains(&code), "the manager may {what}: {code} {answer}");
        assert!(!sings(&answer), "{what}: {answer}");
    }
    assert_eq!(sung(&manager, &hubs).await, Vec::<String>::new(), "to the manager that asked for more rights");
    // The test can fail: an account with every right reads it, also in refusals.
    let heard = sung(&lab.hub.client(), &[("tenant-none", "agent")]).await;
    for (method, code) in [("GET", "200"), ("PATCH", "422"), ("DELETE", "200")] {
        let is_heard = heard.iter().any(|one| one.starts_with(method) && one.ends_with(code));
        assert!(is_heard, "{method} {code}: {heard:#?}");
    }
}

/// Secrets with the canary in them, each held by a finalizer: the API server answers a deletion with what it does not delete yet.
async fn place(lab: &Lab, tenants: &[(&str, &str)], hubs: &[(&str, &str)]) {
    lab.hub
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-none"}}))
        .await
        .unwrap();
    for (namespace, name) in tenants.iter().chain(hubs) {
        let metadata = json!({"name": name, "namespace": namespace, "finalizers": ["example.com/held"]});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"password": ENCODED}});
        lab.hub.apply(&secret).await.unwrap();
    }
}

/// Asks in every way for each Secret; the questions whose answer carried the canary.
async fn sung(client: &Client, secrets: &[(&str, &str)]) -> Vec<String> {
    let mut sung = Vec::new();
    let questions = secrets.iter().flat_map(|(namespace, name)| questions(namespace, name));
    for (method, path, content, body) in questions.chain(hub_wide()) {
        let (code, answer) = send(client, &method, &path, content, &body).await;
        assert_ne!(code, 0, "{method} {path}: {answer}");
        if sings(&answer) {
            sung.push(format!("{method} {path} {content} {body}: {code}"));
        }
    }
    sung
}

type Question = (Method, String, &'static str, Value);

fn questions(namespace: &str, name: &str) -> Vec<Question> {
    let all = format!("/api/v1/namespaces/{namespace}/secrets");
    let one = format!("{all}/{name}");
    let mut questions = vec![
        (Method::GET, one.clone(), JSON, Value::Null),
        (Method::GET, all.clone(), JSON, Value::Null),
        (Method::GET, format!("{all}?fieldSelector=metadata.name%3D{name}"), JSON, Value::Null),
        (Method::GET, format!("{all}?watch=true&timeoutSeconds=1"), JSON, Value::Null),
        (
            Method::GET,
            format!("/api/v1/watch/namespaces/{namespace}/secrets/{name}?timeoutSeconds=1"),
            JSON,
            Value::Null,
        ),
    ];
    // Dry runs first: the others change what is there, where they may.
    for dry_run in ["dryRun=All", ""] {
        questions.extend(writes(namespace, name, dry_run));
        for policy in ["Background", "Foreground", "Orphan"] {
            let how = format!("?{dry_run}&propagationPolicy={policy}");
            questions.push((Method::DELETE, format!("{one}{how}"), JSON, Value::Null));
            questions.push((Method::DELETE, format!("{all}{how}"), JSON, Value::Null));
            let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
            questions.push((Method::DELETE, format!("{one}?{dry_run}"), JSON, body));
        }
    }
    questions
}

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: [&str; 2] = ["application/merge-patch+json", "application/strategic-merge-patch+json"];
const APPLY: &str = "application/apply-patch+yaml";

/// Creations, updates and patches, valid ones and such as are refused with a text that may quote what is stored.
fn writes(namespace: &str, name: &str, dry_run: &str) -> Vec<Question> {
    let all = format!("/api/v1/namespaces/{namespace}/secrets");
    let one = format!("{all}/{name}?{dry_run}");
    let whole = |name: &str, kind: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "type": kind,
            "data": {"ca.crt": "eA=="}, "immutable": true,
        })
    };
    let mut writes = vec![
        (Method::POST, format!("{all}?{dry_run}"), JSON, whole(name, "Opaque")),
        (Method::POST, format!("{all}?{dry_run}&fieldValidation=Strict"), JSON, whole(name, "example.com/other")),
        (Method::PUT, one.clone(), JSON, whole(name, "Opaque")),
        (Method::PUT, one.clone(), JSON, whole(name, "example.com/other")),
    ];
    for place in ["/type", "/metadata/labels", "/metadata/name", "/data/.bad key", "/immutable", "/apiVersion"] {
        for (operation, from) in [("copy", "/data/password"), ("move", "/data/password"), ("copy", "/data")] {
            let patch = json!([{"op": operation, "from": from, "path": place}]);
            writes.push((Method::PATCH, one.clone(), JSON_PATCH, patch));
        }
    }
    let test = json!([{"op": "test", "path": "/data/password", "value": "x"}]);
    writes.push((Method::PATCH, one.clone(), JSON_PATCH, test));
    let merges = [
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {"finalizers": null}}),
        json!({"type": "example.com/other"}),
        json!({"data": {"password": 7}}),
        json!({"$patch": "replace", "type": "Opaque"}),
    ];
    for (content, patch) in MERGE.iter().flat_map(|content| merges.iter().map(move |patch| (*content, patch))) {
        writes.push((Method::PATCH, one.clone(), content, patch.clone()));
    }
    for (force, kind) in [(false, "Opaque"), (true, "Opaque"), (true, "example.com/other")] {
        let path = format!("{one}&fieldManager=test&force={force}");
        let mut applied = whole(name, kind);
        applied["data"]["password"] = json!("eA==");
        writes.push((Method::PATCH, path, APPLY, applied));
    }
    writes
}

fn hub_wide() -> Vec<Question> {
    let paths = ["/api/v1/secrets", "/api/v1/secrets?fieldSelector=metadata.name%3Dagent"];
    let watches = ["/api/v1/secrets?watch=true&timeoutSeconds=1", "/api/v1/watch/secrets?timeoutSeconds=1"];
    paths.into_iter().chain(watches).map(|path| (Method::GET, path.to_owned(), JSON, Value::Null)).collect()
}

/// Rights that the manager could try to get: bindings outside of tenants' namespaces, and of others to what it may bind.
fn rights() -> Vec<(String, String, Value)> {
    let binding = |name: &str, kind: &str, role: &str, subject: (&str, &str)| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "namespace": subject.0, "name": subject.1}],
        })
    };
    let (tenants, own) = ("nave-manager-tenants", ("nave-system", "nave-manager"));
    let mut rights = Vec::new();
    for namespace in ["nave-system", "kube-system", "tenant-none"] {
        let path = format!("{RBAC}/namespaces/{namespace}/rolebindings");
        let role = format!("{RBAC}/namespaces/{namespace}/roles");
        let read = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "agent"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
        });
        rights.push((
            format!("bind itself in {namespace}"),
            path.clone(),
            binding("nave-manager", "ClusterRole", tenants, own),
        ));
        rights.push((
            format!("be an administrator in {namespace}"),
            path,
            binding("agent", "ClusterRole", "admin", own),
        ));
        rights.push((format!("make a Role that reads in {namespace}"), role, read));
    }
    let path = format!("{RBAC}/namespaces/{OWN}/rolebindings");
    let agent = (OWN, "agent");
    rights.push(("bind its rights to an agent".to_owned(), path, binding("more", "ClusterRole", tenants, agent)));
    rights
}

fn sings(answer: &str) -> bool {
    answer.contains(CANARY) || answer.contains(ENCODED)
}

/// The code and the whole text of an answer; 0 when there was none.
async fn send(client: &Client, method: &Method, path: &str, content: &str, body: &Value) -> (u16, String) {
    let body = super::bytes(body);
    let request = Request::builder().method(method).uri(path).header("content-type", content);
    let answer = match client.send(request.body(Body::from(body)).unwrap()).await {
        Ok(answer) => answer,
        Err(error) => return (0, error.to_string()),
    };
    let code = answer.status().as_u16();
    let text = answer.into_body().collect_bytes().await.unwrap_or_default();
    (code, String::from_utf8_lossy(&text).into_owned())
}
