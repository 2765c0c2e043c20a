//! One fleet's latest resources, shared by the one who writes them and all streams that read them.
//! Knows when streams may begin; knows no stream.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::catalog::Catalog;
pub use crate::catalog::{Change, Keep};

/// A fleet's resources. Clones share them. The lock inside is held for the time of one change or of reading one, and
/// never while something waits.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: RwLock<Catalog>,
    /// Nothing until the fleet is open, then the number of the latest change.
    head: watch::Sender<Option<u64>>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store, not open yet: discovery requests wait.
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner { catalog: RwLock::default(), head: watch::Sender::new(None) }) }
    }

    /// Lets streams begin. Call it once the store is complete: what it lacks then, Envoy removes.
    pub fn open(&self) {
        let head = self.read(Catalog::head);
        self.inner.head.send_if_modified(|open| {
            let closed = open.is_none();
            *open = Some(head.max(open.unwrap_or(0)));
            closed
        });
    }

    /// Whether streams may begin.
    pub fn is_open(&self) -> bool {
        self.inner.head.borrow().is_some()
    }

    /// Takes a change in. Costs as much as the change and waits for no stream; streams learn of it at once.
    pub fn apply(&self, change: Change) {
        self.write(|catalog| catalog.apply(change));
    }

    /// From now on clients keep these though they are not here; see [`Keep`].
    pub fn keep(&self, keep: Keep) {
        self.write(|catalog| catalog.keep(keep));
    }

    fn write(&self, change: impl FnOnce(&mut Catalog) -> bool) {
        let head = {
            let mut catalog = self.inner.catalog.write().unwrap_or_else(PoisonError::into_inner);
            if !change(&mut catalog) {
                return;
            }
            catalog.head()
        };
        self.inner.head.send_if_modified(|open| match open {
            Some(seen) if *seen < head => {
                *seen = head;
                true
            }
            Some(_) | None => false,
        });
    }

    /// Looks at the resources. Keep it short: writers wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&self.inner.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the latest change, as it comes; nothing until the store is open.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<u64>> {
        self.inner.head.subscribe()
    }
}
