//! Finds in a client's error text the resources that it is about. Knows Envoy's manner of writing; where the text
//! names nobody, the caller has to find out by trying halves.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The names among `sent` that the text blames; none when it blames nobody.
///
/// Envoy writes `Error adding/updating listener(s) tcp/203.0.113.7/443: cannot bind …` and one such name per line or
/// comma. A name followed by a colon is the subject; other names in the text (the listener that is in the way) only
/// count when there is no subject.
pub(super) fn blame(message: &str, sent: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
    let words = || message.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    let subjects = words().filter_map(|word| sent.get(word.strip_suffix(':')?));
    let subjects: BTreeSet<_> = subjects.map(Arc::clone).collect();
    if !subjects.is_empty() {
        return subjects;
    }
    words()
        .filter_map(|word| sent.get(word).or_else(|| sent.get(word.trim_matches(is_punctuation))))
        .map(Arc::clone)
        .collect()
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(message: &str) -> Vec<String> {
        let sent = ["tcp/203.0.113.7/44", "tcp/203.0.113.7/443", "udp/2001:db8::7/53", "shop-web"];
        let sent = sent.into_iter().map(Arc::from).collect();
        blame(message, &sent).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn subjects_are_names_before_a_colon() {
        let text = "Error adding/updating listener(s) tcp/203.0.113.7/443: cannot bind '203.0.113.7:443': Permission \
                    denied\nudp/2001:db8::7/53: cannot bind";
        assert_eq!(blamed(text), ["tcp/203.0.113.7/443", "udp/2001:db8::7/53"]);
    }

    #[test]
    fn the_listener_in_the_way_is_not_to_blame() {
        let text = "Error adding/updating listener(s) tcp/203.0.113.7/443: has duplicate address as existing listener \
                    'tcp/203.0.113.7/44'";
        assert_eq!(blamed(text), ["tcp/203.0.113.7/443"]);
    }

    #[test]
    fn a_quoted_name_is_to_blame_when_no_other_is() {
        assert_eq!(blamed("cluster 'shop-web' is malformed"), ["shop-web"]);
        assert_eq!(blamed("Unexpected EDS cluster (expecting shop-web)."), ["shop-web"]);
    }

    #[test]
    fn a_name_within_a_longer_word_is_another_name() {
        assert_eq!(blamed("tcp/203.0.113.7/4433: cannot bind"), Vec::<String>::new());
        assert_eq!(blamed("Proto constraint validation failed"), Vec::<String>::new());
    }
}
