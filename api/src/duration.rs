//! `Duration`: a length of time as Kubernetes writes it (`5s`, `1h30m`, `250ms`). Knows no clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A length of time, `metav1.Duration`'s notation without signs and fractions: numbers of at most six
/// digits with the units `ms`, `s`, `m`, `h`, and at most a year (8760h).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.matches('^([0-9]{1,6}(ms|s|m|h))+$') && duration(self) <= duration('8760h')",
    "message": "a duration is numbers with the units ms, s, m and h, such as 250ms or 1h30m, and at most 8760h",
}]))]
pub struct Duration(#[schemars(length(max = 32))] pub String);

/// As the schema says: a number has so many digits at most, ...
const MAX_DIGITS: usize = 6;
/// ... and the whole is a year or less, in milliseconds.
const LONGEST: u64 = 8760 * 3_600_000;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDuration;

impl std::fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a duration: write numbers with units, such as 250ms, 5s, 1h or 1h30m, and at most 8760h")
    }
}

impl std::error::Error for InvalidDuration {}

impl Duration {
    /// The duration in this notation, rounded down to whole milliseconds.
    pub fn of(length: std::time::Duration) -> Self {
        let millis = length.as_millis();
        if millis.is_multiple_of(1000) { Self(format!("{}s", millis / 1000)) } else { Self(format!("{millis}ms")) }
    }

    /// The length of time that the text means.
    pub fn parse(&self) -> Result<std::time::Duration, InvalidDuration> {
        let mut rest = self.0.as_str();
        let mut millis: u64 = 0;
        if rest.is_empty() {
            return Err(InvalidDuration);
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidDuration)?;
            if digits > MAX_DIGITS {
                return Err(InvalidDuration);
            }
            let number: u64 = rest[..digits].parse().map_err(|_| InvalidDuration)?;
            let (factor, unit) = unit(&rest[digits..]).ok_or(InvalidDuration)?;
            millis = number.checked_mul(factor).and_then(|n| millis.checked_add(n)).ok_or(InvalidDuration)?;
            rest = &rest[digits + unit..];
        }
        if millis > LONGEST { Err(InvalidDuration) } else { Ok(std::time::Duration::from_millis(millis)) }
    }
}

/// Milliseconds in the unit that `text` begins with, and how many bytes name it.
fn unit(text: &str) -> Option<(u64, usize)> {
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
        .into_iter()
        .find(|(name, _)| text.starts_with(name))
        .map(|(name, factor)| (factor, name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<u64> {
        Duration(text.to_owned()).parse().ok().and_then(|d| d.as_millis().try_into().ok())
    }

    #[test]
    fn numbers_with_units_add_up() {
        assert_eq!(
            ["250ms", "5s", "1h", "1h30m", "1m5s10ms", "0s"].map(millis),
            [Some(250), Some(5000), Some(3_600_000), Some(5_400_000), Some(65_010), Some(0)]
        );
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(["", "5", "s", "-5s", "1.5s", "5 s", "1000000s", "8761h"].map(millis), [None; 8]);
    }
}
