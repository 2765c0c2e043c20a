//! The world failing: a call that was not answered as it should. Knows acts and causes; carries no secret.

use std::time::Duration;

/// Why an act did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An API server refused, or could not be asked.
    #[error("{act}")]
    Call {
        /// What we wanted.
        act: &'static str,
        /// Its answer, or what was in the way.
        source: Box<kube::Error>,
    },
    /// An API server did not answer in time.
    #[error("{act}: no answer within {} s", .patience.as_secs())]
    Silence {
        /// What we wanted.
        act: &'static str,
        /// How long we waited.
        patience: Duration,
    },
    /// The API server of the spoke is not the one that we began with: what we have seen says nothing of it.
    #[error("{act}: the spoke is another cluster now")]
    OtherSpoke {
        /// What we wanted.
        act: &'static str,
    },
    /// There is no hub to ask yet.
    #[error("{act}: there is no credential of the hub yet")]
    NoHub {
        /// What we wanted.
        act: &'static str,
    },
}

/// What the hub is asked to take.
pub const APPLY: &str = "apply a load balancer in the hub";

impl Error {
    /// The words with which the hub does not take an intent, for a reason that lies in the intent or in what the tenant may
    /// have. Everything else is no matter of the user's.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Call { act: APPLY, source } => match &**source {
                kube::Error::Api(status) if [400, 403, 413, 422].contains(&status.code) => Some(&status.message),
                _ => None,
            },
            Self::Call { .. } | Self::Silence { .. } | Self::NoHub { .. } | Self::OtherSpoke { .. } => None,
        }
    }
}

impl Error {
    /// Whether another program has changed the object since we read it.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Call { source, .. } => matches!(&**source, kube::Error::Api(status) if status.code == 409),
            Self::Silence { .. } | Self::NoHub { .. } | Self::OtherSpoke { .. } => false,
        }
    }
}

/// An error with its causes in one line, as logs want it.
pub fn line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // kube's own errors repeat their causes.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
