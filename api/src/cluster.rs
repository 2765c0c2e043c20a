//! What tells one cluster from another: the uid of its namespace `kube-system`. Knows how a mark is written; knows no cluster.

use std::fmt;
use std::str::FromStr;

/// The longest mark, in characters: that of a label's value.
const LONGEST: usize = 63;

/// A cluster's own mark: the uid of its namespace `kube-system`, which lives and ends with the cluster. 1 to 63 letters, digits,
/// `-`, `_` and `.`, with a letter or digit at both ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(String);

/// A text that is no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidMark;

impl fmt::Display for InvalidMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write the uid of the cluster's namespace kube-system")
    }
}

impl std::error::Error for InvalidMark {}

impl Mark {
    /// The mark as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Mark {
    type Err = InvalidMark;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let at_an_end = |c: char| c.is_ascii_alphanumeric();
        let good = text.len() <= LONGEST
            && text.chars().all(inside)
            && text.starts_with(at_an_end)
            && text.ends_with(at_an_end);
        good.then(|| Self(text.to_owned())).ok_or(InvalidMark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_a_mark_is_what_a_label_can_hold_and_nothing_else() {
        let uid = "0b6f2f3e-6d3f-4a55-9f0e-0c1b2a3d4e5f";
        assert_eq!(uid.parse::<Mark>().map(|mark| mark.to_string()).as_deref(), Ok(uid));
        let long = "a".repeat(64);
        for text in ["", "-a", "a-", " a", "a b", "a\n", "ä", "a/b", &long] {
            assert_eq!(text.parse::<Mark>(), Err(InvalidMark), "{text:?}");
        }
    }
}
