//! The one owner of the engine: what is seen goes in, what follows goes out, to Envoy and to whoever performs steps.
//! Knows the order; decides nothing and waits for nobody.

use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use nave_api::IPAllocation;
use nave_manager_core::{Engine, Key, Outcome, Role, Seen, Settings, Sight, Step, Unreadable};
use nave_xds::catalog::Keep;
use nave_xds::report::{Observer, Report};
use nave_xds::server::Server;
use tokio::sync::{mpsc, oneshot, watch};

use crate::freshness::Freshness;
use crate::metrics::Metrics;
use crate::perform::Performer;

/// What reaches the conductor. The queue is not bounded: who fills it are watches, Envoys and our own writes, and none of
/// them may wait for another; what it holds is bounded by what they have to say.
#[derive(Debug)]
pub(crate) enum Input {
    /// An observation.
    Seen(Box<Seen>),
    /// An allocation as it is now.
    Allocation(Box<IPAllocation>),
    /// An allocation has ended, at this resourceVersion.
    AllocationGone { name: String, version: String },
    /// All allocations, and those that cannot be read.
    Allocations(Vec<IPAllocation>, Vec<Unreadable>),
    /// A step cannot be performed.
    Failed(Box<Step>),
    /// Whether we lead.
    Lead(bool),
    /// Somebody wants to know whether the conductor still gets to its inputs.
    Asked(oneshot::Sender<()>),
    /// Time to compare everything with what was seen.
    Compare,
}

/// Where to send what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Inbox(mpsc::UnboundedSender<Input>);

impl Inbox {
    /// An inbox and its other end.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Hands it in; after the end of the conductor, nobody cares.
    pub(crate) fn send(&self, input: Input) {
        let _ = self.0.send(input);
    }

    /// An observation.
    pub(crate) fn seen(&self, seen: Seen) {
        self.send(Input::Seen(Box::new(seen)));
    }
}

impl Observer for Inbox {
    fn report(&self, report: Report) {
        self.seen(Seen::Envoy(report));
    }
}

/// The engine and what it moves.
pub(crate) struct Conductor {
    engine: Engine,
    role: Role,
    allocations: Freshness,
    server: Server,
    performer: Performer,
    metrics: Metrics,
    synced: watch::Sender<bool>,
    /// What Envoys keep of what is not served.
    kept: Keep,
}

/// Observations that are settled together at most: a party that never stops delays the others by one settlement.
const AT_ONCE: u64 = 10_000;

impl Conductor {
    /// A conductor of a new engine. `synced` turns true when everything was seen once and Envoys may be served.
    pub(crate) fn new(
        settings: Settings,
        server: Server,
        performer: Performer,
        metrics: Metrics,
        synced: watch::Sender<bool>,
    ) -> Self {
        Self {
            engine: Engine::new(settings),
            role: Role::Follower,
            allocations: Freshness::default(),
            server,
            performer,
            metrics,
            synced,
            kept: Keep::default(),
        }
    }

    /// Conducts until nobody can send any more.
    pub(crate) async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        loop {
            let first = tokio::select! {
                first = inputs.recv() => match first {
                    Some(first) => Some(first),
                    None => return,
                },
                () = self.woken() => None,
            };
            let begun = Instant::now();
            let mut count: u64 = first.is_some().into();
            if let Some(first) = first {
                self.take(first);
            }
            // Whatever has come meanwhile is settled together: under load, one decision for many observations.
            while count < AT_ONCE
                && let Ok(next) = inputs.try_recv()
            {
                self.take(next);
                count += 1;
            }
            let outcome = self.engine.settle(self.role, Timestamp::now());
            self.metrics.settled(count, begun.elapsed());
            self.carry_out(outcome);
        }
    }

    /// Ends when something in the engine ends by itself: a wait of what is served, or what concerns a leader only; at once when
    /// load balancers wait for their turn.
    async fn woken(&self) {
        if self.engine.has_turns() {
            return;
        }
        let due = match self.role {
            Role::Leader => self.engine.wakes_at(),
            Role::Follower => None,
        };
        let due = due.into_iter().chain(self.engine.serves_at()).min();
        match due {
            Some(due) => tokio::time::sleep(due.duration_since(Timestamp::now()).try_into().unwrap_or_default()).await,
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Seen(seen) => self.engine.observe(*seen),
            Input::Allocations(objects, unreadable) => {
                self.allocations.restart(objects.iter().map(|a| (name(a), version(a))));
                self.engine.observe(Seen::Allocations(Sight::All { objects, unreadable }));
            }
            Input::Allocation(one) => {
                if self.allocations.seen(name(&one), version(&one)) {
                    self.engine.observe(Seen::Allocations(Sight::One(*one)));
                }
            }
            Input::AllocationGone { name, version } => {
                if self.allocations.gone(&name, &version) {
                    self.engine.observe(Seen::Allocations(Sight::Gone(Key::cluster(name))));
                }
            }
            Input::Failed(step) => self.engine.failed(&step),
            Input::Lead(lead) => {
                self.role = if lead { Role::Leader } else { Role::Follower };
                self.performer.lead(lead);
                self.engine.replan();
            }
            Input::Asked(answer) => drop(answer.send(())),
            Input::Compare => self.engine.compare(),
        }
    }

    fn carry_out(&mut self, outcome: Outcome) {
        let Outcome { publish, keep, steps } = outcome;
        // Streams read at any moment. What Envoys are to keep is kept before anything else is served; what need not be kept any more
        // is served again before it stops being kept.
        if let Some(keep) = &keep {
            self.server.keep(&self.kept.union(keep));
        }
        let fleets: Vec<String> = publish.keys().cloned().collect();
        for (fleet, change) in publish {
            self.server.fleet(&fleet).apply(change);
        }
        if let Some(keep) = keep {
            self.server.keep(&keep);
            self.kept = keep;
        }
        if self.engine.is_synced() {
            // The first outcome after everything was seen is complete: only now may Envoy take what is missing for gone.
            for fleet in fleets {
                self.server.fleet(&fleet).open();
            }
            self.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
        }
        for step in steps {
            self.performer.perform(step);
        }
    }
}

fn name(allocation: &IPAllocation) -> &str {
    allocation.metadata.name.as_deref().unwrap_or_default()
}

fn version(allocation: &IPAllocation) -> &str {
    allocation.metadata.resource_version.as_deref().unwrap_or_default()
}
