//! What went wrong in the lab: the act, and its cause once. Knows no act in particular: every room of the lab names its own.
use std::error::Error as StdError;
use std::fmt;

/// An act of the lab that failed. Tests unwrap it: its `Debug` is the whole chain, readable.
#[derive(thiserror::Error)]
#[error("{act}")]
pub struct Error {
    act: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The lab's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An act that failed for the reason that its text says.
    pub fn new(act: impl Into<String>) -> Self {
        Self { act: act.into(), source: None }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.act)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(out, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Names the act that an error interrupted.
pub trait Act<T> {
    /// `std::fs::read(path).act(|| format!("read {path}"))?`
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Act<T> for std::result::Result<T, E> {
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error { act: act().into(), source: Some(source.into()) })
    }
}
