//! The agent's token as a value: whom it names, how long it lives, when to renew it. Trusts nothing it says for rights;
//! knows no clock.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The API gives no token a shorter life.
const SHORTEST: i64 = 600;
/// No token is renewed sooner, in seconds, unless that was asked or it would end.
const SOONEST: i64 = 60;
/// The least wait, in seconds, where an age was asked: a hub whose tokens have no life is not asked for one after the other.
const LEAST: i64 = 1;

/// What a token says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The namespace of its service account.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// When it was issued, in seconds of the epoch.
    pub issued: i64,
    /// When it ends, in seconds of the epoch.
    pub expires: i64,
    /// The Secret whose end voids it; the next one is bound to the same, so that deleting it goes on to mean something.
    pub secret: Option<SecretRef>,
}

/// A Secret in the namespace of the account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SecretRef {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

#[derive(Deserialize)]
struct Payload {
    sub: String,
    iat: i64,
    exp: i64,
    #[serde(rename = "kubernetes.io", default)]
    kubernetes: Kubernetes,
}

#[derive(Default, Deserialize)]
struct Kubernetes {
    secret: Option<SecretRef>,
}

impl Claims {
    /// Reads a service account's token. `None`: it is something else, which we cannot renew.
    pub fn read(token: &str) -> Option<Self> {
        let payload = token.trim().split('.').nth(1)?;
        let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let Payload { sub, iat, exp, kubernetes: Kubernetes { secret } } = serde_json::from_slice(&bytes).ok()?;
        let (namespace, account) = sub.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        let (namespace, account) = (namespace.to_owned(), account.to_owned());
        Some(Self { namespace, account, issued: iat, expires: exp, secret })
    }

    /// Whether it has not ended at `now`.
    pub fn is_valid(&self, now: i64) -> bool {
        now < self.expires
    }

    /// How long the next one shall live: as long as this one.
    pub fn life(&self) -> i64 {
        self.expires.saturating_sub(self.issued).max(SHORTEST)
    }

    /// How long to wait before one is renewed that the hub gave just now: until it is as old as `age`, by default two thirds of
    /// its life. Both are the hub's own words: were our clock ahead of the hub's, each new one would seem old.
    pub fn renew_after(&self, age: Option<Duration>) -> Duration {
        let soonest = age.map_or(SOONEST, |age| i64::try_from(age.as_secs()).unwrap_or(SOONEST).clamp(LEAST, SOONEST));
        seconds(self.age(age).max(soonest))
    }

    /// How long to wait at `now` before one is renewed that was found somewhere: only a clock can say how old it is. Not at
    /// once, if it lasts as long: the clock may be wrong.
    pub fn renew_in(&self, now: i64, age: Option<Duration>) -> Duration {
        let age = self.age(age);
        let left = self.expires.saturating_sub(now).max(0);
        let soonest = SOONEST.min(age).min(left / 2);
        // Whose clock is behind the hub's cannot say how old it is.
        let due = if now < self.issued { soonest } else { self.issued.saturating_add(age).saturating_sub(now) };
        seconds(due.max(soonest))
    }

    fn age(&self, asked: Option<Duration>) -> i64 {
        let thirds = self.expires.saturating_sub(self.issued).max(0) / 3 * 2;
        asked.map_or(thirds, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX).min(thirds))
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn claims(issued: i64, expires: i64) -> Claims {
        Claims { namespace: "tenant-shop".into(), account: "agent".into(), issued, expires, secret: None }
    }

    #[test]
    fn a_token_names_its_account_and_its_life() {
        let token = token(r#"{"sub":"system:serviceaccount:tenant-shop:agent","iat":1000,"exp":4600,"aud":["x"]}"#);
        assert_eq!(Claims::read(&token), Some(claims(1000, 4600)));
    }

    #[test]
    fn a_token_says_which_secret_it_is_bound_to() {
        let payload = r#"{"sub":"system:serviceaccount:a:b","iat":1,"exp":2,
            "kubernetes.io":{"namespace":"a","secret":{"name":"agent","uid":"u1"},"serviceaccount":{"name":"b","uid":"u2"}}}"#;
        let secret = Claims::read(&token(payload)).unwrap().secret;
        assert_eq!(secret, Some(SecretRef { name: "agent".into(), uid: "u1".into() }));
    }

    #[test]
    fn what_is_no_token_of_an_account_is_none() {
        for text in ["", "opaque", "a.b.c", &token(r#"{"sub":"alice","iat":1,"exp":2}"#), &token("{}")] {
            assert_eq!(Claims::read(text), None, "{text}");
        }
    }

    #[test]
    fn it_is_renewed_at_two_thirds_of_its_life_and_soon_after_that() {
        let claims = claims(1000, 4600);
        assert_eq!(claims.renew_in(1000, None), Duration::from_mins(40));
        assert_eq!(claims.renew_in(3000, None), Duration::from_secs(400));
        assert_eq!(claims.renew_in(-500, None), Duration::from_mins(1), "a clock that is behind");
        assert_eq!(claims.renew_in(3500, None), Duration::from_mins(1));
        assert_eq!(claims.renew_in(4580, None), Duration::from_secs(10), "before it ends");
        assert_eq!(claims.renew_in(5000, None), Duration::ZERO);
        assert_eq!(claims.renew_in(1000, Some(Duration::from_mins(10))), Duration::from_mins(10));
        assert_eq!(claims.renew_in(1000, Some(Duration::from_hours(10))), Duration::from_mins(40));
        assert!(claims.is_valid(4599) && !claims.is_valid(4600));
    }

    #[test]
    fn one_that_was_given_just_now_is_renewed_by_its_own_word_whatever_the_clock_says() {
        let claims = claims(1000, 4600);
        assert_eq!(claims.renew_after(None), Duration::from_mins(40));
        assert_eq!(claims.renew_after(Some(Duration::from_secs(2))), Duration::from_secs(2));
        assert_eq!(self::claims(1000, 1003).renew_after(None), Duration::from_mins(1));
    }

    #[test]
    fn d_a_hub_whose_tokens_have_no_life_is_asked_once_a_second_at_most() {
        for (issued, expires) in [(1000, 1000), (1000, 1001), (1000, 0), (i64::MIN, i64::MIN), (i64::MIN, i64::MAX)] {
            for age in [None, Some(Duration::ZERO), Some(Duration::from_millis(10)), Some(Duration::from_mins(10))] {
                let wait = claims(issued, expires).renew_after(age);
                assert!(wait >= Duration::from_secs(1), "{wait:?} at {issued}, {expires}, {age:?}");
                assert!(claims(issued, expires).life() >= SHORTEST);
            }
        }
    }

    #[test]
    fn the_next_one_lives_as_long_but_never_shorter_than_the_api_gives() {
        assert_eq!((claims(0, 3600).life(), claims(0, 60).life()), (3600, 600));
    }
}
