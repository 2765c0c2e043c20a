//! What the performer does with an API that does not do what it asks.

use std::sync::atomic::{AtomicU32, Ordering};

use nave_api::{IPAllocation, IPAllocationSpec, IPPoolStatus, TCPLoadBalancerStatus};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

fn status(used: u32) -> Step {
    let status = IPPoolStatus { used, ..IPPoolStatus::default() };
    Step::WritePoolStatus { name: "public".into(), uid: "1".into(), status, patience: Duration::ZERO }
}

/// A minute of the real pauses is so much of a test's.
const MINUTE: Duration = Duration::from_millis(600);

/// A performer whose pauses are a hundredth of the real ones, with an API that answers so; the number of calls; what it learns.
fn performer(
    answer: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static,
) -> (Performer, Arc<AtomicU32>, mpsc::UnboundedReceiver<Input>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let client = nave_watch::stub::client(move |path| {
        counted.fetch_add(1, Ordering::SeqCst);
        answer(path)
    });
    let (inbox, inputs) = Inbox::new();
    let shared = Shared {
        writer: Writer::new(client.clone(), Arc::new(Providers::new(&client, "nave-system"))),
        inbox,
        events: Events::new(client, "test".into()),
        metrics: Metrics::new(),
        leads: watch::Sender::new(true),
        pauses: Pauses::new(pauses::FIRST / 100, pauses::LONGEST / 100, pauses::NEWS / 100),
        permits: Permits::new(permits::AT_ONCE, permits::OF_ONE),
        queues: Mutex::default(),
        orders: Mutex::default(),
    };
    (Performer { shared: Arc::new(shared) }, calls, inputs)
}

#[tokio::test]
async fn d_a_write_that_the_api_never_takes_is_tried_at_most_once_a_second_in_the_first_minute() {
    let (performer, calls, _inputs) = performer(|_| nave_watch::stub::refusal(503));
    let target = Target::Pool("public".into());
    let queue = Queue::default();
    let tried = tokio::time::timeout(MINUTE, performer.shared.carry_out(status(1), &target, &queue)).await;
    assert!(tried.is_err(), "it is never given up");
    let calls = calls.load(Ordering::SeqCst);
    assert!((3..=60).contains(&calls), "{calls} calls");
}

/// How many calls there are in a minute when the engine decides on the same step again as soon as it is given up.
async fn calls_when_decided_again(step: Step, shown: (u16, Value), written: u16) -> u32 {
    let (performer, calls, mut inputs) = performer(move |path| {
        // A write of an allocation has a query; a look at it has none.
        if path.contains('?') { nave_watch::stub::refusal(written) } else { shown.clone() }
    });
    let again = async {
        performer.perform(step);
        while let Some(input) = inputs.recv().await {
            if let Input::Failed(step) = input {
                performer.perform(*step);
            }
        }
    };
    assert!(tokio::time::timeout(MINUTE, again).await.is_err());
    calls.load(Ordering::SeqCst)
}

fn allocation() -> IPAllocation {
    let (address, pool) = (Some("192.0.2.1".to_owned()), "public".to_owned());
    IPAllocation::new("192.0.2.1", IPAllocationSpec { address, pool, group: None, owners: Vec::new() })
}

#[tokio::test]
async fn d_an_allocation_that_another_program_changes_all_the_time_is_written_at_most_once_a_second() {
    let shown = (200, serde_json::to_value(allocation()).unwrap());
    for step in [Step::ReplaceAllocation(allocation()), Step::CreateAllocation(allocation()), release()] {
        let calls = calls_when_decided_again(step.clone(), shown.clone(), 409).await;
        assert!((6..=60).contains(&calls), "{calls} calls for {step:?}");
    }
}

#[tokio::test]
async fn d_an_allocation_that_the_api_refuses_or_does_not_show_is_written_at_most_once_a_second() {
    for (shown, written) in [(404, 404), (404, 409), (500, 422), (500, 413)] {
        let reason = if shown == 404 { "NotFound" } else { "" };
        let status = json!({"kind": "Status", "status": "Failure", "code": shown, "reason": reason, "message": "no"});
        let shown = (shown, status);
        let calls = calls_when_decided_again(Step::ReplaceAllocation(allocation()), shown, written).await;
        assert!((4..=60).contains(&calls), "{calls} calls after {written}");
    }
}

#[tokio::test]
async fn p_writes_of_one_tenant_that_the_api_does_not_answer_delay_no_other_tenant() {
    let (asked, mut answered) = mpsc::unbounded_channel();
    let client = nave_watch::stub::slow(move |path: &str| {
        let _ = asked.send(path.to_owned());
        !path.contains("tenant-slow")
    });
    let (mut shared, _, _inputs) = performer(|_| nave_watch::stub::refusal(500));
    let writer = Writer::new(client.clone(), Arc::new(Providers::new(&client, "nave-system")));
    Arc::get_mut(&mut shared.shared).unwrap().writer = writer;
    for number in 0..2 * permits::AT_ONCE {
        shared.perform(of(&format!("slow-{number}"), "tenant-slow"));
    }
    shared.perform(of("web", "tenant-other"));
    let mut slow = 0;
    let other = async {
        while answered.recv().await.is_some_and(|path| !path.contains("tenant-other")) {
            slow += 1;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), other).await.is_ok(), "the other tenant's is not written");
    assert_eq!(slow, permits::OF_ONE);
}

/// A status of a load balancer.
fn of(name: &str, namespace: &str) -> Step {
    Step::WriteLoadBalancerStatus {
        key: Key::new(namespace, name),
        uid: "1".into(),
        generation: None,
        status: TCPLoadBalancerStatus::default(),
        patience: Duration::ZERO,
    }
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
