//! Performs the engine's steps: each object's in their order, different objects' at once. Knows patience, retries and who
//! leads; what a step writes is next door.
//!
//! A step that the API does not take now is tried again, for as long as this manager leads. A status or an order that waits
//! is replaced by a later one of the same object.

mod write;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use kube::Client;
use nave_manager_core::{Key, Kind, Step};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::conductor::{Inbox, Input};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::provider::Providers;
use write::{Writer, Written};

/// Writes on their way at once. The API server's own priority and fairness does the rest.
const AT_ONCE: usize = 32;
/// How long to wait for news before something that cannot be done is decided anew.
const NEWS: Duration = Duration::from_secs(1);
/// How long to wait before an order is given again as it was: whoever writes over it is not raced.
const AGAIN: Duration = Duration::from_secs(10);
/// The first pause after an attempt that failed; each is twice as long as the last, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
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
    /// Between one attempt and the next of a step that the API does not take.
    pauses: ExponentialBuilder,
    at_once: Semaphore,
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
                pauses: pauses(FIRST_PAUSE, LONGEST_PAUSE),
                at_once: Semaphore::new(AT_ONCE),
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

fn pauses(first: Duration, longest: Duration) -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest).with_jitter().without_max_times()
}

impl Shared {
    /// Works off one target's queue, which ends with it.
    async fn work_off(self: Arc<Self>, target: Target, queue: Arc<Queue>) {
        loop {
            match queue.next(Instant::now()) {
                Some(Ok(step)) => self.carry_out(step, &queue).await,
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
    async fn carry_out(&self, step: Step, queue: &Queue) {
        let mut leads = self.leads.subscribe();
        let mut pauses = self.pauses.build();
        while *leads.borrow_and_update() {
            let pause = match self.attempt(&step).await {
                Written::Done => return,
                Written::Learnt(inputs) => return self.learn(inputs),
                Written::Impossible(inputs) => {
                    self.learn(inputs);
                    return self.inbox.send(Input::Failed(Box::new(step)));
                }
                Written::Hopeless => {
                    tokio::time::sleep(NEWS).await;
                    return self.inbox.send(Input::Failed(Box::new(step)));
                }
                Written::Refused(why) => {
                    self.learn(vec![why]);
                    pauses.next().unwrap_or(CALL)
                }
                Written::NotNow => pauses.next().unwrap_or(CALL),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = leads.wait_for(|leads| !leads) => {}
            }
            if is_whole(&step) && !queue.is_empty() {
                return;
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

#[cfg(test)]
mod tests {
    use super::*;
    use nave_api::IPPoolStatus;

    fn status(used: u32) -> Step {
        let status = IPPoolStatus { used, ..IPPoolStatus::default() };
        Step::WritePoolStatus { name: "public".into(), uid: "1".into(), status, patience: Duration::ZERO }
    }

    #[tokio::test]
    async fn d_a_write_that_the_api_never_takes_is_tried_at_most_once_a_second_in_the_first_minute() {
        /// A minute of the real pauses is so much of the test's.
        const MINUTE: Duration = Duration::from_millis(600);
        let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let client = nave_watch::stub::client(move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            nave_watch::stub::refusal(503)
        });
        let shared = Shared {
            writer: Writer::new(client.clone(), Arc::new(Providers::new(&client, "nave-system"))),
            inbox: Inbox::new().0,
            events: Events::new(client.clone(), "test".into()),
            metrics: Metrics::new(),
            leads: watch::Sender::new(true),
            pauses: pauses(FIRST_PAUSE / 100, LONGEST_PAUSE / 100),
            at_once: Semaphore::new(AT_ONCE),
            queues: Mutex::default(),
            orders: Mutex::default(),
        };
        let tried = tokio::time::timeout(MINUTE, shared.carry_out(status(1), &Queue::default())).await;
        assert!(tried.is_err(), "it is never given up");
        let calls = calls.load(std::sync::atomic::Ordering::SeqCst);
        assert!((3..=60).contains(&calls), "{calls} calls");
    }

    fn release() -> Step {
        Step::ReleaseAllocation { name: "192.0.2.1".into(), uid: "1".into(), resource_version: "1".into() }
    }

    #[test]
    fn a_status_that_waits_is_replaced_by_a_later_one_and_written_no_later_for_that() {
        let (queue, now) = (Queue::default(), Instant::now());
        let soon = now + Duration::from_millis(200);
        queue.add(Waiting { step: status(1), due: soon });
        queue.add(Waiting { step: status(2), due: soon + Duration::from_secs(1) });
        assert_eq!(queue.next(now), Some(Err(soon)));
        assert_eq!(queue.next(soon), Some(Ok(status(2))));
        assert_eq!(queue.next(soon), None);
    }

    #[test]
    fn a_status_without_patience_calls_the_waiting_one_in() {
        let (queue, now) = (Queue::default(), Instant::now());
        queue.add(Waiting { step: status(1), due: now + Duration::from_secs(1) });
        queue.add(Waiting { step: status(2), due: now });
        assert_eq!(queue.next(now), Some(Ok(status(2))));
    }

    #[test]
    fn an_order_that_waits_is_replaced_by_what_is_wanted_now() {
        let (queue, now) = (Queue::default(), Instant::now());
        let withdrawal = |id: &str| Step::Withdraw { id: id.to_owned() };
        queue.add(Waiting { step: withdrawal("before"), due: now });
        queue.add(Waiting { step: withdrawal("now"), due: now });
        assert_eq!(queue.next(now), Some(Ok(withdrawal("now"))));
        assert_eq!(queue.next(now), None);
    }

    #[test]
    fn an_order_that_is_given_again_and_again_waits_and_another_one_does_not() {
        let (mut orders, now) = (Orders::default(), Instant::now());
        let mut patience = |digest: &str, at| orders.patience("web", digest.to_owned(), now + at);
        assert_eq!(patience("one", Duration::ZERO), Duration::ZERO);
        assert_eq!(patience("two", Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(patience("two", Duration::from_secs(4)), Duration::from_secs(7));
        assert_eq!(patience("two", Duration::from_mins(1)), Duration::ZERO);
    }

    #[test]
    fn other_steps_keep_their_order_and_replace_nothing() {
        let (queue, now) = (Queue::default(), Instant::now());
        for step in [release(), release(), status(1)] {
            queue.add(Waiting { step, due: now });
        }
        let steps: Vec<_> = std::iter::from_fn(|| queue.next(now)).collect();
        assert_eq!(steps, [Ok(release()), Ok(release()), Ok(status(1))]);
    }
}
