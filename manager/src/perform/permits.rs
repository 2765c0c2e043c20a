//! How many writes are on their way at once, in all and for one tenant. Knows namespaces; knows no write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Writes on their way at once. The API server's own priority and fairness does the rest.
pub(super) const AT_ONCE: usize = 32;
/// Writes of these in the namespace of one tenant: others go on while the API is slow there, or refuses everything.
pub(super) const OF_ONE: usize = 8;

/// Permits to write.
pub(super) struct Permits {
    all: Arc<Semaphore>,
    of_one: usize,
    by_namespace: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

/// Permission for one write. Ends when it is dropped.
pub(super) struct Permit<'a> {
    permits: &'a Permits,
    namespace: Option<&'a str>,
    one: Option<OwnedSemaphorePermit>,
    all: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// So many in all, and for one namespace.
    pub(super) fn new(all: usize, of_one: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), of_one, by_namespace: Mutex::default() }
    }

    /// Waits for a permit, first for one of the namespace: a write that waits for its own tenant's takes none of another's.
    pub(super) async fn acquire<'a>(&'a self, namespace: Option<&'a str>) -> Option<Permit<'a>> {
        let mut permit = Permit { permits: self, namespace, one: None, all: None };
        if let Some(namespace) = namespace {
            permit.one = Some(self.of(namespace).acquire_owned().await.ok()?);
        }
        permit.all = Some(Arc::clone(&self.all).acquire_owned().await.ok()?);
        Some(permit)
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut all = self.by_namespace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = all.get(namespace) {
            return Arc::clone(one);
        }
        let one = Arc::new(Semaphore::new(self.of_one));
        all.insert(namespace.to_owned(), Arc::clone(&one));
        one
    }
}

impl Drop for Permit<'_> {
    /// Forgets a namespace in which nothing is written and nothing waits.
    fn drop(&mut self) {
        drop(self.all.take());
        let Some(namespace) = self.namespace else { return };
        let mut all = self.permits.by_namespace.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.one.take());
        // Under the lock: whoever uses a semaphore has taken it from here.
        if all.get(namespace).is_some_and(|one| Arc::strong_count(one) == 1) {
            all.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What a future says now.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn p_a_tenant_whose_writes_are_slow_keeps_none_from_another_tenant() {
        let permits = Permits::new(AT_ONCE, OF_ONE);
        let taken: Vec<_> = (0..AT_ONCE).filter_map(|_| now(permits.acquire(Some("tenant-slow")))).collect();
        assert_eq!(taken.len(), OF_ONE);
        for other in [Some("tenant-other"), None] {
            assert!(now(permits.acquire(other)).is_some(), "{other:?}");
        }
        drop(taken);
        assert!(now(permits.acquire(Some("tenant-slow"))).is_some());
    }

    #[test]
    fn p_all_together_have_no_more_than_there_are_and_nothing_is_kept_of_those_that_are_done() {
        let permits = Permits::new(3, 2);
        let names = ["tenant-a", "tenant-a", "tenant-b", "tenant-b", "tenant-c"];
        let taken: Vec<_> = names.iter().filter_map(|name| now(permits.acquire(Some(name)))).collect();
        assert_eq!(taken.len(), 3);
        drop(taken);
        assert_eq!(permits.by_namespace.lock().unwrap().len(), 0);
    }
}
