//! Which cluster the spoke is. Knows where an API server says so; decides nothing by it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource as _};
use nave_api::cluster::Mark;
use nave_watch::Metadata;
use tokio::sync::watch;

use crate::connect::limited;
use crate::error::{Error, line};

const ACT: &str = "read the uid of the spoke's namespace kube-system";

/// The spoke's own mark: the uid of its namespace `kube-system`. An API server that is replaced behind one address by another
/// cluster's is noticed, since it is read again with each heartbeat, and before anything is deleted in the hub because it is not in
/// the spoke.
#[derive(Clone)]
pub struct Identity {
    spoke: Client,
    /// What was read last.
    known: Arc<watch::Sender<Option<Mark>>>,
}

impl Identity {
    /// Not read yet.
    pub fn new(spoke: Client) -> Self {
        Self { spoke, known: Arc::new(watch::channel(None).0) }
    }

    /// The mark as the spoke says it now. While the spoke does not answer: as it said it last.
    pub async fn mark(&self) -> Result<Mark, Error> {
        let known = self.known.borrow().clone();
        match (self.ask().await, known) {
            (Ok(mark), known) => {
                if known.as_ref() != Some(&mark) {
                    tracing::info!(cluster = mark.as_str(), "this is the cluster");
                }
                self.known.send_replace(Some(mark.clone()));
                Ok(mark)
            }
            (Err(error), Some(known)) => {
                tracing::warn!(
                    error = line(&error),
                    "the spoke does not say which cluster it is: we stay with what it said"
                );
                Ok(known)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Goes on only when the spoke is the cluster that it was.
    pub async fn confirm(&self) -> Result<(), Error> {
        let now = self.ask().await?;
        let same = self.known.borrow().as_ref() == Some(&now);
        if same { Ok(()) } else { Err(Error::OtherSpoke { act: ACT }) }
    }

    async fn ask(&self) -> Result<Mark, Error> {
        let namespaces: Api<Metadata<Namespace>> = Api::all(self.spoke.clone());
        let namespace = limited(ACT, namespaces.get("kube-system")).await?;
        let uid = namespace.meta().uid.as_deref().unwrap_or_default();
        uid.parse().map_err(|_| Error::OtherSpoke { act: ACT })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nave_watch::stub;
    use serde_json::{Value, json};

    use super::*;

    /// A spoke that answers so, one after the other.
    fn spoke(answers: Vec<(u16, Value)>) -> Identity {
        let asked = AtomicUsize::new(0);
        Identity::new(stub::client(move |_| answers[asked.fetch_add(1, Ordering::SeqCst)].clone()))
    }

    fn uid(uid: &str) -> (u16, Value) {
        (200, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}}))
    }

    #[tokio::test]
    async fn h_a_spoke_that_does_not_answer_is_the_cluster_that_it_was() {
        let identity = spoke(vec![stub::refusal(500), uid("c1"), stub::refusal(500)]);
        assert!(identity.mark().await.is_err(), "nothing is known yet");
        assert_eq!(identity.mark().await.unwrap().as_str(), "c1");
        assert_eq!(identity.mark().await.unwrap().as_str(), "c1");
    }

    #[tokio::test]
    async fn h_an_api_server_of_another_cluster_confirms_nothing() {
        let identity = spoke(vec![uid("c1"), uid("c1"), uid("c2"), stub::refusal(500)]);
        identity.mark().await.unwrap();
        assert!(identity.confirm().await.is_ok());
        assert!(matches!(identity.confirm().await, Err(Error::OtherSpoke { .. })));
        assert!(identity.confirm().await.is_err());
    }

    #[tokio::test]
    async fn h_a_namespace_without_a_uid_is_no_cluster() {
        assert!(spoke(vec![uid("")]).mark().await.is_err());
    }
}
