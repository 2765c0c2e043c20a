//! Random histories: creations, edits, deletions, restarts, resyncs, waiting and Envoys, and what holds whatever happened.
//! Knows how many and which; the laws are next door.

#![allow(clippy::expect_used, clippy::panic, reason = "what cannot be read or is not there ends the test")]

mod act;
mod history;
mod laws;
mod model;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use act::Act;
use history::History;
use nave_api::TCPLoadBalancer;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use support::objects::balancer;
use support::specs::{BALANCERS, balancer_spec};

/// So many histories in every run, in so many parts that processors share.
const CASES: u32 = 10_000;
const PARTS: u32 = 20;

/// How many histories; the variable asks for another number, and for other histories each time.
fn asked() -> Option<u32> {
    std::env::var("NAVE_PROPTEST_CASES").ok().and_then(|n| n.parse().ok())
}

/// The same histories in every run unless others are asked for: what a change breaks shows at the change.
fn config(part: u32) -> ProptestConfig {
    let rng_seed = if asked().is_some() { RngSeed::Random } else { RngSeed::Fixed(part.into()) };
    let cases = asked().unwrap_or(CASES).div_ceil(PARTS);
    ProptestConfig { cases, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

fn live(acts: &[Act]) {
    let mut history = History::begin();
    for act in acts {
        history.act(act);
        history.check();
    }
    history.check_rest();
}

fn part(part: u32) {
    // Short ones meet every beginning, long ones whole lives.
    let length = [1..60, 1..20, 20..120, 1..60][part as usize % 4].clone();
    let histories = prop::collection::vec(act::act(), length);
    let outcome = TestRunner::new(config(part)).run(&histories, |acts| {
        live(&acts);
        Ok(())
    });
    if let Err(failed) = outcome {
        panic!("part {part}: {failed}");
    }
}

#[test]
fn after_any_history_every_law_holds_and_the_engine_is_what_a_new_one_would_be() {
    let next = AtomicU32::new(0);
    let work = || {
        while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < PARTS) {
            part(n);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

/// Found among ten thousand: whether it was told of a full pool or of its tenant's limit depended on who was faster.
#[test]
fn a_reason_is_not_left_over_from_pools_that_are_gone() {
    live(&[
        Act::Tenant { which: 2, spec: 3 },
        Act::Pool { which: 1, spec: 0 },
        Act::Put { tenant: 0, name: 0, spec: 15 },
        Act::Put { tenant: 2, name: 1, spec: 15 },
        Act::DeletePool { which: 0 },
        Act::Pool { which: 2, spec: 3 },
        Act::Put { tenant: 2, name: 4, spec: 15 },
        Act::Decide,
        Act::Delete { tenant: 0, name: 0 },
        Act::Settle,
        Act::Put { tenant: 0, name: 1, spec: 0 },
        Act::Put { tenant: 2, name: 4, spec: 3 },
        Act::Put { tenant: 0, name: 0, spec: 7 },
        Act::Put { tenant: 0, name: 1, spec: 0 },
        Act::DeletePool { which: 2 },
        Act::Put { tenant: 0, name: 0, spec: 7 },
        Act::Put { tenant: 0, name: 1, spec: 15 },
    ]);
}

/// The histories compare load balancers as the API would carry them.
#[test]
fn fixtures_read_back_as_written() {
    for which in 0..BALANCERS {
        let object = balancer("tenant-shop", "web", &balancer_spec(which));
        let text = serde_json::to_string(&object).expect("serializes");
        assert_eq!(serde_json::from_str::<TCPLoadBalancer>(&text).expect("reads"), object);
    }
}

/// Found among twenty thousand: it was looked at when the limit was reached, and nobody called it when that was over.
#[test]
fn who_was_refused_by_a_limit_is_called_when_there_is_room() {
    live(&[
        Act::Settle,
        Act::Delete { tenant: 0, name: 0 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Disconnect { which: 0 },
        Act::Put { tenant: 599, name: 3, spec: 531 },
        Act::DeletePool { which: 1 },
        Act::Perform { which: 0 },
        Act::Nodes { tenant: 733, count: 0 },
        Act::Delete { tenant: 0, name: 1 },
        Act::Decide,
        Act::Pool { which: 6, spec: 0 },
        Act::Put { tenant: 53, name: 0, spec: 537 },
        Act::Put { tenant: 0, name: 0, spec: 250 },
        Act::Tenant { which: 668, spec: 849 },
        Act::Perform { which: 442 },
        Act::Put { tenant: 107, name: 1, spec: 214 },
        Act::Nodes { tenant: 0, count: 0 },
        Act::Restart,
        Act::Decide,
        Act::DeleteTenant { which: 399 },
        Act::Pool { which: 802, spec: 0 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Delete { tenant: 92, name: 3 },
        Act::Decide,
    ]);
}

/// Found among eighty thousand: what of a limit it got depended on what its status had said before, and so changed for ever.
#[test]
fn what_is_shared_of_a_limit_comes_to_rest() {
    live(&[
        Act::Put { tenant: 77, name: 4, spec: 189 },
        Act::Settle,
        Act::Pool { which: 92, spec: 155 },
        Act::Tenant { which: 47, spec: 391 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::DeletePool { which: 9 },
        Act::Put { tenant: 2, name: 0, spec: 633 },
        Act::Nodes { tenant: 20, count: 174 },
        Act::Settle,
        Act::Put { tenant: 284, name: 0, spec: 178 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Nodes { tenant: 189, count: 0 },
        Act::Nodes { tenant: 765, count: 0 },
        Act::DeleteTenant { which: 42 },
        Act::DeleteTenant { which: 9 },
        Act::Put { tenant: 21, name: 0, spec: 0 },
        Act::Tenant { which: 324, spec: 0 },
        Act::Wait { seconds: 0 },
        Act::DeleteTenant { which: 3 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
    ]);
}

/// Found among forty thousand: whom the limit of addresses kept from a new one was not called when one that his tenant had
/// already was recorded, and had room.
#[test]
fn who_may_have_no_more_addresses_is_called_for_room_on_his_own() {
    live(&[
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Tenant { which: 142, spec: 147 },
        Act::Pool { which: 542, spec: 980 },
        Act::Put { tenant: 323, name: 0, spec: 0 },
        Act::Put { tenant: 976, name: 3, spec: 98 },
        Act::DeleteTenant { which: 188 },
        Act::Put { tenant: 203, name: 0, spec: 0 },
        Act::Put { tenant: 104, name: 0, spec: 0 },
        Act::Decide,
        Act::Tenant { which: 350, spec: 0 },
        Act::Put { tenant: 100, name: 2, spec: 933 },
        Act::Tenant { which: 494, spec: 0 },
        Act::Decide,
        Act::Tenant { which: 404, spec: 0 },
        Act::Delete { tenant: 0, name: 0 },
        Act::Nodes { tenant: 0, count: 0 },
        Act::DeletePool { which: 533 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::DeletePool { which: 4 },
        Act::Tenant { which: 125, spec: 0 },
    ]);
}

/// Found among forty thousand: of two addresses that it might keep it kept the one of a pool that was gone, where its port was
/// closed, until its status showed the other.
#[test]
fn of_two_addresses_that_stays_on_which_the_ports_are_open() {
    live(&[
        Act::Put { tenant: 0, name: 0, spec: 5 },
        Act::Put { tenant: 475, name: 0, spec: 186 },
        Act::Pool { which: 152, spec: 0 },
        Act::Settle,
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::DeletePool { which: 852 },
        Act::Put { tenant: 463, name: 0, spec: 46 },
        Act::Put { tenant: 5, name: 0, spec: 0 },
        Act::Decide,
        Act::Put { tenant: 88, name: 0, spec: 624 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::DeleteTenant { which: 26 },
        Act::Nodes { tenant: 0, count: 0 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Pool { which: 146, spec: 0 },
        Act::Nodes { tenant: 0, count: 0 },
        Act::Put { tenant: 188, name: 0, spec: 0 },
        Act::Relist,
    ]);
}

/// Found among two hundred thousand: one made anew under the name of an address's last owner was taken for that owner, robbed of
/// his record, and came before an older one who waited.
#[test]
fn who_is_made_anew_comes_after_the_older_who_wait() {
    live(&[
        Act::Put { tenant: 307, name: 2, spec: 90 },
        Act::Put { tenant: 3, name: 0, spec: 21 },
        Act::Put { tenant: 144, name: 4, spec: 282 },
        Act::Settle,
        Act::Pool { which: 861, spec: 199 },
        Act::Pool { which: 178, spec: 550 },
        Act::Tenant { which: 34, spec: 86 },
        Act::Put { tenant: 1, name: 0, spec: 834 },
        Act::Settle,
        Act::Delete { tenant: 480, name: 4 },
        Act::DeletePool { which: 25 },
        Act::Delete { tenant: 94, name: 2 },
        Act::DeleteTenant { which: 299 },
        Act::Put { tenant: 685, name: 1, spec: 590 },
        Act::Put { tenant: 452, name: 0, spec: 0 },
        Act::Connect { which: 0 },
        Act::Decide,
        Act::Perform { which: 859 },
        Act::Put { tenant: 669, name: 4, spec: 231 },
        Act::Decide,
    ]);
}

/// Found among a hundred thousand: what a cloud delivered of a pool that was gone was seen by who looked at everything anew alone.
#[test]
fn what_comes_late_of_a_pool_that_is_gone_is_seen_at_once() {
    live(&[
        Act::Put { tenant: 521, name: 0, spec: 225 },
        Act::Pool { which: 511, spec: 499 },
        Act::Settle,
        Act::Pool { which: 446, spec: 394 },
        Act::Put { tenant: 33, name: 0, spec: 374 },
        Act::Disconnect { which: 0 },
        Act::Decide,
        Act::Perform { which: 315 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Decide,
        Act::DeletePool { which: 145 },
        Act::Compare,
        Act::Nodes { tenant: 0, count: 0 },
        Act::Nodes { tenant: 0, count: 0 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Nodes { tenant: 0, count: 0 },
        Act::Nodes { tenant: 0, count: 0 },
        Act::Decide,
        Act::Wait { seconds: 0 },
        Act::Put { tenant: 0, name: 0, spec: 0 },
    ]);
}

/// Found among ten thousand: its status still named the pool that included the address, after that pool had gone.
#[test]
fn an_owner_without_a_tenant_says_why_its_allocation_stays() {
    live(&[
        Act::Put { tenant: 0, name: 0, spec: 0 },
        Act::Pool { which: 233, spec: 696 },
        Act::PutPair { tenant: 865, name: 0, spec: 78 },
        Act::Decide,
        Act::Rename { which: 742 },
        Act::Tenant { which: 0, spec: 0 },
        Act::DeleteTenant { which: 456 },
        Act::Settle,
        Act::Put { tenant: 0, name: 1, spec: 0 },
        Act::DeleteTenant { which: 0 },
        Act::Put { tenant: 352, name: 0, spec: 0 },
        Act::Rename { which: 79 },
        Act::Put { tenant: 0, name: 1, spec: 0 },
        Act::Relist,
        Act::DeleteTenant { which: 0 },
    ]);
}
