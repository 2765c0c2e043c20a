//! The agent's one loop: takes in what is seen, decides what was touched, has it performed. Owner of the world; waits for
//! nobody.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use nave_agent_core::{Change, Decision, Policy, Tenancy, Touched, Work, World};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, line};
use crate::events::Notices;
use crate::metrics::Metrics;
use crate::page::{Condition, Health};
use crate::perform::{Performer, Report};
use crate::queue::Queue;
use crate::resolve::Names;
use crate::watch::Sight;

/// So many works are performed at a time.
const AT_ONCE: usize = 16;
/// So many are decided before the loop looks around again.
const DECISIONS: usize = 64;
/// How often everything is looked at again, touched or not.
const SWEEP: Duration = Duration::from_mins(5);
/// How often the loop turns at least.
const TURN: Duration = Duration::from_secs(5);
/// Half of the time that a problem must last before the Service says so, where it mostly ends by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two farewells of which the first was not answered; each wait is twice as long as the last, up to the longest. A farewell
/// is three calls.
const FAREWELL: Duration = Duration::from_secs(3);
const LONGEST_FAREWELL: Duration = Duration::from_secs(15);

/// The agent.
pub struct Agent {
    world: World,
    queue: Queue<Work>,
    performer: Performer,
    notices: Notices,
    names: Names,
    health: Health,
    metrics: Metrics,
    start: Instant,
    leaving: bool,
    /// When to say farewell to the hub at the earliest, and the waits after that.
    farewell_due: Instant,
    farewells: ExponentialBackoff,
    /// Which hub it is, counted: answers of another one are not taken in.
    era: u64,
}

/// A plan that has been performed.
struct Performed {
    work: Work,
    era: u64,
    report: Report,
}

impl Agent {
    /// An agent that has seen nothing.
    pub fn new(policy: Policy, performer: Performer, notices: Notices, names: Names, health: Health) -> Self {
        let (leaving, start) = (policy.leaving, Instant::now());
        let (world, queue) = (World::new(policy), Queue::new());
        let metrics = performer.metrics.clone();
        let farewells = ExponentialBuilder::default().with_min_delay(FAREWELL).with_max_delay(LONGEST_FAREWELL);
        let (farewell_due, farewells) = (start, farewells.without_max_times().build());
        Self {
            world,
            queue,
            performer,
            notices,
            names,
            health,
            metrics,
            start,
            leaving,
            farewell_due,
            farewells,
            era: 0,
        }
    }

    /// Runs until told to stop; what is under way then is ended.
    pub async fn run(mut self, mut seen: mpsc::Receiver<Sight>, stop: CancellationToken) {
        let mut running: JoinSet<Performed> = JoinSet::new();
        let (mut turn, mut sweep, mut patience) = (interval(TURN), interval(SWEEP), interval(PATIENCE));
        patience.set_missed_tick_behavior(MissedTickBehavior::Delay);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.queue.next_due();
            let wake = self.start + due.unwrap_or(SWEEP);
            let may_start = self.queue.is_ready() && running.len() < AT_ONCE;
            let mut at = Instant::now();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = running.join_next() => self.ended(ended),
                sight = seen.recv() => match sight {
                    Some(sight) => {
                        at = Instant::now();
                        self.see(sight);
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(wake.into()), if due.is_some() => self.queue.wake(self.start.elapsed()),
                _ = turn.tick() => {}
                _ = patience.tick() => {
                    let lasting = self.world.turn();
                    self.touch(lasting);
                }
                _ = sweep.tick() => {
                    let all = self.world.sweep();
                    self.touch(all);
                }
                () = std::future::ready(()), if may_start => {}
            }
            self.start_due(&mut running, at);
            self.tell();
            // All else is over: these calls may be waited for, and are made again when the hub does not answer.
            if running.is_empty() && self.has_left() && self.say_farewell().await {
                tracing::info!("everything is let go");
                stop.cancel();
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Whether we were to let go of everything, and have.
    fn has_left(&mut self) -> bool {
        let known = self.world.missing().is_empty() || self.world.tenancy() != Tenancy::There;
        let idle = self.queue.sizes() == (0, 0, 0);
        self.leaving && known && idle && self.world.is_left()
    }

    /// Whether the hub need hear no more of us. One that does not know us keeps nothing of ours, or lets us take nothing.
    async fn say_farewell(&mut self) -> bool {
        if self.world.tenancy() != Tenancy::There {
            return true;
        }
        // Whatever is seen turns the loop: a busy spoke does not hurry this.
        if Instant::now() < self.farewell_due {
            return false;
        }
        let is_said = self.performer.farewell().await;
        self.farewell_due = Instant::now() + self.farewells.next().unwrap_or(LONGEST_FAREWELL);
        is_said
    }

    fn see(&mut self, sight: Sight) {
        // A list from the hub after an interruption: it answers again, and nobody need wait for his turn.
        if matches!(&sight, Sight::Intent(change) if matches!(**change, Change::Listed { .. })) {
            self.queue.hurry();
        }
        let touched = match sight {
            Sight::Service(change) => self.world.see_service(*change),
            Sight::Node(change) => self.world.see_node(*change),
            Sight::Slice(change) => self.world.see_slice(*change),
            Sight::Intent(change) => self.world.see_intent(*change),
            Sight::NodeSet(change) => self.world.see_node_set(*change),
            Sight::Resolved(name, addresses) => self.world.see_resolved(&name, addresses),
            Sight::Tenancy(tenancy) => self.world.see_tenancy(tenancy),
            Sight::Cluster(cluster) => self.world.see_cluster(cluster),
            Sight::OtherHub => {
                self.era += 1;
                self.world.forget_hub();
                Touched::default()
            }
        };
        let Touched { work, notices } = touched;
        self.notices.leave(notices);
        self.touch(work);
    }

    fn touch(&mut self, work: impl IntoIterator<Item = Work>) {
        for work in work {
            self.queue.touch(work);
        }
    }

    fn start_due(&mut self, running: &mut JoinSet<Performed>, at: Instant) {
        for _ in 0..DECISIONS {
            if running.len() >= AT_ONCE {
                return;
            }
            let Some(work) = self.queue.next() else { return };
            let Decision { plan, notices } = self.world.decide(&work);
            self.notices.leave(notices);
            if plan.is_empty() {
                self.queue.done(&work);
                continue;
            }
            tracing::debug!(%work, ?plan, "decided");
            let (performer, era) = (self.performer.clone(), self.era);
            running.spawn(async move { Performed { work, era, report: performer.perform(plan).await } });
            self.metrics.own.observe(at.elapsed().as_secs_f64());
        }
    }

    fn ended(&mut self, ended: Result<Performed, tokio::task::JoinError>) {
        let Performed { work, era, report: Report { sights, error } } = match ended {
            Ok(performed) => performed,
            Err(error) => return tracing::error!(%error, "a task ended before its time"),
        };
        for sight in sights {
            let of_hub = matches!(sight, Sight::Intent(_) | Sight::NodeSet(_));
            if !of_hub || era == self.era {
                self.see(sight);
            }
        }
        match error {
            None => self.queue.done(&work),
            Some(error) => {
                self.refused(&work, &error);
                let wait = self.queue.failed(&work, self.start.elapsed(), chance());
                tracing::warn!(%work, error = line(&error), again_in_ms = wait.as_millis(), "not done");
            }
        }
    }

    /// What the hub holds against an intent is for the user, too.
    fn refused(&mut self, work: &Work, error: &Error) {
        if let (Work::Service(key), Some(words)) = (work, error.refusal()) {
            let notice = self.world.see_refusal(key, words);
            self.notices.leave(notice);
        }
    }

    fn tell(&self) {
        let (due, _running, delayed) = self.queue.sizes();
        let (services, intents, nodes) = self.world.sizes();
        let count = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        self.metrics.due.set(count(due));
        self.metrics.delayed.set(count(delayed));
        self.metrics.services.set(count(services));
        self.metrics.intents.set(count(intents));
        self.metrics.nodes.set(count(nodes));
        self.names.tell(self.world.names());
        self.health.turned();
        self.health.tell(Condition { missing: self.world.missing(), tenancy: self.world.tenancy() });
    }
}

/// Something between 0 and 1 that differs from moment to moment; it spreads retries, nothing hangs on it.
fn chance() -> f64 {
    f64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() % 1000) / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use kube::runtime::events::{Recorder, Reporter};
    use nave_agent_core::Cluster;
    use nave_watch::{News, stub};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::hub::Hub;
    use crate::identity::Identity;
    use crate::{page, resolve};

    /// Lists of everything, without an object.
    fn lists() -> Vec<Sight> {
        fn none<K>() -> Box<Change<K>> {
            Box::new(Change::listed(Vec::new()))
        }
        vec![
            Sight::Service(none()),
            Sight::Node(none()),
            Sight::Slice(none()),
            Sight::Intent(none()),
            Sight::NodeSet(none()),
            Sight::Cluster(Cluster::owner("c1".parse().unwrap())),
        ]
    }

    #[tokio::test]
    async fn d_a_farewell_that_the_hub_does_not_take_is_not_hurried_by_what_is_seen() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let hub = stub::client(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            (200, serde_json::json!({"metadata": {"name": "agent"}}))
        });
        // It does not say which cluster it is: whether the Lease is its own cannot be known.
        let spoke = stub::client(|_| (200, serde_json::json!({"metadata": {"name": "kube-system"}})));
        let (hub, _ends) = Hub::of(hub);
        let (sights, seen) = mpsc::channel(1);
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let names = resolve::start(&tracker, &stop, &["127.0.0.1:9".parse().unwrap()], sights.clone()).unwrap();
        let (news, _tell) = News::new(Recorder::new(spoke.clone(), Reporter::from("test")));
        let (health, _state) = page::Health::new(hub.trouble());
        let identity = Identity::new(spoke.clone());
        let performer = Performer { spoke, hub, identity, metrics: Metrics::new() };
        let policy = Policy { leaving: true, ..Policy::default() };
        let agent = Agent::new(policy, performer, Notices::of(news), names, health);
        let run = tokio::spawn(agent.run(seen, stop.clone()));
        for _ in 0..200 {
            for sight in lists() {
                sights.send(sight).await.unwrap();
            }
        }
        assert!(!run.is_finished(), "it has not left");
        assert!((1..=3).contains(&calls.load(Ordering::SeqCst)), "{calls:?} calls");
        stop.cancel();
        run.await.unwrap();
    }
}
