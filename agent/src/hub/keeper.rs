//! Keeps the session with the hub alive: reads the credential, renews its token, takes a new one that was put there, and
//! judges whether the hub still knows us. Never says a token aloud.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use nave_agent_core::Tenancy;
use nave_agent_core::credential::{Claims, SecretRef};
use nave_agent_core::tenancy::Judgement;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::source::SourceError;
use super::{Heard, Hub, Session, Source};
use crate::connect::{self, ConnectError, limited};
use crate::error::{Error, line};
use crate::metrics::Metrics;
use crate::watch::Sight;

/// How often the source is read again: a credential that an administrator put there is found without being told.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// How often at most it is read when there is none, or the hub refuses what we have.
const READ_SOON: Duration = Duration::from_secs(2);
/// How long to wait after a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(15);
/// So many answers may wait to be judged.
const ANSWERS: usize = 64;

/// Why the credential cannot be used or renewed.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    /// It cannot be had, or put back.
    #[error("the hub's credential")]
    Source(#[source] SourceError),
    /// It makes no client.
    #[error("the hub's kubeconfig")]
    Connect(#[source] ConnectError),
    /// It says nothing of what it should.
    #[error("the hub's kubeconfig: {0}")]
    Kubeconfig(&'static str),
    /// The hub gives no new token.
    #[error("a new token")]
    Renew(#[source] Error),
    /// The new kubeconfig cannot be written.
    #[error("write the hub's kubeconfig anew")]
    Render(#[source] serde_saphyr::ser::Error),
}

/// Owner of the session; [`Hub`] is what others have of it.
pub struct Keeper {
    source: Source,
    /// Renew tokens at this age; absent: at two thirds of their life.
    renew_age: Option<Duration>,
    /// The credential in use.
    text: String,
    /// What the source held when it was read or written last: another text there is another credential.
    kept: String,
    /// Whether the credential in use is newer than what the source holds, and could not be put there.
    unkept: bool,
    sessions: watch::Sender<Option<Arc<Session>>>,
    heard: mpsc::Receiver<Heard>,
    trouble: watch::Sender<String>,
    suspicious: watch::Sender<bool>,
    judgement: Judgement,
    tenancy: Tenancy,
    sights: mpsc::Sender<Sight>,
    metrics: Metrics,
    start: Instant,
    read_at: Option<Instant>,
    renew_at: Option<tokio::time::Instant>,
}

impl Keeper {
    /// A keeper without a session yet.
    pub fn new(
        source: Source,
        renew_age: Option<Duration>,
        sights: mpsc::Sender<Sight>,
        metrics: Metrics,
    ) -> (Self, Hub) {
        let (sessions, session) = watch::channel(None);
        let (answers, heard) = mpsc::channel(ANSWERS);
        let (trouble, troubled) = watch::channel("the hub's credential has not been read yet".to_owned());
        let (suspicious, suspected) = watch::channel(false);
        let hub = Hub { sessions: session, heard: answers, trouble: troubled, suspicious: suspected };
        let this = Self {
            source,
            renew_age,
            text: String::new(),
            kept: String::new(),
            unkept: false,
            sessions,
            heard,
            trouble,
            suspicious,
            judgement: Judgement::default(),
            tenancy: Tenancy::There,
            sights,
            metrics,
            start: Instant::now(),
            read_at: None,
            renew_at: None,
        };
        (this, hub)
    }

    /// Keeps the session until dropped.
    pub async fn run(mut self) {
        let mut ticks = interval(READ_SOON);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let renew_at = self.renew_at;
            let renew = async {
                match renew_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = self.heard.recv() => match heard {
                    Some(heard) => self.hear(heard).await,
                    None => return,
                },
                () = renew => self.renew().await,
                _ = ticks.tick() => self.look(READ_AGAIN).await,
            }
        }
    }

    async fn hear(&mut self, heard: Heard) {
        if let Heard::Answer(answer) = heard {
            let tenancy = self.judgement.hear(answer, self.start.elapsed());
            self.suspect(self.judgement.is_suspicious() || tenancy != Tenancy::There);
            self.believe(tenancy).await;
            if answer == nave_agent_core::tenancy::Answer::Known {
                return;
            }
        }
        // Refused: maybe there is a newer one already.
        self.look(READ_SOON).await;
        if self.is_expired() {
            self.report(Err(KeepError::Kubeconfig("its token has ended: bring a new one")));
        }
    }

    /// Wakes those who wait for a change of this only when it is one.
    fn suspect(&self, is_suspicious: bool) {
        self.suspicious.send_if_modified(|before| std::mem::replace(before, is_suspicious) != is_suspicious);
    }

    async fn believe(&mut self, tenancy: Tenancy) {
        if self.tenancy == tenancy {
            return;
        }
        self.tenancy = tenancy;
        match tenancy {
            Tenancy::There => tracing::info!("the hub knows us again"),
            Tenancy::Refused => tracing::warn!("the hub refuses our account: our finalizers are released"),
            Tenancy::Ended => tracing::warn!("our namespace in the hub has ended: our finalizers are released"),
        }
        // The receiver ends last: who is not there any more need not know.
        let _ = self.sights.send(Sight::Tenancy(tenancy)).await;
    }

    /// Reads the source, unless it was read within `patience` or there is no need.
    async fn look(&mut self, patience: Duration) {
        let patience = if self.sessions.borrow().is_none() { READ_SOON } else { patience };
        if self.read_at.is_some_and(|at| at.elapsed() < patience) {
            return;
        }
        self.read_at = Some(Instant::now());
        let outcome = match self.source.read().await {
            Ok(text) if text == self.kept && !self.unkept => return self.relax(),
            Ok(text) if text == self.kept => self.keep().await,
            Ok(text) => {
                self.kept.clone_from(&text);
                self.unkept = false;
                // How old it is, only our clock can say.
                self.adopt(text, |claims, age| claims.renew_in(Timestamp::now().as_second(), age)).await
            }
            Err(error) => Err(KeepError::Source(error)),
        };
        self.report(outcome);
    }

    /// Puts the credential in use where the next life of ours finds it.
    async fn keep(&mut self) -> Result<(), KeepError> {
        let written = self.source.write(&self.text).await;
        self.unkept = written.is_err();
        if written.is_ok() {
            self.kept.clone_from(&self.text);
        }
        written.map_err(KeepError::Source)
    }

    /// The source is as it was: what was wrong with reading it is over.
    fn relax(&self) {
        if self.sessions.borrow().is_some() && self.tenancy == Tenancy::There && !self.is_expired() {
            self.report(Ok(()));
        }
    }

    /// Whether the token has ended by its own word.
    fn is_expired(&self) -> bool {
        self.sessions.borrow().as_ref().is_some_and(|session| !session.is_valid())
    }

    fn report(&self, outcome: Result<(), KeepError>) {
        let trouble = outcome.err().map(|error| line(&error)).unwrap_or_default();
        self.trouble.send_if_modified(|before| {
            let changed = *before != trouble;
            if changed && !trouble.is_empty() {
                tracing::warn!("{trouble}");
            }
            *before = trouble;
            changed
        });
    }

    /// A credential that we have not used yet: a new session, and a new judgement. `wait`: how long until it is renewed.
    async fn adopt(
        &mut self,
        text: String,
        wait: impl FnOnce(&Claims, Option<Duration>) -> Duration,
    ) -> Result<(), KeepError> {
        let session = open(&text).await?;
        tracing::info!(hub = session.place(), "using a new credential of the hub");
        self.text = text;
        self.judgement = Judgement::default();
        self.suspect(false);
        let claims = session.claims.clone();
        let wait = claims.as_ref().map(|claims| wait(claims, self.renew_age));
        self.renew_at = wait.map(|wait| tokio::time::Instant::now() + wait);
        self.sessions.send_replace(Some(Arc::new(session)));
        self.expires(claims.as_ref());
        self.believe(Tenancy::There).await;
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "seconds of the epoch fit a double for longer than we live")]
    fn expires(&self, claims: Option<&Claims>) {
        self.metrics.token_expires.set(claims.map_or(0.0, |claims| claims.expires as f64));
    }

    async fn renew(&mut self) {
        self.renew_at = Some(tokio::time::Instant::now() + RENEW_AGAIN);
        let outcome = self.try_renew().await;
        self.report(outcome);
    }

    async fn try_renew(&mut self) -> Result<(), KeepError> {
        let Some(session) = self.sessions.borrow().clone() else { return Ok(()) };
        let Some(claims) = &session.claims else { return Ok(()) };
        let token = request(&session, claims).await.map_err(KeepError::Renew)?;
        let text = with_token(&self.text, &token)?;
        self.metrics.renewals.inc();
        // It is good even when it cannot be kept: then that is tried again, before a later life of ours begins with the old one.
        self.adopt(text, Claims::renew_after).await?;
        self.keep().await
    }
}

/// Asks for a token of our own account that lives as long as the present one.
async fn request(session: &Session, claims: &Claims) -> Result<String, Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(session.client.clone(), &claims.namespace);
    let spec = TokenRequestSpec {
        audiences: Vec::new(),
        bound_object_ref: claims.secret.as_ref().map(holder),
        expiration_seconds: Some(claims.life()),
    };
    let wanted = TokenRequest { spec, ..TokenRequest::default() };
    let params = PostParams::default();
    let asked = accounts.create_token_request(&claims.account, &params, &wanted);
    let answer = limited("ask the hub for a token", asked).await?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

fn holder(SecretRef { name, uid }: &SecretRef) -> BoundObjectReference {
    BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(name.clone()),
        uid: Some(uid.clone()),
    }
}

async fn open(text: &str) -> Result<Session, KeepError> {
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| NO_YAML)?; // the error would show what stands there
    let claims = token(text)?.and_then(|token| Claims::read(&token));
    let (client, config) = connect::hub(kubeconfig).await.map_err(KeepError::Connect)?;
    let server = config.cluster_url.to_string();
    Ok(Session { client, namespace: config.default_namespace, server, claims })
}

type Yaml = serde_json::Value;

const NO_YAML: KeepError = KeepError::Kubeconfig("it is no YAML");
const NO_USER: KeepError = KeepError::Kubeconfig("its context names no user");

fn parse(text: &str) -> Result<Yaml, KeepError> {
    serde_saphyr::from_str(text).map_err(|_| NO_YAML) // the error would show what stands there
}

/// The user of the current context.
fn user(kubeconfig: &mut Yaml) -> Result<&mut Yaml, KeepError> {
    let current = kubeconfig["current-context"].as_str().unwrap_or_default().to_owned();
    let contexts = kubeconfig["contexts"].as_array();
    let context = contexts.and_then(|all| all.iter().find(|context| context["name"] == *current)).ok_or(NO_USER)?;
    let name = context["context"]["user"].as_str().ok_or(NO_USER)?.to_owned();
    let users = kubeconfig["users"].as_array_mut();
    let found = users.and_then(|all| all.iter_mut().find(|user| user["name"] == *name)).ok_or(NO_USER)?;
    Ok(&mut found["user"])
}

fn token(text: &str) -> Result<Option<String>, KeepError> {
    let mut kubeconfig = parse(text)?;
    Ok(user(&mut kubeconfig)?["token"].as_str().map(str::to_owned))
}

/// The same kubeconfig with another token.
fn with_token(text: &str, token: &str) -> Result<String, KeepError> {
    if token.is_empty() {
        return Err(KeepError::Kubeconfig("the hub answered without a token"));
    }
    let mut kubeconfig = parse(text)?;
    user(&mut kubeconfig)?["token"] = Yaml::String(token.to_owned());
    serde_saphyr::to_string(&kubeconfig).map_err(KeepError::Render)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
current-context: hub
contexts: [{name: hub, context: {cluster: hub, user: agent, namespace: tenant-shop}}]
clusters: [{name: hub, cluster: {server: 'https://192.0.2.1:6443'}}]
users: [{name: other, user: {token: theirs}}, {name: agent, user: {token: old}}]
";

    #[test]
    fn a_renewed_token_replaces_the_users_own_and_nothing_else() {
        let renewed = with_token(TEXT, "new").unwrap();
        assert_eq!(token(&renewed).unwrap().as_deref(), Some("new"));
        let back = with_token(&renewed, "old").unwrap();
        assert_eq!(parse(&back).unwrap(), parse(TEXT).unwrap());
    }

    #[test]
    fn errors_show_nothing_of_a_kubeconfig() {
        let error = token("users: [{user: {token: secret").unwrap_err();
        assert!(!format!("{error:?} {}", line(&error)).contains("secret"));
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_none_is_not_shown() {
        for text in ["users: [{user: {token: secret", "users:\n- user:\n   token: secret\n  name: x\n", "users: secret"]
        {
            let Err(error) = open(text).await else { panic!("{text} is none") };
            assert!(!format!("{error:?} {}", line(&error)).contains("secret"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn d_refusals_of_the_hub_read_the_source_again_every_two_seconds_at_most() {
        let reads = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = Arc::clone(&reads);
        let spoke = nave_watch::stub::client(move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            nave_watch::stub::refusal(500)
        });
        let key = nave_agent_core::Key { namespace: "nave-system".into(), name: "nave-hub".into() };
        let (sights, _seen) = mpsc::channel(8);
        let (mut keeper, _hub) = Keeper::new(Source::Secret { spoke, key }, None, sights, Metrics::new());
        let begun = Instant::now();
        for _ in 0..1000 {
            keeper.hear(Heard::Answer(nave_agent_core::tenancy::Answer::Refused)).await;
            keeper.hear(Heard::Expired).await;
        }
        let most = 1 + begun.elapsed().as_secs() / READ_SOON.as_secs();
        let reads = reads.load(std::sync::atomic::Ordering::SeqCst);
        assert!(reads >= 1 && u64::from(reads) <= most, "{reads} reads in {:?}", begun.elapsed());
    }

    /// A keeper with a session at a hub that answers so when it is asked for a token, whose renewal is due, and the number of calls.
    fn due(answer: impl Fn() -> (u16, Yaml) + Send + Sync + 'static) -> (Keeper, Hub, Arc<AtomicU32>) {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let client = nave_watch::stub::client(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            answer()
        });
        let spoke = nave_watch::stub::client(|_| nave_watch::stub::refusal(500));
        let key = nave_agent_core::Key { namespace: "nave-system".into(), name: "nave-hub".into() };
        let (sights, _seen) = mpsc::channel(8);
        let (mut keeper, hub) = Keeper::new(Source::Secret { spoke, key }, None, sights, Metrics::new());
        let claims = Claims {
            namespace: "tenant-shop".into(),
            account: "agent".into(),
            issued: 0,
            expires: i64::MAX,
            secret: None,
        };
        let (namespace, server) = ("tenant-shop".to_owned(), "https://192.0.2.1:6443".to_owned());
        keeper.sessions.send_replace(Some(Arc::new(Session { client, namespace, server, claims: Some(claims) })));
        keeper.text = TEXT.to_owned();
        keeper.renew_at = Some(tokio::time::Instant::now());
        (keeper, hub, calls)
    }

    #[tokio::test]
    async fn d_a_hub_that_gives_no_token_is_asked_again_after_fifteen_seconds() {
        for answer in [nave_watch::stub::refusal(403), nave_watch::stub::refusal(503), (200, serde_json::json!({}))] {
            let shown = answer.clone();
            let (keeper, _hub, calls) = due(move || answer.clone());
            let run = tokio::time::timeout(Duration::from_millis(200), keeper.run()).await;
            assert_eq!((run.is_err(), calls.load(Ordering::SeqCst)), (true, 1), "{shown:?}");
            let (mut keeper, _hub, _) = due(move || shown.clone());
            keeper.renew().await;
            let wait = keeper.renew_at.unwrap() - tokio::time::Instant::now();
            assert!(wait > RENEW_AGAIN / 2 && wait <= RENEW_AGAIN, "{wait:?}");
        }
    }

    #[tokio::test]
    async fn d_a_hub_that_gives_tokens_without_a_life_is_asked_again_after_a_minute() {
        // {"sub":"system:serviceaccount:tenant-shop:agent","iat":1000,"exp":1000}
        let token =
            "e30.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6dGVuYW50LXNob3A6YWdlbnQiLCJpYXQiOjEwMDAsImV4cCI6MTAwMH0.c2ln";
        let status = serde_json::json!({"token": token, "expirationTimestamp": "2026-11-30T10:00:00Z"});
        let answer = serde_json::json!({"spec": {"audiences": []}, "status": status});
        let (mut keeper, _hub, calls) = due(move || (201, answer.clone()));
        keeper.renew().await;
        assert_eq!((calls.load(Ordering::SeqCst), keeper.unkept), (1, true), "a token, which the spoke does not keep");
        assert!(keeper.renew_at.unwrap() - tokio::time::Instant::now() > Duration::from_secs(55));
    }
}
