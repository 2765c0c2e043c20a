//! Names of clouds' load balancers as the spoke sees them: asked of its name servers, again whenever an answer has ended. Knows
//! how to ask; when is the core's matter, and the last good answer is the world's to keep.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use nave_agent_core::lookup::{Outcome, Schedule};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::line;
use crate::watch::Sight;

/// A name is answered within this time, all servers and tries together, or not at all.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// What is configured makes no resolver.
#[derive(Debug, thiserror::Error)]
#[error("set up a resolver")]
pub struct ResolveError(#[source] NetError);

/// Starts asking these servers, or those of the system when none are given.
pub fn start(
    tracker: &TaskTracker,
    stop: &CancellationToken,
    servers: &[SocketAddr],
    out: mpsc::Sender<Sight>,
) -> Result<Names, ResolveError> {
    let (wanted, names) = watch::channel(BTreeSet::new());
    let asker = Asker { resolver: resolver(servers)?, start: Instant::now(), schedule: Schedule::default(), out };
    tracker.spawn(stop.clone().run_until_cancelled_owned(asker.run(names)));
    Ok(Names(wanted))
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, ResolveError> {
    let ask = |servers: &[SocketAddr]| {
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let mut builder = if servers.is_empty() {
        Resolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(error = line(&error), "the system does not say who resolves names: this machine is asked");
            ask(&[SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53)])
        })
    } else {
        ask(servers)
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Invariant: nothing is remembered here; an answer is asked for when it has ended.
    options.cache_size = 0;
    builder.build().map_err(ResolveError)
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

struct Asker {
    resolver: TokioResolver,
    start: Instant,
    schedule: Schedule,
    out: mpsc::Sender<Sight>,
}

impl Asker {
    async fn run(mut self, mut names: watch::Receiver<BTreeSet<String>>) {
        let mut asking = JoinSet::new();
        loop {
            for name in self.schedule.take(self.start.elapsed()) {
                asking.spawn(ask(self.resolver.clone(), name));
            }
            let due = self.schedule.next_due();
            let wake = self.start + due.unwrap_or_default();
            tokio::select! {
                changed = names.changed() => match changed {
                    Ok(()) => self.schedule.want(&names.borrow_and_update(), self.start.elapsed()),
                    Err(_) => return,
                },
                Some(answer) = asking.join_next() => match answer {
                    Ok((name, answer)) => self.answered(name, answer).await,
                    Err(error) => tracing::error!(%error, "a task ended before its time"),
                },
                () = sleep_until(wake.into()), if due.is_some() => {}
            }
        }
    }

    async fn answered(&mut self, name: String, answer: Result<LookupIp, String>) {
        let addresses: BTreeSet<IpAddr> = answer.iter().flat_map(LookupIp::iter).collect();
        let now = self.start.elapsed();
        let outcome = match &answer {
            Ok(found) if !addresses.is_empty() => {
                Outcome::Holds(found.valid_until().saturating_duration_since(Instant::now()))
            }
            Ok(_) | Err(_) => Outcome::Failed,
        };
        let Some(wait) = self.schedule.asked(&name, outcome, now) else { return };
        if outcome == Outcome::Failed {
            let error = answer.err().unwrap_or_default();
            let again_in_s = wait.as_secs();
            tracing::warn!(name, error, again_in_s, "a load balancer's name does not resolve: its last answer stays");
        } else {
            // Nobody listens only when the agent ends.
            let _ = self.out.send(Sight::Resolved(name, addresses)).await;
        }
    }
}

async fn ask(resolver: TokioResolver, name: String) -> (String, Result<LookupIp, String>) {
    // A cloud writes full names: the spoke's search domains are for shorter ones.
    let full = if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.clone() };
    let answer = match timeout(PATIENCE, resolver.lookup_ip(full)).await {
        Ok(answer) => answer.map_err(|error| line(&error)),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    (name, answer)
}
