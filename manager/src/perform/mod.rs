//! Performs the engine's steps: each object's in their order, different objects' at once. Knows patience, retries and who
//! leads; what a step writes is next door.
//!
//! A step that the API does not take now is tried again, for as long as this manager leads. A status that waits is
//! replaced by a later one of the same object.

mod write;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use kube::Client;
use nave_manager_core::{Key, Step};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::conductor::{Inbox, Input};
use crate::events::Events;
use crate::metrics::Metrics;
use write::{Writer, Written};

/// Writes on their way at once. The API server's own priority and fairness does the rest.
const AT_ONCE: usize = 32;
/// How long one call may take.
const CALL: Duration = Duration::from_secs(15);

/// Performs steps. Clones are the same.
#[derive(Clone)]
pub(crate) struct Performer {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    inbox: Inbox,
    events: Events,
    metrics: Metrics,
    leads: watch::Sender<bool>,
    at_once: Semaphore,
    queues: Mutex<BTreeMap<Target, Arc<Queue>>>,
}

/// What a step is about: steps on one target wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Allocation(String),
    LoadBalancer(Key),
    Pool(String),
    Tenant(String),
    Fleet(String),
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    more: Notify,
}

struct Waiting {
    step: Step,
    due: Instant,
}

impl Performer {
    /// A performer that does nothing until this manager leads. What it learns from answers goes to the inbox.
    pub(crate) fn new(client: Client, inbox: Inbox, events: Events, metrics: Metrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                writer: Writer::new(client),
                inbox,
                events,
                metrics,
                leads: watch::Sender::new(false),
                at_once: Semaphore::new(AT_ONCE),
                queues: Mutex::default(),
            }),
        }
    }

    /// Whether this manager leads. When it stops, everything that waits is dropped: the next leader decides anew.
    pub(crate) fn lead(&self, leads: bool) {
        self.shared.leads.send_replace(leads);
    }

    /// Takes a step in.
    pub(crate) fn perform(&self, step: Step) {
        let (target, patience) = match &step {
            Step::CreateAllocation(a) | Step::ReplaceAllocation(a) => {
                (Target::Allocation(a.metadata.name.clone().unwrap_or_default()), Duration::ZERO)
            }
            Step::ReleaseAllocation { name, .. } => (Target::Allocation(name.clone()), Duration::ZERO),
            Step::WriteLoadBalancerStatus { key, patience, .. } => (Target::LoadBalancer(key.clone()), *patience),
            Step::WritePoolStatus { name, patience, .. } => (Target::Pool(name.clone()), *patience),
            Step::WriteTenantUsage { name, patience, .. } => (Target::Tenant(name.clone()), *patience),
            Step::WriteFleetStatus { name, patience, .. } => (Target::Fleet(name.clone()), *patience),
            Step::Announce(announcement) => return self.shared.events.publish(announcement.clone()),
        };
        self.queue(target, Waiting { step, due: Instant::now() + patience });
    }

    fn queue(&self, target: Target, next: Waiting) {
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(&target) {
            queue.add(next);
            return;
        }
        let queue = Arc::new(Queue::default());
        queue.add(next);
        queues.insert(target.clone(), Arc::clone(&queue));
        tokio::spawn(Arc::clone(&self.shared).work_off(target, queue));
    }
}

impl Queue {
    fn add(&self, next: Waiting) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.back_mut() {
            Some(last) if is_status(&last.step) && is_status(&next.step) => *last = next,
            Some(_) | None => waiting.push_back(next),
        }
        self.more.notify_one();
    }

    /// The next step if it is due, or when it will be; nothing when none waits.
    fn next(&self, now: Instant) -> Option<Result<Step, Instant>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let due = waiting.front()?.due;
        if due > now { Some(Err(due)) } else { waiting.pop_front().map(|next| Ok(next.step)) }
    }

    fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Whether the whole of what the step writes is replaced by the next one like it.
fn is_status(step: &Step) -> bool {
    match step {
        Step::WriteLoadBalancerStatus { .. }
        | Step::WritePoolStatus { .. }
        | Step::WriteTenantUsage { .. }
        | Step::WriteFleetStatus { .. } => true,
        Step::CreateAllocation(_) | Step::ReplaceAllocation(_) | Step::ReleaseAllocation { .. } | Step::Announce(_) => {
            false
        }
    }
}

impl Shared {
    /// Works off one target's queue, which ends with it.
    async fn work_off(self: Arc<Self>, target: Target, queue: Arc<Queue>) {
        loop {
            match queue.next(Instant::now()) {
                Some(Ok(step)) => self.carry_out(step).await,
                Some(Err(due)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = queue.more.notified() => {}
                    }
                }
                None => {
                    let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
                    if queue.is_empty() {
                        queues.remove(&target);
                        return;
                    }
                }
            }
        }
    }

    /// Tries until it is done, impossible, or another leads.
    async fn carry_out(&self, step: Step) {
        let mut leads = self.leads.subscribe();
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times()
            .build();
        while *leads.borrow_and_update() {
            let pause = match self.attempt(&step).await {
                Written::Done => return,
                Written::Learnt(inputs) => return self.learn(inputs),
                Written::Impossible(inputs) => {
                    self.learn(inputs);
                    return self.inbox.send(Input::Failed(Box::new(step)));
                }
                Written::NotNow => pauses.next().unwrap_or(CALL),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = leads.wait_for(|leads| !leads) => {}
            }
        }
    }

    fn learn(&self, inputs: Vec<Input>) {
        for input in inputs {
            self.inbox.send(input);
        }
    }

    async fn attempt(&self, step: &Step) -> Written {
        let Ok(_permit) = self.at_once.acquire().await else { return Written::Done };
        let begun = Instant::now();
        let outcome = tokio::time::timeout(CALL, self.writer.write(step)).await;
        self.metrics.written(begun.elapsed());
        outcome.unwrap_or_else(|_| {
            tracing::warn!(?CALL, "a write is not answered in time");
            Written::NotNow
        })
    }
}
