//! How much work one peer has asked for lately. Knows amounts and moments; knows no clock.

use std::time::Duration;

/// Work and when it is paid for. Work that is not paid for yet delays what comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    paid_at: Duration,
}

impl Pace {
    /// Notes work that is done at `in_a_second` units a second.
    pub fn spend(&mut self, units: u64, in_a_second: u64, now: Duration) {
        let nanos = units.saturating_mul(1_000_000_000) / in_a_second.max(1);
        self.paid_at = self.paid_at.max(now).saturating_add(Duration::from_nanos(nanos));
    }

    /// How long to wait before more is done, where so much may be done ahead.
    pub fn wait(&self, at_once: u64, in_a_second: u64, now: Duration) -> Duration {
        let ahead = Duration::from_nanos(at_once.saturating_mul(1_000_000_000) / in_a_second.max(1));
        self.paid_at.saturating_sub(now).saturating_sub(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_beyond_the_credit_waits_until_it_is_paid_for() {
        let mut pace = Pace::default();
        pace.spend(100, 10, SECOND);
        assert_eq!(pace.wait(100, 10, SECOND), Duration::ZERO);
        pace.spend(20, 10, SECOND);
        assert_eq!(pace.wait(100, 10, SECOND), 2 * SECOND);
        assert_eq!(pace.wait(100, 10, 3 * SECOND), Duration::ZERO);
    }

    #[test]
    fn rest_earns_no_more_than_the_credit() {
        let mut pace = Pace::default();
        pace.spend(1, 10, Duration::ZERO);
        pace.spend(110, 10, 100 * SECOND);
        assert_eq!(pace.wait(100, 10, 100 * SECOND), SECOND);
    }
}
