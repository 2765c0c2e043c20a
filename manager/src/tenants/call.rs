//! One request to the hub's API, with an end. Knows how it may fail; knows no object.

use std::time::Duration;

use kube::core::Status;

/// No request waits longer: a connection that was dropped silently never answers.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a tenant's room is not as it should be: the world failing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The API answered with an error, or not at all.
    #[error("{act}")]
    Call {
        /// What was tried.
        act: &'static str,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// The API did not answer in time.
    #[error("{act}: no answer within 15 s")]
    Late {
        /// What was tried.
        act: &'static str,
    },
    /// The kubeconfig cannot be written as YAML.
    #[error("write the kubeconfig")]
    Kubeconfig {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API answered, but with something missing.
    #[error("{act}: the answer lacks {lacks}")]
    Answer {
        /// What was tried.
        act: &'static str,
        /// What the answer lacks.
        lacks: &'static str,
    },
}

impl Error {
    /// The API's own words, when it refused for good: repeating the same will not help until somebody mends something.
    pub(super) fn refusal(&self) -> Option<(&'static str, &Status)> {
        match self {
            Self::Call { act, source } => match source.as_ref() {
                kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 422) => {
                    Some((*act, status.as_ref()))
                }
                _other_errors_may_pass => None,
            },
            Self::Late { .. } | Self::Kubeconfig { .. } | Self::Answer { .. } => None,
        }
    }
}

/// Awaits the answer to a request.
pub(super) async fn call<T>(
    act: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::Call { act, source: Box::new(error) }),
        Err(_) => Err(Error::Late { act }),
    }
}

/// Awaits the answer to a request on an object that may be gone: `None` then.
pub(super) async fn call_if_there<T>(
    act: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, Error> {
    unless(act, &[404], request).await
}

/// Awaits the answer to a write on an object as we saw it: `None` when it is gone or has changed. The watch will show it.
pub(super) async fn call_if_same<T>(
    act: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, Error> {
    unless(act, &[404, 409], request).await
}

async fn unless<T>(
    act: &'static str,
    codes: &[u16],
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, Error> {
    let answer = call(act, async {
        match request.await {
            Ok(answer) => Ok(Some(answer)),
            Err(kube::Error::Api(status)) if codes.contains(&status.code) => Ok(None),
            Err(error) => Err(error),
        }
    });
    answer.await
}
