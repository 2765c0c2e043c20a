//! Where the credential of the hub is kept: a file, or a Secret of the spoke. Knows how to read it and to put a renewed
//! one back; its text never leaves but as a kubeconfig.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use nave_agent_core::Key;
use nave_api::names;
use nave_watch::{Decoded, Metadata};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::connect::limited;
use crate::error::Error;

/// Where the credential is.
#[derive(Clone)]
pub enum Source {
    /// A file of ours alone.
    File(PathBuf),
    /// A Secret of the spoke, under the key `kubeconfig`.
    Secret {
        /// The spoke.
        spoke: Client,
        /// The Secret.
        key: Key,
    },
}

/// Why it cannot be had or put back.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file.
    #[error("{act} {}", .path.display())]
    File {
        /// What we wanted.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What was in the way.
        source: std::io::Error,
    },
    /// The Secret.
    #[error("Secret {key}")]
    Secret {
        /// The Secret.
        key: Key,
        /// What was in the way.
        source: Error,
    },
    /// It is there but holds none.
    #[error("Secret {key} has no text under the key {}", names::KUBECONFIG_KEY)]
    Empty {
        /// The Secret.
        key: Key,
    },
}

impl Source {
    /// The kubeconfig as it is kept now.
    pub async fn read(&self) -> Result<String, SourceError> {
        match self {
            Self::File(path) => {
                let error = |source| SourceError::File { act: "read", path: path.clone(), source };
                tokio::fs::read_to_string(path).await.map_err(error)
            }
            Self::Secret { spoke, key } => read_secret(spoke, key).await,
        }
    }

    /// Puts a renewed one back, at once or not at all.
    pub async fn write(&self, text: &str) -> Result<(), SourceError> {
        match self {
            Self::File(path) => {
                let error = |source| SourceError::File { act: "write", path: path.clone(), source };
                replace(path, text).await.map_err(error)
            }
            Self::Secret { spoke, key } => {
                let secrets: Api<Metadata<Secret>> = Api::namespaced(spoke.clone(), &key.namespace);
                let patch = json!({"data": {names::KUBECONFIG_KEY: ByteString(text.as_bytes().to_vec())}});
                let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
                let patched = limited("write the hub's credential back", secrets.patch(&key.name, &params, &patch));
                patched.await.map(drop).map_err(|source| SourceError::Secret { key: key.clone(), source })
            }
        }
    }
}

async fn read_secret(spoke: &Client, key: &Key) -> Result<String, SourceError> {
    let secrets: Api<Decoded<Secret>> = Api::namespaced(spoke.clone(), &key.namespace);
    let secret = limited("read the hub's credential", secrets.get(&key.name)).await;
    let secret = secret.map_err(|source| SourceError::Secret { key: key.clone(), source })?;
    let data = secret.readable().and_then(|secret| secret.data);
    let data = data.and_then(|mut data| data.remove(names::KUBECONFIG_KEY));
    data.and_then(|ByteString(bytes)| String::from_utf8(bytes).ok())
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| SourceError::Empty { key: key.clone() })
}

/// Writes beside it and moves it there: who reads sees the old one or the new one, and nobody else either.
async fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    // What a former life left half written is of no use.
    if let Err(error) = tokio::fs::remove_file(&beside).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = tokio::fs::OpenOptions::from(options).open(&beside).await?;
    file.write_all(text.as_bytes()).await?;
    file.sync_all().await?;
    drop(file);
    tokio::fs::rename(&beside, path).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn a_renewed_credential_replaces_the_file_and_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hub.kubeconfig");
        std::fs::write(&path, "old").unwrap();
        // Half a file that a former life left behind is no obstacle.
        std::fs::write(directory.path().join("hub.kubeconfig.new"), "half").unwrap();
        let source = Source::File(path.clone());
        source.write("new").await.unwrap();
        assert_eq!(source.read().await.unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
