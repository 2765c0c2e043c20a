//! One status that somebody else may write, too. Knows what we wish to show and what is shown; knows no Service.

use k8s_openapi::api::core::v1::LoadBalancerIngress;

use crate::places::Places;
use crate::status;

/// So often do we write one wish anew over what another controller wrote.
const MOST: u32 = 3;

/// What became of our wish so far.
#[derive(Debug, Default)]
pub(super) struct Contest {
    wish: Vec<LoadBalancerIngress>,
    /// It has been shown as we wish.
    settled: bool,
    /// How often it was something else, which we had not written.
    lost: u32,
    /// What we may have shown: what was as we wished last, and every wish since.
    mine: Places,
}

/// What is to be done about what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It is to be written.
    pub write: bool,
    /// Somebody else has written it.
    pub contested: bool,
}

impl Contest {
    /// Looks at what is shown against what we wish to be shown.
    pub(super) fn judge(&mut self, shown: &[LoadBalancerIngress], wish: &[LoadBalancerIngress]) -> Verdict {
        if self.wish != wish {
            let mut mine = std::mem::take(&mut self.mine);
            mine.extend(Places::shown(wish));
            *self = Self { wish: wish.to_vec(), mine, ..Self::default() };
        }
        let same = shown == wish;
        if same {
            self.mine = Places::shown(wish);
        }
        let foreign = !shown.is_empty() && !status::is_ours(shown) && !self.mine.hold(shown);
        if !same && (foreign || self.settled) {
            self.lost = self.lost.saturating_add(1);
        }
        self.settled = same;
        Verdict { write: !same && self.lost <= MOST, contested: self.lost > 0 }
    }

    /// A while has passed: what we show has held, or the other one may have gone and it is tried once more.
    pub(super) fn try_again(&mut self) {
        self.lost = if self.settled { 0 } else { self.lost.min(MOST - 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(ip: &str) -> Vec<LoadBalancerIngress> {
        let (ip, ip_mode) = (Some(ip.to_owned()), Some("Proxy".to_owned()));
        vec![LoadBalancerIngress { ip, ip_mode, ..LoadBalancerIngress::default() }]
    }

    const WRITE: Verdict = Verdict { write: true, contested: false };
    const AGAIN: Verdict = Verdict { write: true, contested: true };
    const LOST: Verdict = Verdict { write: false, contested: true };
    const SETTLED: Verdict = Verdict { write: false, contested: false };

    #[test]
    fn who_empties_what_we_show_is_noticed_and_not_fought_for_ever() {
        let mut contest = Contest::default();
        let ours = ingress("203.0.113.7");
        assert_eq!(contest.judge(&[], &ours), WRITE);
        assert_eq!(contest.judge(&ours, &ours), SETTLED);
        let mut verdicts = Vec::new();
        for _ in 0..4 {
            verdicts.push(contest.judge(&[], &ours));
            contest.judge(&ours, &ours);
        }
        assert_eq!(verdicts, [AGAIN, AGAIN, AGAIN, LOST]);
    }

    #[test]
    fn what_was_left_to_another_is_tried_once_more_and_a_contest_that_is_over_is_forgotten() {
        let mut contest = Contest { lost: 4, ..Contest::default() };
        let (ours, theirs) = (ingress("203.0.113.7"), vec![LoadBalancerIngress::default()]);
        contest.wish.clone_from(&ours);
        assert_eq!(contest.judge(&theirs, &ours), LOST);
        contest.try_again();
        assert_eq!(contest.judge(&theirs, &ours), AGAIN);
        assert_eq!(contest.judge(&ours, &ours), LOST, "it has yet to hold");
        contest.try_again();
        assert_eq!(contest.judge(&ours, &ours), SETTLED);
    }

    #[test]
    fn another_wish_of_our_own_is_no_contest() {
        let mut contest = Contest::default();
        let (before, after) = (ingress("203.0.113.7"), ingress("203.0.113.8"));
        assert_eq!(contest.judge(&before, &before), SETTLED);
        assert_eq!(contest.judge(&before, &after), WRITE);
        assert_eq!(contest.judge(&before, &after), WRITE, "it has yet to be written");
    }

    #[test]
    fn a_name_of_our_own_is_no_contest_and_one_of_another_is() {
        let name = |text: &str| {
            let hostname = Some(text.to_owned());
            vec![LoadBalancerIngress { hostname, ..LoadBalancerIngress::default() }]
        };
        let mut contest = Contest::default();
        let (before, between, after) = (name("a.example"), name("b.example"), name("c.example"));
        assert_eq!(contest.judge(&[], &before), WRITE);
        assert_eq!(contest.judge(&before, &before), SETTLED);
        assert_eq!(contest.judge(&before, &between), WRITE);
        assert_eq!(contest.judge(&before, &after), WRITE, "what we wished meanwhile may not have been written");
        assert_eq!(contest.judge(&after, &after), SETTLED);
        assert_eq!(contest.judge(&after, &[]), WRITE);
        assert_eq!(contest.judge(&name("lb.cloud.example"), &[]), AGAIN);
    }
}
