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

/// Issues this manager's certificate, and new ones before it ends, until shut down.
pub(crate) fn serve(
    authority: Arc<Authority>,
    manager: String,
    hosts: Vec<String>,
    shutdown: CancellationToken,
) -> Result<Serving, AuthorityError> {
    let (config, issued) = one(&authority, &manager, &hosts)?;
    let (config_sender, config) = watch::channel(config);
    let (issued_sender, issued) = watch::channel(issued);
    tokio::spawn(async move {
        let mut due = tokio::time::interval(SERVING_LIFE * 2 / 3);
        due.tick().await; // the first is now: that one was just issued
        while shutdown.run_until_cancelled(due.tick()).await.is_some() {
            match one(&authority, &manager, &hosts) {
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
