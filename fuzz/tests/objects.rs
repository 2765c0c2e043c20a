//! The makers of objects make what is worth a look. Knows the kinds by their letters; knows no schema.

use nave_fuzz::objects::{is_readable, kinds};

fn letters() -> impl Iterator<Item = (u8, &'static str)> {
    (b'a'..).zip(kinds())
}

#[test]
fn the_plain_object_of_every_kind_can_be_read() {
    for (letter, kind) in letters() {
        assert_eq!(is_readable(&[letter]), Some(true), "{kind}");
    }
}

#[test]
fn dice_make_objects_that_can_and_that_cannot_be_read() {
    let mut unreadable = 0;
    for (letter, kind) in letters() {
        let inputs = (0..100_u32).map(|seed| [vec![letter], chance(seed)].concat());
        let readable = inputs.filter(|input| is_readable(input) == Some(true)).count();
        assert!(readable > 0, "{kind}: none of 100 objects can be read");
        unreadable += 100 - readable;
    }
    assert!(unreadable > 100, "{unreadable} objects cannot be read");
}

#[test]
fn an_object_as_it_was_stored_is_sent_as_it_is() {
    let lease = |time: &str| {
        let metadata = r#"{"name":"agent","resourceVersion":"5"}"#;
        is_readable(format!(r#"m{{"metadata":{metadata},"spec":{{"renewTime":"{time}"}}}}"#).as_bytes())
    };
    assert_eq!(lease("9999-12-31T23:59:59.000000Z"), Some(false));
    assert_eq!(lease("2026-01-01T00:00:00.000000Z"), Some(true));
    assert_eq!(is_readable(b"m{no JSON"), None);
}

/// Bytes that look like chance and are the same every time.
fn chance(seed: u32) -> Vec<u8> {
    let mixed = (0..400).map(|at| (seed * 977 + at + 13).wrapping_mul(2_654_435_761));
    mixed.map(|mixed| mixed.to_be_bytes()[0]).collect()
}
