//! Who gives addresses that are not ours: one file each. Knows what every provider must do; knows no cloud.
//!
//! A new provider is a file here, a variant of [`Source`], and a line in each function of [`Providers`]. What it does must
//! hold up to what `e2e/tests/provider` asks of all of them.

mod service;

use kube::Client;
use nave_api::ip_pool::Source;
use nave_manager_core::Order;

use crate::conductor::Inbox;
use crate::watch::Watches;

/// Gives addresses that lead to Envoys, and says what it gives.
trait Provider {
    /// What a pool says of it.
    type Source;

    /// Delivers what the order says; what is delivered under its name already becomes that. Safe to repeat.
    fn order(&self, source: &Self::Source, order: &Order) -> impl Future<Output = kube::Result<()>> + Send;

    /// Begins to end what is delivered under this name. Safe to repeat.
    fn withdraw(&self, id: &str) -> impl Future<Output = kube::Result<Ending>> + Send;

    /// Tells the inbox of everything that is delivered, now and after every change, for ever.
    fn watch(&self, watches: &Watches, inbox: Inbox);
}

/// How far the end of a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The watch will tell when it is over.
    Begun,
    /// Nothing was delivered under the name.
    Over,
}

/// Every provider there is.
pub(crate) struct Providers {
    service: service::Services,
}

impl Providers {
    /// All providers of a hub; what they keep there is in the managers' namespace.
    pub(crate) fn new(client: &Client, namespace: &str) -> Self {
        Self { service: service::Services::new(client.clone(), namespace) }
    }

    /// Has the order's provider deliver.
    pub(crate) async fn order(&self, order: &Order) -> kube::Result<()> {
        match &order.source {
            Source::Service(source) => self.service.order(source, order).await,
            // Invariant: the engine orders nothing of pools that are ours.
            Source::Static {} | Source::External {} => Ok(()),
        }
    }

    /// Has what is delivered under this name end.
    pub(crate) async fn withdraw(&self, id: &str) -> kube::Result<Ending> {
        self.service.withdraw(id).await
    }

    /// Starts to tell the inbox what is delivered.
    pub(crate) fn watch(&self, watches: &Watches, inbox: &Inbox) {
        self.service.watch(watches, inbox.clone());
    }
}
