//! What a hostile tenant tries: one request with its own credential, and what must come of it. Knows how to try; knows no
//! attempt.

use http::{Method, Request};
use kube::client::Body;
use kube::{Api, Client};
use nave_api::{ConditionType, TCPLoadBalancer, condition};
use nave_e2e::wait;
use nave_e2e::wait::PATIENCE;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Where the attacker lives.
pub const OWN: &str = "tenant-spoke-2";
/// Where the victim lives.
pub const VICTIM: &str = "tenant-spoke-1";

/// What must come of an attempt.
pub enum Expect {
    /// The API server says no, with one of these.
    Refused(&'static [u16]),
    /// The object is taken, and a condition that is False says this on it.
    Says(ConditionType, &'static str),
    /// The object is taken and lives in the tenant's own room, with an address of its own or none.
    Harmless,
    /// It is done: this the tenant may do.
    Done,
}

/// One attempt.
pub struct Attempt {
    name: String,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    expect: Expect,
}

#[allow(clippy::needless_pass_by_value, reason = "attempts are written down with their bodies in place")]
impl Attempt {
    fn new(name: &str, method: Method, path: String, content: &str, body: Value, expect: Expect) -> Self {
        let body = bytes(&body);
        let headers = vec![("content-type", content.to_owned())];
        Self { name: name.to_owned(), method, path, headers, body, expect }
    }

    /// Reads; forbidden.
    pub fn get(name: &str, path: &str) -> Self {
        Self::new(name, Method::GET, path.to_owned(), JSON, Value::Null, Expect::Refused(&[403]))
    }

    /// Deletes; forbidden.
    pub fn delete(name: &str, path: &str) -> Self {
        Self::new(name, Method::DELETE, path.to_owned(), JSON, Value::Null, Expect::Refused(&[403]))
    }

    /// Creates; forbidden unless told otherwise.
    pub fn post(name: &str, path: &str, body: Value) -> Self {
        Self::new(name, Method::POST, path.to_owned(), JSON, body, Expect::Refused(&[403]))
    }

    /// Patches; forbidden unless told otherwise.
    pub fn patch(name: &str, path: &str, body: Value) -> Self {
        Self::new(name, Method::PATCH, path.to_owned(), MERGE, body, Expect::Refused(&[403]))
    }

    /// Server-side apply; forbidden unless told otherwise.
    pub fn apply(name: &str, path: &str, body: Value) -> Self {
        let path = format!("{path}?fieldManager=nave-agent&force=true");
        Self::new(name, Method::PATCH, path, APPLY, body, Expect::Refused(&[403]))
    }

    /// A load balancer in the attacker's own room.
    pub fn balancer(name: &str, balancer: Value, expect: Expect) -> Self {
        Self::post(name, &intents(OWN), balancer).expecting(expect)
    }

    /// The same with a body that is this text.
    pub fn saying(mut self, body: String) -> Self {
        self.body = body.into_bytes();
        self
    }

    /// Something else must come of it.
    pub fn expecting(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// One more header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Tries it and says what came of it, `Err` when that is not what must come. What it made is removed by `admin`.
    pub async fn run(&self, attacker: &Client, admin: &Client) -> Result<String, String> {
        let answer = send(attacker, &self.method, &self.path, &self.headers, &self.body).await;
        let outcome = match (&self.expect, answer) {
            (Expect::Refused(codes), Err((code, text))) if codes.contains(&code) => Ok(format!("{code} {text}")),
            (Expect::Says(kind, reason), Ok(object)) => says(admin, &object, *kind, reason).await,
            (Expect::Harmless, Ok(object)) => harmless(&object),
            (Expect::Done, Ok(_)) => Ok("done".to_owned()),
            (_, Ok(object)) => Err(format!("it was let in: {object}")),
            (_, Err((code, text))) => Err(format!("another answer: {code} {text}")),
        };
        outcome.map(|text| shorten(&text))
    }

    /// The sentence that names it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The load balancers of a namespace.
pub fn intents(namespace: &str) -> String {
    format!("/apis/nave.dev/v1alpha1/namespaces/{namespace}/tcploadbalancers")
}

/// A load balancer with the port 8080 and one backend.
pub fn balancer(name: &str, backend: &str) -> Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "TCPLoadBalancer", "metadata": {"name": name, "namespace": OWN},
        "spec": {"ports": [{"port": 8080, "backendPort": 30000}], "backends": {"endpoints": [{"addresses": [backend]}]}},
    })
}

/// A body; none for null.
pub fn bytes(body: &Value) -> Vec<u8> {
    if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }
}

/// The answer, or the code and message of the refusal.
pub async fn send(
    client: &Client,
    method: &Method,
    path: &str,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> Result<Value, (u16, String)> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Body::from(body.to_vec())).expect("a request");
    let answer = client.send(request).await.map_err(|error| (0, error.to_string()))?;
    let code = answer.status().as_u16();
    let text = answer.into_body().collect_bytes().await.map_err(|error| (0, error.to_string()))?;
    let object: Value = serde_json::from_slice(&text).unwrap_or_else(|_| json!(String::from_utf8_lossy(&text)));
    if code < 300 {
        return Ok(object);
    }
    Err((code, object["message"].as_str().map_or_else(|| object.to_string(), str::to_owned)))
}

/// Waits until a condition of the object is False for this reason, and shows no address.
async fn says(admin: &Client, object: &Value, kind: ConditionType, reason: &str) -> Result<String, String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let intents: Api<TCPLoadBalancer> = Api::namespaced(admin.clone(), OWN);
    let said = wait::until("the object says why not", PATIENCE, || async {
        let intent = intents.get(name).await.map_err(|error| error.to_string())?;
        let status = intent.status.unwrap_or_default();
        match condition::find(&status.conditions, kind) {
            Some(found) if found.status == "False" && found.reason == reason => {
                Ok(format!("{reason}: {}", found.message))
            }
            _ => Err(format!("{:?}", status.conditions)),
        }
    });
    said.await.map_err(|error| format!("{error:?}"))
}

fn harmless(object: &Value) -> Result<String, String> {
    match object["metadata"]["namespace"].as_str() {
        Some(OWN) => Ok("taken, in its own room".to_owned()),
        other => Err(format!("it lives in {other:?}")),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(240).collect()
}
