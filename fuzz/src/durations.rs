//! Lengths of time. Knows their notation; knows no field that has one.

use nave_api::Duration;

/// The longest length that the notation allows.
const YEAR: std::time::Duration = std::time::Duration::from_hours(8760);

/// A text that is a length is at most a year, and the same length again when we write it.
pub fn hold(input: &[u8]) {
    let Some(text) = super::text(input) else { return };
    let Ok(length) = Duration(text.to_owned()).parse() else { return };
    assert!(length <= YEAR, "{text:?} is longer than a year");
    let written = Duration::of(length);
    // We write hours and minutes as seconds or milliseconds, whose number may have more digits than people may write.
    if written.0.bytes().filter(u8::is_ascii_digit).count() <= 6 {
        assert_eq!(written.parse(), Ok(length), "{text:?} is written as {written:?}");
    }
}
