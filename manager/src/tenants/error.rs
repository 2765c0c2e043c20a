//! What can go wrong with the world while a tenant's room is kept. A tenant's own mistakes are conditions, not errors.

use std::time::Duration;

/// No call of ours takes so long, except one whose answer is lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// An act that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A watch's cache has been given up.
    #[error("a watch ended before it had listed")]
    Watch(#[source] kube::runtime::reflector::store::WriterDropped),
    /// The API refused, or was not to be reached.
    #[error("{act} {what}")]
    Call {
        /// The verb.
        act: &'static str,
        /// The object.
        what: String,
        /// The API's answer.
        #[source]
        source: kube::Error,
    },
    /// The API did not answer.
    #[error("{act} {what}: no answer")]
    Silence {
        /// The verb.
        act: &'static str,
        /// The object.
        what: String,
        /// The timer's word.
        #[source]
        source: tokio::time::error::Elapsed,
    },
    /// The API gave no token where it had to.
    #[error("a TokenRequest was answered without a token")]
    NoToken,
}

impl Error {
    /// What a refusal says that will be the same the next time, for the tenant's condition.
    pub(super) fn refusal(&self) -> Option<String> {
        match self {
            Self::Call { source: kube::Error::Api(status), .. } if matches!(status.code, 400 | 403 | 422) => {
                Some(format!("{self}: {}", status.message))
            }
            Self::Call { .. } | Self::Watch(_) | Self::Silence { .. } | Self::NoToken => None,
        }
    }
}

/// One call of the API, with a deadline and a name.
pub(super) async fn call<T>(
    act: &'static str,
    what: &str,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    let answer = answer.map_err(|source| Error::Silence { act, what: what.to_owned(), source })?;
    answer.map_err(|source| Error::Call { act, what: what.to_owned(), source })
}

/// An error and its causes, on one line.
pub(super) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
