//! Ranges of addresses, as pools list them. Knows their notation; knows no pool.

use nave_manager_core::fuzz::range;

/// A text that is a range has its ends in order, and written by its ends it is the same range.
pub fn hold(input: &[u8]) {
    let Some(text) = super::text(input) else { return };
    let Some((low, high, count)) = range(text) else { return };
    assert!(low <= high && low.is_ipv4() == high.is_ipv4(), "{text:?} goes from {low} to {high}");
    assert!(count > 0, "{text:?} is a range of nothing");
    assert_eq!(range(&format!("{low}-{high}")), Some((low, high, count)), "{text:?} is not what it is written as");
}
