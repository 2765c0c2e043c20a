//! What one leader's term needs at hand: the client, the caches, and what it remembers. Knows no rule.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::Client;

use super::Settings;
use super::heartbeat::{Heard, Word};
use super::world::World;

/// The shortest and longest time between two attempts on a tenant.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// One leader's term.
pub(super) struct Room {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) world: World,
    // Held for a look-up, never across an await.
    memory: Mutex<BTreeMap<String, Memory>>,
}

/// What is remembered of a tenant.
#[derive(Default)]
struct Memory {
    heard: Option<Heard>,
    failures: u32,
}

impl Room {
    pub(super) fn new(client: Client, settings: Settings, world: World) -> Self {
        Self { client, settings, world, memory: Mutex::default() }
    }

    /// Takes in what the agent's Lease says, and answers what is known of the agent.
    pub(super) fn hear(&self, tenant: &str, word: Option<Word>, believed: bool) -> Option<Heard> {
        let mut memory = self.memory();
        let memory = memory.entry(tenant.to_owned()).or_default();
        if let Some(word) = word {
            memory.heard = Some(Heard::hear(memory.heard.as_ref(), word, believed, Instant::now(), Timestamp::now()));
        }
        memory.heard.clone()
    }

    /// An attempt went well.
    pub(super) fn succeeded(&self, tenant: &str) {
        if let Some(memory) = self.memory().get_mut(tenant) {
            memory.failures = 0;
        }
    }

    /// An attempt failed: how long to wait before the next.
    pub(super) fn failed(&self, tenant: &str) -> Duration {
        let mut memory = self.memory();
        let memory = memory.entry(tenant.to_owned()).or_default();
        let delay = RETRY.0.saturating_mul(2_u32.saturating_pow(memory.failures)).min(RETRY.1);
        memory.failures = memory.failures.saturating_add(1);
        delay
    }

    /// The tenant is no more.
    pub(super) fn forget(&self, tenant: &str) {
        self.memory().remove(tenant);
    }

    fn memory(&self) -> MutexGuard<'_, BTreeMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
