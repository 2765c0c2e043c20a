//! Runs tests, each as a process of its own in a client's network namespace: what one binds or breaks is not another's.
//! Knows the suite's flags.
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;

use super::expect::{Pace, left_out};
use super::report::{self, Outcome, Test};
use super::{Mode, Options, Row};
use crate::error::{Act, Error, Result};
use crate::lab::{Lab, Spoke};
use crate::network::Namespace;
use crate::process::{Process, Spec};
use crate::tools::Suite;
use crate::wait;

/// Everything that tests share.
struct Lane<'lab> {
    lab: &'lab Lab,
    suite: &'lab Suite,
    out: &'lab Path,
    clients: Mutex<Vec<Namespace>>,
}

/// Runs the chosen tests in all modes, the slowest first; rows come in the order of the suite.
pub(super) async fn all(
    lab: &Lab,
    suite: &Suite,
    chosen: &[Test],
    options: &Options,
    out: &Path,
    progress: &impl Fn(&str),
) -> Result<Vec<Row>> {
    let clients = (0..options.at_once).map(|index| lab.client(u8::try_from(index).unwrap_or(u8::MAX)));
    let clients = Mutex::new(clients.collect::<Result<Vec<_>>>()?);
    let lane = Lane { lab, suite, out, clients };
    let mut rows = Vec::new();
    for run in 1..=options.runs {
        let mut tasks: Vec<_> = chosen
            .iter()
            .flat_map(|test| options.modes.iter().zip(&lab.spokes).map(move |(mode, spoke)| (test, *mode, spoke)))
            .collect();
        tasks.sort_by_key(|(test, ..)| std::cmp::Reverse(test.pace()));
        let tasks = futures::stream::iter(tasks).map(|(test, mode, spoke)| {
            let lane = &lane;
            async move {
                let outcome = match refusal(test, mode, options) {
                    Some(why) => Ok(Outcome::LeftOut(why)),
                    None => lane.run(run, test, mode, spoke).await,
                };
                Ok(Row { run, test: test.clone(), mode, outcome: outcome? })
            }
        });
        let mut tasks = tasks.buffer_unordered(options.at_once);
        while let Some(row) = tasks.next().await {
            let row: Row = row?;
            match row.outcome {
                Outcome::Passed { .. } | Outcome::Failed { .. } | Outcome::Skipped(_) => {
                    progress(&super::table::line(&row));
                }
                Outcome::LeftOut(_) => {}
            }
            rows.push(row);
        }
    }
    let position = |row: &Row| chosen.iter().position(|test| *test == row.test);
    rows.sort_by_key(|row| (row.run, position(row), row.mode));
    Ok(rows)
}

/// Why a test is not run.
fn refusal(test: &Test, mode: Mode, options: &Options) -> Option<String> {
    let slow = options.focus.is_none() && test.pace() > options.pace;
    left_out(&test.name, mode).map(str::to_owned).or_else(|| {
        slow.then(|| match test.pace() {
            Pace::Short | Pace::Long => "takes minutes: --all runs it".to_owned(),
            Pace::Rolling => "takes twelve minutes: --all runs it".to_owned(),
        })
    })
}

impl Lane<'_> {
    async fn run(&self, run: u32, test: &Test, mode: Mode, spoke: &Spoke) -> Result<Outcome> {
        let client = self.clients.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let client = client.ok_or_else(|| Error::new("find a free client"))?;
        let outcome = self.run_from(&client, run, test, mode, spoke).await;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        outcome
    }

    async fn run_from(&self, client: &Namespace, run: u32, test: &Test, mode: Mode, spoke: &Spoke) -> Result<Outcome> {
        let name = test.place.replace([':', '.'], "-");
        let dir = self.out.join(format!("run-{run}/{mode}/{name}"));
        std::fs::create_dir_all(&dir).act(|| format!("make {}", dir.display()))?;
        let json = dir.join("report.json");
        let limit = limit(test.pace());
        let flags = self.flags(test, spoke, &dir, limit);
        let spec = Spec::new(&format!("{mode}-{name}-{run}"), &self.suite.tests, flags).within(client.name());
        let process = Process::start(self.lab.supervisor(), spec)?;
        let what = format!("{} ends", test.place);
        let ended = wait::until(&what, limit + Duration::from_mins(1), || async {
            process.pid().map_or(Ok(()), |pid| Err(format!("process {pid} runs")))
        });
        let ended = ended.await;
        process.kill();
        std::fs::copy(process.log(), dir.join("log.txt")).act(|| "keep a test's log")?;
        let outcome = ended.and_then(|()| report::outcome(&json, test));
        Ok(outcome.unwrap_or_else(|error| {
            let why = format!("{error:?}\n{}", process.tail(10));
            Outcome::Failed { seconds: 0.0, rates: Vec::new(), why }
        }))
    }

    fn flags(&self, test: &Test, spoke: &Spoke, dir: &Path, limit: Duration) -> Vec<String> {
        let path = |path: PathBuf| path.display().to_string();
        vec![
            "--provider=skeleton".to_owned(),
            format!("--kubeconfig={}", path(spoke.plane.kubeconfig())),
            format!("--kubectl-path={}", path(self.suite.kubectl.clone())),
            format!("--num-nodes={}", spoke.nodes.len()),
            "--disable-log-dump".to_owned(),
            format!("--report-dir={}", dir.display()),
            format!("--ginkgo.json-report={}", path(dir.join("report.json"))),
            format!("--ginkgo.focus-file={}", test.place),
            // Any name; without a choice by name the framework leaves out all tests of features.
            "--ginkgo.focus=.".to_owned(),
            format!("--ginkgo.timeout={}s", limit.as_secs()),
            "--ginkgo.v".to_owned(),
            "--ginkgo.no-color".to_owned(),
        ]
    }
}

/// Twice what a test of this pace takes on a slow and busy machine, so that one that hangs ends before its own timeouts, which
/// are a quarter of an hour each.
fn limit(pace: Pace) -> Duration {
    match pace {
        Pace::Short => Duration::from_mins(3),
        Pace::Long => Duration::from_mins(12),
        Pace::Rolling => Duration::from_mins(25),
    }
}
