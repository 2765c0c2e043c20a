//! An API server that answers what a test wants. Knows no object.

use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// A client of it; `answer` is asked with the request's path and query, and says code and body.
pub fn client(answer: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) -> Client {
    serve(move |asked| Some(answer(asked)))
}

/// A client of a server that refuses those requests for which `answers` is true, and never answers the others.
pub fn slow(answers: impl Fn(&str) -> bool + Send + Sync + 'static) -> Client {
    serve(move |asked| answers(asked).then(|| refusal(500)))
}

fn serve(answer: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer(request.uri().path_and_query().map_or("", |asked| asked.as_str()));
        async move {
            let Some((code, body)) = answer else { return std::future::pending().await };
            let mut response = Response::new(Body::from(body.to_string().into_bytes()));
            *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Ok::<_, Infallible>(response)
        }
    });
    Client::new(service, "default")
}

/// The answer of a server that refuses.
pub fn refusal(code: u16) -> (u16, Value) {
    (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no"}))
}

/// The answer to a list.
pub fn list(kind: &str, items: &Value) -> (u16, Value) {
    (
        200,
        json!({"kind": format!("{kind}List"), "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items}),
    )
}
