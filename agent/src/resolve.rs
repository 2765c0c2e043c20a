//! Names of clouds' load balancers as the spoke sees them. Knows the system's resolver, which does not say how long an
//! answer holds: names are asked for again and again. The last good answer is the world's to keep.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::watch::Sight;

/// How often names are asked for: clouds' names live for a minute or more.
const EVERY: Duration = Duration::from_secs(20);
/// A resolver answers within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where to leave the names that are wanted.
#[derive(Debug)]
pub struct Names(watch::Sender<BTreeSet<String>>);

impl Names {
    /// These are wanted from now on.
    pub fn tell<'a>(&self, names: impl Iterator<Item = &'a str>) {
        self.0.send_if_modified(|before| {
            let now: BTreeSet<String> = names.map(str::to_owned).collect();
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

/// Starts asking.
pub fn start(tracker: &TaskTracker, stop: &CancellationToken, out: mpsc::Sender<Sight>) -> Names {
    let (wanted, names) = watch::channel(BTreeSet::new());
    tracker.spawn(stop.clone().run_until_cancelled_owned(ask(names, out)));
    Names(wanted)
}

async fn ask(mut names: watch::Receiver<BTreeSet<String>>, out: mpsc::Sender<Sight>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = names.changed() => if changed.is_err() { return },
        }
        let wanted = names.borrow_and_update().clone();
        let answers = wanted.into_iter().map(|name| async move {
            // The port is of no account: it is asked for with the name.
            let answer = timeout(PATIENCE, lookup_host((name.as_str(), 0))).await;
            let addresses = answer.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip());
            (addresses.collect::<BTreeSet<_>>(), name)
        });
        for (addresses, name) in futures::future::join_all(answers).await {
            if addresses.is_empty() {
                tracing::warn!(name, "a load balancer's name does not resolve: its last answer stays");
            } else if out.send(Sight::Resolved(name, addresses)).await.is_err() {
                return;
            }
        }
    }
}
