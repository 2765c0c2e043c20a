//! What the server tells whoever feeds it: which Envoy holds what, and what it refused. Knows no consequence.

use std::sync::Arc;

use crate::files::Files;
use crate::resource::{Key, ResourceType, Version};
use crate::text;

/// Hears what happens on streams. Called from the streams' own tasks: it must return soon and never wait.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn report(&self, report: Report);
}

/// Nobody listens.
impl Observer for () {
    fn report(&self, _: Report) {}
}

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn report(&self, report: Report) {
        (**self).report(report);
    }
}

/// One event of one Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The fleet the Envoy belongs to, from its certificate.
    pub fleet: Arc<str>,
    /// The node the Envoy runs on, from its certificate.
    pub node: Arc<str>,
    /// The stream, unique in this server's life. A node may have a new stream before the old one is known to be dead:
    /// what was reported on a stream ends with it.
    pub stream: u64,
    /// What happened.
    pub event: Event,
}

/// What happens on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stream began. Nothing is known yet about what the Envoy holds.
    Connected,
    /// The stream ended.
    Disconnected,
    /// Whether the Envoy asks for all listeners and all clusters. Until it says so first, it does not: it serves nothing of its
    /// fleet, or some.
    Wants {
        /// It does.
        everything: bool,
    },
    /// The Envoy says how many descriptors it has.
    Described(Files),
    /// The Envoy holds these: it acknowledged them, or listed them when it came.
    Accepted(Vec<Held>),
    /// The Envoy no longer holds these.
    Removed(Vec<Key>),
    /// The Envoy refused this content. It is not sent to it again until it changes.
    Refused(Refusal),
}

/// One resource at one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The type.
    pub kind: ResourceType,
    /// The name.
    pub name: Arc<str>,
    /// The content.
    pub version: Version,
}

/// One refused resource and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused.
    pub held: Held,
    /// Envoy's own words, as [`Refusal::words`] leaves them.
    pub message: Arc<str>,
}

impl Refusal {
    /// So many bytes of an Envoy's words are kept.
    pub const WORDS: usize = 1024;

    /// What is kept of an Envoy's words: they are the text of a peer that may write what it likes.
    pub fn words(text: &str) -> Arc<str> {
        text::cut(&text::printable(text::cut(text, 16 * Self::WORDS), Self::WORDS), Self::WORDS).into()
    }
}
