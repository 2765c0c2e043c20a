//! Performs the engine's steps: each object's in their order, different objects' at once. Knows patience, retries and who
//! leads; what a step writes is next door.
//!
//! A step that the API does not take now is tried again, for as long as this manager leads. A status or an order that waits
//! is replaced by a later one of the same object.

mod pauses;
mod permits;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use nave_manager_core::{Key, Kind, Step};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::conductor::{Inbox, Input};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::provider::Providers;
use pauses::Pauses;
use permits::Permits;
use write::{Writer, Written};

/// How long to wait before an order is given again as it was: whoever writes over it is not raced.
const AGAIN: Duration = Duration::from_secs(10);
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
    pauses: Pauses,
    permits: Permits,
    queues: Mutex<BTreeMap<Target, Arc<Queue>>>,
    orders: Mutex<Orders>,
}

/// The digest of each order that was given, and when.
#[derive(Default)]
struct Orders(BTreeMap<String, (String, Instant)>);

/// What a step is about: steps on one target wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Allocation(String),
    LoadBalancer(Key),
    Pool(String),
    Tenant(String),
    Fleet(String),
    Unreadable(Kind, Key),
    Order(String),
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
    pub(crate) fn new(
        client: Client,
        providers: Arc<Providers>,
        inbox: Inbox,
        events: Events,
        metrics: Metrics,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                writer: Writer::new(client, providers),
                inbox,
                events,
                metrics,
                leads: watch::Sender::new(false),
                pauses: Pauses::new(pauses::FIRST, pauses::LONGEST, pauses::NEWS),
                permits: Permits::new(permits::AT_ONCE, permits::OF_ONE),
                queues: Mutex::default(),
                orders: Mutex::default(),
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
            Step::WriteTenantStatus { name, patience, .. } => (Target::Tenant(name.clone()), *patience),
            Step::WriteFleetStatus { name, patience, .. } => (Target::Fleet(name.clone()), *patience),
            Step::ReportUnreadable(report) => (Target::Unreadable(report.kind, report.key.clone()), Duration::ZERO),
            Step::Order(order) => {
                let mut orders = self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner);
                (Target::Order(order.id.clone()), orders.patience(&order.id, order.digest(), Instant::now()))
            }
            Step::Withdraw { id } => {
                self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner).0.remove(id);
                (Target::Order(id.clone()), Duration::ZERO)
            }
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

impl Orders {
    /// How long an order waits that is given now.
    fn patience(&mut self, id: &str, digest: String, now: Instant) -> Duration {
        let before = self.0.get(id).filter(|(before, _)| *before == digest);
        let due = before.map_or(now, |(_, before)| now.max(*before + AGAIN));
        self.0.insert(id.to_owned(), (digest, due));
        due - now
    }
}

impl Queue {
    fn add(&self, next: Waiting) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.back_mut() {
            // Patience is a bound: who is replaced again and again is written all the same.
            Some(last) if is_whole(&last.step) && is_whole(&next.step) => {
                *last = Waiting { due: last.due.min(next.due), ..next };
            }
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

/// Whether the whole of what the step writes is replaced by the next one like it: who waits for a cloud that refuses an
/// order must not wait when the order is mended.
fn is_whole(step: &Step) -> bool {
    match step {
        Step::WriteLoadBalancerStatus { .. }
        | Step::WritePoolStatus { .. }
        | Step::WriteTenantStatus { .. }
        | Step::WriteFleetStatus { .. }
        | Step::ReportUnreadable(_)
        | Step::Order(_)
        | Step::Withdraw { .. } => true,
        Step::CreateAllocation(_) | Step::ReplaceAllocation(_) | Step::ReleaseAllocation { .. } | Step::Announce(_) => {
            false
        }
    }
}

impl Target {
    /// The namespace of the tenant that the step is about; none where a step is about what all tenants share.
    fn namespace(&self) -> Option<&str> {
        match self {
            Self::LoadBalancer(key) | Self::Unreadable(_, key) => Some(&*key.namespace).filter(|name| !name.is_empty()),
            Self::Allocation(_) | Self::Pool(_) | Self::Tenant(_) | Self::Fleet(_) | Self::Order(_) => None,
        }
    }
}

impl Shared {
    /// Works off one target's queue, which ends with it.
    async fn work_off(self: Arc<Self>, target: Target, queue: Arc<Queue>) {
        loop {
            match queue.next(Instant::now()) {
                Some(Ok(step)) => self.carry_out(step, &target, &queue).await,
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

    /// Tries until it is done, impossible, replaced by a later one, or another leads.
    async fn carry_out(&self, step: Step, target: &Target, queue: &Queue) {
        let mut leads = self.leads.subscribe();
        let mut pauses = self.pauses.of_one_step();
        while *leads.borrow_and_update() {
            let pause = match self.attempt(&step, target).await {
                Written::Done | Written::TooLarge => return self.pauses.won(target),
                Written::Learnt(inputs) => {
                    self.pauses.won(target);
                    return self.learn(inputs);
                }
                Written::Impossible(inputs) => {
                    self.learn(inputs);
                    return self.give_up(step, self.pauses.lost(target, Instant::now()), &mut leads).await;
                }
                Written::Hopeless => {
                    return self.give_up(step, self.pauses.hopeless(target, Instant::now()), &mut leads).await;
                }
                Written::Refused(why) => {
                    self.learn(vec![why]);
                    pauses.next().unwrap_or(CALL)
                }
                Written::NotNow => pauses.next().unwrap_or(CALL),
            };
            wait(pause, &mut leads).await;
            if is_whole(&step) && !queue.is_empty() {
                return;
            }
        }
    }

    /// Has the engine decide again, after a pause: what it decides is often the same.
    async fn give_up(&self, step: Step, pause: Duration, leads: &mut watch::Receiver<bool>) {
        wait(pause, leads).await;
        self.inbox.send(Input::Failed(Box::new(step)));
    }

    fn learn(&self, inputs: Vec<Input>) {
        for input in inputs {
            self.inbox.send(input);
        }
    }

    async fn attempt(&self, step: &Step, target: &Target) -> Written {
        let Some(_permit) = self.permits.acquire(target.namespace()).await else { return Written::Done };
        let begun = Instant::now();
        let outcome = tokio::time::timeout(CALL, self.writer.write(step)).await;
        self.metrics.written(begun.elapsed());
        outcome.unwrap_or_else(|_| {
            tracing::warn!(?CALL, "a write is not answered in time");
            Written::NotNow
        })
    }
}

/// Ends when the time is over, or another manager leads.
async fn wait(pause: Duration, leads: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        _ = leads.wait_for(|leads| !leads) => {}
    }
}

#[cfg(test)]
mod tests;
