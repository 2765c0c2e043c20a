//! Everything that is started is stopped: a small process that outlives the lab's owner, whatever ends it, and removes what
//! the lab made. Knows process groups and the lab's id; knows nothing of clusters.
//!
//! The owner holds a pipe to it. A line on the pipe registers a process group; the end of the pipe (drop, panic, Ctrl-C,
//! SIGKILL of the owner) is the order to end all groups in reverse order and to sweep the rest.
use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, setsid};

use crate::error::{Act, Error, Result};
use crate::{sweep, tools};

/// How many lines of each log are shown when a test fails.
const TAIL: usize = 12;

/// The owner's end: the lab's id, its directory, and the pipe.
#[derive(Debug)]
pub struct Supervisor {
    id: String,
    dir: PathBuf,
    child: Mutex<Child>,
    failed: AtomicBool,
}

impl Supervisor {
    /// Starts a supervisor for a new lab.
    pub fn start() -> Result<Arc<Self>> {
        prune();
        let (id, dir) = new_dir()?;
        let mut child = Command::new(tools::own("nave-lab")?)
            .args(["supervise", &id])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .act(|| "start the supervisor")?;
        let mut ready = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready).act(|| "hear from the supervisor")?;
        }
        if ready.trim() != "ready" {
            return Err(Error::new("the supervisor ended at once"));
        }
        Ok(Arc::new(Self { id, dir, child: Mutex::new(child), failed: AtomicBool::new(false) }))
    }

    /// Six hexadecimal digits that are part of every name that the lab gives.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the lab keeps its files; removed at the end.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the logs are, one file per process; they stay when the lab ends in a panic.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Has the group ended together with the lab.
    pub(crate) fn register(&self, group: u32) -> Result<()> {
        self.say(&format!("group {group}")).act(|| "register a process with the supervisor")
    }

    /// The group has ended and was waited for: its number may belong to somebody else by now.
    pub(crate) fn forget(&self, group: u32) {
        let _ = self.say(&format!("forget {group}"));
    }

    /// The last lines of every log, for whoever has to find out why.
    pub fn tails(&self) -> String {
        let mut text = String::new();
        let mut logs: Vec<PathBuf> =
            fs::read_dir(self.logs()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        // Our own processes last, where the reader is.
        logs.sort_by_key(|path| (!is_foreign(path), path.clone()));
        for path in logs {
            let log = fs::read(&path).unwrap_or_default();
            let _ = writeln!(text, "---- {}\n{}", path.display(), tail(&String::from_utf8_lossy(&log), TAIL));
        }
        text
    }

    /// Passes the outcome on; after a failure the logs stay and their ends are shown, as after a panic.
    pub fn judge<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn say(&self, line: &str) -> std::io::Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.stdin.as_mut() {
            Some(pipe) => writeln!(pipe, "{line}"),
            None => Ok(()),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if std::thread::panicking() || self.failed.load(Ordering::Relaxed) {
            eprintln!("the lab's logs stay in {}\n{}", self.logs().display(), self.tails());
        } else {
            let _ = self.say("forget-logs");
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

/// Whether a log is that of Kubernetes or of what it runs on.
fn is_foreign(log: &Path) -> bool {
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    ["etcd", "kube", "containerd", "audit"].iter().any(|part| name.contains(part))
}

/// A directory whose name nobody had: making it is the lock.
fn new_dir() -> Result<(String, PathBuf)> {
    loop {
        let id = format!("{:06x}", RandomState::new().hash_one(std::process::id()) & 0xff_ffff);
        let dir = std::env::temp_dir().join(format!("nave-lab-{id}"));
        match fs::create_dir(&dir) {
            Err(taken) if taken.kind() == ErrorKind::AlreadyExists => {}
            made => {
                made.and_then(|()| fs::create_dir(dir.join("logs"))).act(|| "make the lab's directory")?;
                return Ok((id, dir));
            }
        }
    }
}

/// Logs that stayed are of no use after a day.
fn prune() {
    let day = Duration::from_hours(24);
    let old = |entry: &fs::DirEntry| entry.metadata().ok()?.modified().ok()?.elapsed().ok().filter(|age| *age > day);
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with("nave-lab-");
        let only_logs = fs::read_dir(&path).is_ok_and(|all| all.flatten().all(|entry| entry.file_name() == "logs"));
        if ours && only_logs && old(&entry).is_some() {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The supervisor's own life: `nave-lab supervise ID DIR`. Ends when the pipe ends.
pub fn supervise(id: &str, dir: &Path) -> Result<()> {
    // The owner's terminal must not reach us: Ctrl-C ends the owner, and that ends the pipe.
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE])
        .thread_block()
        .act(|| "block the terminal's signals")?;
    setsid().act(|| "leave the owner's session")?;
    println!("ready");
    let mut groups: Vec<i32> = Vec::new();
    let mut keep_logs = true;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match line.split_once(' ') {
            Some(("group", pid)) => groups.extend(pid.parse::<i32>()),
            Some(("forget", pid)) => groups.retain(|known| known.to_string() != pid),
            _ => keep_logs = keep_logs && line != "forget-logs",
        }
    }
    end(id, dir, &groups, keep_logs);
    Ok(())
}

fn end(id: &str, dir: &Path, groups: &[i32], keep_logs: bool) {
    for group in groups.iter().rev().filter(|group| sweep::is_marked(**group, sweep::MARK, id)) {
        let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
    }
    let name = format!("nave-{id}");
    sweep::end_processes(sweep::MARK, id, &name);
    sweep::remove_cgroups(&name);
    sweep::remove_container_traces(dir);
    sweep::unmount_below(dir);
    sweep::remove_networks(&name, &format!("nv{id}"));
    if !keep_logs {
        let _ = fs::remove_dir_all(dir);
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.file_name() != "logs") {
        let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
    }
}
