//! The hub's own certificate authority: it vouches for managers and Envoys to each other. Knows the Secret that keeps it;
//! what certificates look like is decided next door.

mod issue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use nave_watch::Decoded;
use nave_xds::identity::{self, IdentityError};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use issue::{Authority, Issued};

/// The Secret in the managers' namespace.
const SECRET: &str = "nave-ca";
/// How long the API may take to show or take the Secret.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a manager's certificate lasts; a new one is issued when a third of it is left.
const SERVING_LIFE: Duration = Duration::from_hours(30 * 24);

/// Why the authority cannot be had or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The API refuses.
    #[error("read or make the Secret {SECRET}")]
    Keep(#[source] kube::Error),
    /// The API does not answer.
    #[error("read or make the Secret {SECRET} within {PATIENCE:?}")]
    KeepInTime,
    /// The Secret lacks something.
    #[error(
        "the Secret {SECRET} has no {0}: delete it to have a new authority made, then renew every Envoy's certificate"
    )]
    Incomplete(&'static str),
    /// The Secret's certificate is not one.
    #[error("read the certificate in the Secret {SECRET}")]
    Read(#[source] IdentityError),
    /// The Secret's key belongs to another certificate.
    #[error("the key in the Secret {SECRET} is not that of its first certificate")]
    OtherKey,
    /// A key or certificate cannot be made.
    #[error("issue a certificate")]
    Issue(#[source] rcgen::Error),
    /// The server cannot use what was issued.
    #[error("serve with an issued certificate")]
    Serve(#[source] IdentityError),
}

impl Authority {
    /// The hub's authority: the one in the Secret, or a new one. Of several managers that start at once, the first to
    /// create the Secret decides; creating it is the lock.
    pub(crate) async fn of_hub(client: Client, namespace: &str) -> Result<Self, AuthorityError> {
        let kept = tokio::time::timeout(PATIENCE, Self::kept(client, namespace)).await;
        kept.unwrap_or(Err(AuthorityError::KeepInTime))
    }

    async fn kept(client: Client, namespace: &str) -> Result<Self, AuthorityError> {
        let secrets: Api<Decoded<Secret>> = Api::namespaced(client, namespace);
        if let Some(secret) = secrets.get_opt(SECRET).await.map_err(AuthorityError::Keep)? {
            return Self::read(secret);
        }
        let made = Self::new()?;
        match secrets.create(&PostParams::default(), &Decoded::Object(made.secret())).await {
            Ok(_) => Ok(made),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Self::read(secrets.get(SECRET).await.map_err(AuthorityError::Keep)?)
            }
            Err(error) => Err(AuthorityError::Keep(error)),
        }
    }

    fn read(secret: Decoded<Secret>) -> Result<Self, AuthorityError> {
        let secret = secret.readable().ok_or(AuthorityError::Incomplete("data that can be read"))?;
        let part = |key: &'static str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            let text = bytes.and_then(|ByteString(bytes)| String::from_utf8(bytes.clone()).ok());
            text.ok_or(AuthorityError::Incomplete(key))
        };
        Self::load(part("tls.crt")?, &part("tls.key")?)
    }

    fn secret(&self) -> Secret {
        let data = [("tls.crt", self.certificate().as_bytes()), ("tls.key", self.key().as_bytes())];
        Secret {
            metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(BTreeMap::from(data.map(|(key, value)| (key.to_owned(), ByteString(value.to_vec()))))),
            ..Secret::default()
        }
    }
}

/// A manager's own certificate, always one that is good for long enough.
#[derive(Clone)]
pub(crate) struct Serving {
    /// What the port for Envoys and peers uses for new connections.
    pub(crate) config: watch::Receiver<Arc<ServerConfig>>,
    /// The same as PEM, for calling other managers.
    pub(crate) issued: watch::Receiver<Arc<Issued>>,
}

/// Where the authority is kept.
pub(crate) struct Kept {
    secrets: Api<Decoded<Secret>>,
}

impl Kept {
    /// The Secret in the managers' namespace.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client, namespace) }
    }

    /// The authority as the Secret has it now; nothing where the Secret is gone.
    async fn now(&self) -> Result<Option<Authority>, AuthorityError> {
        let kept = tokio::time::timeout(PATIENCE, self.secrets.get_opt(SECRET)).await;
        let secret = kept.map_err(|_| AuthorityError::KeepInTime)?.map_err(AuthorityError::Keep)?;
        secret.map(Authority::read).transpose()
    }
}

/// Issues this manager's certificate, and new ones before it ends or when another authority takes the place of this one, until
/// shut down.
pub(crate) fn serve(
    kept: Kept,
    authority: Authority,
    manager: String,
    hosts: Vec<String>,
    pace: Duration,
    shutdown: CancellationToken,
) -> Result<Serving, AuthorityError> {
    let (config, issued) = one(&authority, &manager, &hosts)?;
    let (config_sender, config) = watch::channel(config);
    let (issued_sender, issued) = watch::channel(issued);
    let mut keeper = Keeper { kept, authority, is_well: true };
    tokio::spawn(async move {
        let mut due = tokio::time::interval(SERVING_LIFE * 2 / 3);
        due.tick().await; // the first is now: that one was just issued
        loop {
            let is_due = tokio::select! {
                _ = due.tick() => true,
                () = tokio::time::sleep(pace) => keeper.look().await,
                () = shutdown.cancelled() => return,
            };
            if !is_due {
                continue;
            }
            match one(&keeper.authority, &manager, &hosts) {
                Ok((config, issued)) => {
                    config_sender.send_replace(config);
                    issued_sender.send_replace(issued);
                    tracing::info!("serving with a new certificate");
                }
                Err(error) => tracing::error!(?error, "no new certificate: the old one stays"),
            }
        }
    });
    Ok(Serving { config, issued })
}

/// The authority in use, which is the one in the Secret as long as that can be used.
struct Keeper {
    kept: Kept,
    authority: Authority,
    is_well: bool,
}

impl Keeper {
    /// Looks whether there is another authority, and returns whether it was taken.
    async fn look(&mut self) -> bool {
        let now = match self.kept.now().await {
            Ok(Some(now)) => now,
            Ok(None) => return self.stay("the Secret is gone", None),
            // The API may be away: that is no news of the Secret.
            Err(AuthorityError::Keep(_) | AuthorityError::KeepInTime) => return false,
            Err(error) => return self.stay("the Secret cannot be used", Some(&error)),
        };
        self.is_well = true;
        let is_new = (now.certificate(), now.key()) != (self.authority.certificate(), self.authority.key());
        if is_new {
            tracing::warn!(
                "another authority is in the Secret {SECRET}: new connections need certificates that it vouches for; those that are \
                 open stay until they end"
            );
            self.authority = now;
        }
        is_new
    }

    /// Says once that the authority stays, and why.
    fn stay(&mut self, why: &'static str, error: Option<&AuthorityError>) -> bool {
        if std::mem::replace(&mut self.is_well, false) {
            let error = error.map(|error| error as &dyn std::error::Error);
            tracing::error!(error, "{why}: the authority {SECRET} stays as it was");
        }
        false
    }
}

fn one(
    authority: &Authority,
    manager: &str,
    hosts: &[String],
) -> Result<(Arc<ServerConfig>, Arc<Issued>), AuthorityError> {
    let issued = authority.manager(manager, hosts, SERVING_LIFE)?;
    let config =
        identity::server_config(issued.chain.as_bytes(), issued.key.as_bytes(), authority.certificate().as_bytes())
            .map_err(AuthorityError::Serve)?;
    Ok((Arc::new(config), Arc::new(issued)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use nave_watch::stub;
    use serde_json::json;

    use super::*;

    /// A Secret that tests replace: certificate and key, or none.
    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Option<(String, String)>>>);

    impl Shown {
        fn set(&self, certificate: &str, key: &str) {
            *self.0.lock().unwrap() = Some((certificate.to_owned(), key.to_owned()));
        }

        fn kept(&self) -> Kept {
            let shown = self.clone();
            let client = stub::client(move |_| match &*shown.0.lock().unwrap() {
                None => (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})),
                Some((certificate, key)) => {
                    let data = json!({"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key)});
                    (200, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": data}))
                }
            });
            Kept::new(client, "nave-system")
        }
    }

    fn start(shown: &Shown, authority: &Authority) -> (Serving, CancellationToken) {
        let shutdown = CancellationToken::new();
        let loaded = Authority::load(authority.certificate().to_owned(), authority.key()).unwrap();
        let pace = Duration::from_millis(5);
        let serving = serve(shown.kept(), loaded, "manager-1".into(), vec!["localhost".into()], pace, shutdown.clone());
        (serving.unwrap(), shutdown)
    }

    #[tokio::test]
    async fn an_authority_that_is_replaced_while_a_manager_runs_is_taken() {
        let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
        let shown = Shown::default();
        shown.set(old.certificate(), old.key());
        let (mut serving, _shutdown) = start(&shown, &old);
        shown.set(new.certificate(), new.key());
        serving.issued.changed().await.unwrap();
        assert_eq!(serving.issued.borrow().authority, new.certificate());
        assert!(serving.config.has_changed().unwrap(), "new connections are asked for certificates of the new one");
    }

    #[tokio::test]
    async fn an_authority_stays_while_its_secret_is_gone_or_cannot_be_used() {
        let (old, new, other) = (Authority::new().unwrap(), Authority::new().unwrap(), Authority::new().unwrap());
        let shown = Shown::default(); // gone
        let mut keeper = Keeper { kept: shown.kept(), authority: old, is_well: true };
        assert!(!keeper.look().await && !keeper.is_well);
        for (certificate, key) in [("", new.key()), (new.certificate(), ""), (new.certificate(), other.key())] {
            shown.set(certificate, key);
            assert!(!keeper.look().await && !keeper.is_well);
        }
        shown.set(new.certificate(), new.key());
        assert!(keeper.look().await && keeper.is_well);
        assert!(!keeper.look().await, "the same is not taken twice");
    }
}
