//! Text of a peer, made fit for logs and for the eyes of others: bounded, on one line, without characters that command a
//! terminal or turn the direction of writing. Knows no meaning.

/// The beginning of a text: at most so many bytes, and no half character.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// At most so many characters of a text that show as themselves. What is between them becomes one blank; three dots stand for
/// what is cut off.
pub fn printable(text: &str, characters: usize) -> String {
    let mut shown = String::new();
    let mut count = 0;
    for word in text.split(|c: char| !shows(c)).filter(|word| !word.is_empty()) {
        let blank = (!shown.is_empty()).then_some(' ');
        for c in blank.into_iter().chain(word.chars()) {
            if count == characters {
                let kept = shown.chars().take(characters.saturating_sub(DOTS.len()));
                return kept.chain(DOTS.chars().take(characters)).collect();
            }
            shown.push(c);
            count += 1;
        }
    }
    shown
}

const DOTS: &str = "...";

/// Whether a character shows as itself: letters and digits of any script, and the signs of ASCII.
fn shows(c: char) -> bool {
    c.is_alphanumeric() || c.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_of_a_terminal_and_line_breaks_become_blanks() {
        assert_eq!(printable("cannot\u{1b}[31m bind\r\n\u{202e}'x'\0: größe", 256), "cannot [31m bind 'x' : größe");
    }

    #[test]
    fn a_long_text_ends_with_dots() {
        assert_eq!(printable("one two three", 9), "one tw...");
        assert_eq!(printable("one two three", 13), "one two three");
        assert_eq!(printable("one two three", 12), "one two t...");
        assert_eq!(printable(&"x".repeat(5 << 20), 256).chars().count(), 256);
    }

    #[test]
    fn no_character_is_cut_in_half() {
        assert_eq!(cut("größe", 3), "gr");
        assert_eq!(cut("größe", 4), "grö");
        assert_eq!(cut("größe", 100), "größe");
    }

    proptest! {
        #[test]
        fn a_printable_text_is_bounded_and_stays_as_it_is(text: String, characters in 0..40_usize) {
            let once = printable(&text, characters);
            prop_assert!(once.chars().count() <= characters);
            prop_assert!(once.chars().all(|c| shows(c) || c == ' '));
            prop_assert_eq!(printable(&once, characters), once);
        }
    }
}
