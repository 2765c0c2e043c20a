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
    /// There is no hub to ask yet.
    #[error("{act}: there is no credential of the hub yet")]
    NoHub {
        /// What we wanted.
        act: &'static str,
    },
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
