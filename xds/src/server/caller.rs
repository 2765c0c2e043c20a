//! Who makes a request, and when that ends. Knows what the connection has proven; knows no service.

use tokio::sync::watch;
use tonic::Status;

use super::register::{End, told};
use crate::identity::Peer;

/// The caller of a request that came in by [`super::Server::serve`], found in the request's extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) peer: Peer,
    /// Why the connection ends. None where the peer has proven nothing.
    pub(super) end: Option<watch::Receiver<Option<End>>>,
}

impl Caller {
    /// Who it is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Ends when the server ends the connection, with the reason: the certificate is revoked, for one.
    pub async fn ended(&mut self) -> Status {
        match &mut self.end {
            Some(end) => told(end).await.into(),
            None => std::future::pending().await,
        }
    }
}
