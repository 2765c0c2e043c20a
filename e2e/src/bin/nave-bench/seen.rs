//! What a watch has shown so far, by a key, and waiting for it. Knows one kind; decides nothing.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

/// How long anything may take before a bench gives up.
const PATIENCE: Duration = Duration::from_mins(2);

/// A watch and what it has shown; dropping it ends the watch.
pub(crate) struct Seen<K> {
    objects: Arc<Mutex<HashMap<String, K>>>,
    changed: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl<K> Drop for Seen<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K> Seen<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Watches, with objects known by their names, and returns once everything present has been seen.
    pub(crate) async fn watch(api: Api<K>) -> anyhow::Result<Self> {
        Self::watch_by(api, |object| Some(object.name_any())).await
    }

    /// Watches, with objects known by what `key` reads from them; those without a key are passed over.
    pub(crate) async fn watch_by(api: Api<K>, key: fn(&K) -> Option<String>) -> anyhow::Result<Self> {
        let objects = Arc::new(Mutex::new(HashMap::new()));
        let changed = Arc::new(Notify::new());
        let (listed, mut ready) = watch::channel(false);
        let task = tokio::spawn(follow(api, key, objects.clone(), changed.clone(), listed));
        ready.wait_for(|listed| *listed).await.context("list what is there")?;
        Ok(Self { objects, changed, task })
    }

    /// Waits until the object is there and `enough` holds of it.
    pub(crate) async fn wait(&self, name: &str, enough: impl Fn(&K) -> bool) -> anyhow::Result<()> {
        self.wait_for(name, |object| enough(object).then_some(())).await
    }

    /// Waits until the object is there and `read` finds something in it.
    pub(crate) async fn wait_for<T>(&self, name: &str, read: impl Fn(&K) -> Option<T>) -> anyhow::Result<T> {
        self.wait_any(|objects| objects.get(name).and_then(&read)).await.with_context(|| format!("wait for {name}"))
    }

    /// Waits until the object is gone.
    pub(crate) async fn wait_gone(&self, name: &str) -> anyhow::Result<()> {
        let gone = self.wait_any(|objects| (!objects.contains_key(name)).then_some(())).await;
        gone.with_context(|| format!("wait for the end of {name}"))
    }

    /// Waits until `read` finds something among all objects.
    pub(crate) async fn wait_any<T>(&self, read: impl Fn(&HashMap<String, K>) -> Option<T>) -> anyhow::Result<T> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = read(&self.objects.lock().unwrap_or_else(PoisonError::into_inner)) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.with_context(|| format!("nothing after {} s", PATIENCE.as_secs()))
    }
}

async fn follow<K>(
    api: Api<K>,
    key: fn(&K) -> Option<String>,
    objects: Arc<Mutex<HashMap<String, K>>>,
    changed: Arc<Notify>,
    listed: watch::Sender<bool>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        {
            let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    if let Some(key) = key(&object) {
                        objects.insert(key, object);
                    }
                }
                Ok(Event::Delete(object)) => {
                    if let Some(key) = key(&object) {
                        objects.remove(&key);
                    }
                }
                Ok(Event::InitDone) => {
                    listed.send_replace(true);
                }
                Ok(Event::Init) | Err(_) => {}
            }
        }
        changed.notify_waiters();
    }
}
