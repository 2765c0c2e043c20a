//! Whether the hub still knows us. Judges answers of the hub; a hub that does not answer says nothing, however long.

use std::time::Duration;

/// So many answers that say the same, ...
const ANSWERS: u32 = 3;
/// ... over at least so long, before we believe that the tenant is gone: an API server that starts, restarts with other
/// keys for a moment or has not loaded its rules yet refuses for a second or two, and what follows cannot be undone.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an answer of the hub says about our tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It did what we asked, or refused for a reason of its own: we are known.
    Known,
    /// 401 to a token that by its own word is still valid: our account is no more.
    Refused,
    /// The namespace is gone or going.
    NamespaceEnded,
}

/// What an answer means. `kind`: of what it speaks, by its details. `token_valid`: whether our token has not expired by its own word. `None`: it means nothing
/// (server errors, limits, 403 for want of a rule, an expired token).
pub fn judge(code: u16, kind: &str, causes: &[&str], token_valid: bool) -> Option<Answer> {
    match code {
        200..=299 | 409 | 422 => Some(Answer::Known),
        401 if token_valid => Some(Answer::Refused),
        403 if causes.contains(&"NamespaceTerminating") => Some(Answer::NamespaceEnded),
        404 if kind == "namespaces" => Some(Answer::NamespaceEnded),
        _ => None,
    }
}

/// What we believe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenancy {
    /// The hub knows us, or nothing else has been proved.
    #[default]
    There,
    /// The hub refuses us for good. What it gave us may still be ours.
    Refused,
    /// Our namespace has ended, and with it every address of ours.
    Ended,
}

/// Hears answers and says what to believe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judgement {
    suspicion: Option<Suspicion>,
    belief: Tenancy,
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Duration,
    answers: u32,
    ended: bool,
}

impl Judgement {
    /// Takes an answer in that came at `now` (any clock that does not go back).
    pub fn hear(&mut self, answer: Answer, now: Duration) -> Tenancy {
        let ended = match answer {
            Answer::Known => {
                *self = Self::default();
                return self.belief;
            }
            Answer::Refused => false,
            Answer::NamespaceEnded => true,
        };
        let suspicion = self.suspicion.get_or_insert(Suspicion { since: now, answers: 0, ended });
        suspicion.answers = suspicion.answers.saturating_add(1);
        suspicion.ended |= ended;
        if suspicion.answers >= ANSWERS && now.saturating_sub(suspicion.since) >= PATIENCE {
            self.belief = if suspicion.ended { Tenancy::Ended } else { Tenancy::Refused };
        }
        self.belief
    }

    /// Whether we are about to believe that the tenant is gone, and should ask again soon.
    pub fn is_suspicious(&self) -> bool {
        self.suspicion.is_some() && self.belief == Tenancy::There
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn one_refusal_or_many_at_once_prove_nothing() {
        let mut judgement = Judgement::default();
        for _ in 0..10 {
            assert_eq!(judgement.hear(Answer::Refused, at(1)), Tenancy::There);
        }
        assert_eq!(judgement.hear(Answer::Refused, at(6)), Tenancy::Refused);
    }

    #[test]
    fn a_good_answer_between_refusals_begins_anew() {
        let mut judgement = Judgement::default();
        judgement.hear(Answer::NamespaceEnded, at(0));
        judgement.hear(Answer::Known, at(3));
        judgement.hear(Answer::NamespaceEnded, at(6));
        assert_eq!(judgement.hear(Answer::NamespaceEnded, at(7)), Tenancy::There);
        assert_eq!(judgement.hear(Answer::Refused, at(11)), Tenancy::Ended);
        assert_eq!(judgement.hear(Answer::Known, at(12)), Tenancy::There, "a new credential is a new beginning");
    }

    #[test]
    fn a_hub_that_is_merely_unwell_says_nothing() {
        for code in [0, 403, 404, 408, 429, 500, 502, 503, 504] {
            assert_eq!(judge(code, "", &[], true), None, "{code}");
        }
        assert_eq!(judge(401, "", &[], false), None, "an expired token is our own fault");
        assert_eq!(judge(401, "", &[], true), Some(Answer::Refused));
        assert_eq!(judge(403, "", &["NamespaceTerminating"], true), Some(Answer::NamespaceEnded));
        assert_eq!(judge(404, "namespaces", &[], true), Some(Answer::NamespaceEnded));
        assert_eq!(judge(404, "tcploadbalancers", &[], true), None, "one object that is not there");
    }
}
