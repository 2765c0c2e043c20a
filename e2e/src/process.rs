//! One process of the lab: started in its own group, marked, logged, and stopped, frozen or restarted by its pid. Knows no
//! product and no cluster.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Act, Error, Result};
use crate::supervisor::{Supervisor, tail};
use crate::{sweep, wait};

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Names the log: `logs/<name>.log`.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables besides those of the lab's owner.
    pub environment: BTreeMap<String, String>,
    /// The network namespace to start it in; absent: the owner's.
    pub namespace: Option<String>,
}

impl Spec {
    /// A process with arguments and nothing special.
    pub fn new<A: Into<OsString>>(
        name: &str,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            namespace: None,
        }
    }

    /// Starts it in a network namespace. `nsenter`, since `ip netns exec` would remount /sys and hide the cgroups.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    fn command(&self, lab: &str, log: &File) -> Result<Command> {
        let Self { name, program, arguments, environment, namespace } = self;
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
                command
            }
            None => Command::new(program),
        };
        let output = || log.try_clone().act(|| format!("share the log of {name}"));
        command.args(arguments).envs(environment).env(sweep::MARK, lab).stdin(Stdio::null());
        command.stdout(output()?).stderr(output()?).process_group(0);
        Ok(command)
    }
}

/// A process that the lab started. Dropping it kills its group.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    supervisor: Arc<Supervisor>,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts it.
    pub fn start(supervisor: &Arc<Supervisor>, spec: Spec) -> Result<Self> {
        let process = Self { spec, supervisor: supervisor.clone(), child: Mutex::new(None) };
        process.restart()?;
        Ok(process)
    }

    /// Starts it again with the same arguments, after killing what still runs.
    pub fn restart(&self) -> Result<()> {
        self.kill();
        let Spec { name, program, .. } = &self.spec;
        let log =
            File::options().create(true).append(true).open(self.log()).act(|| format!("open the log of {name}"))?;
        let child = self.spec.command(self.supervisor.id(), &log)?.spawn();
        let child = child.act(|| format!("start {name} ({})", program.display()))?;
        self.supervisor.register(child.id())?;
        *self.held() = Some(child);
        Ok(())
    }

    /// Its name, as its log has it.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its pid, which is its group's number as well; `None` when it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.reap();
        self.held().as_ref().map(Child::id)
    }

    /// Its log; it goes on in the same file after a restart.
    pub fn log(&self) -> PathBuf {
        self.supervisor.logs().join(format!("{}.log", self.spec.name))
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        tail(&String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()), lines)
    }

    /// An error with the end of the log when it has ended.
    pub fn check(&self) -> Result<()> {
        match self.pid() {
            Some(_) => Ok(()),
            None => Err(Error::new(format!("{} has ended:\n{}", self.name(), self.tail(15)))),
        }
    }

    /// SIGKILL to the group, at once.
    pub fn kill(&self) {
        let Some(mut child) = self.held().take() else { return };
        signal(child.id(), Signal::SIGKILL);
        let _ = child.wait();
        self.supervisor.forget(child.id());
    }

    /// SIGTERM, and SIGKILL when that did not end it within `patience`. Whether it went by itself.
    pub async fn terminate(&self, patience: Duration) -> bool {
        if let Some(pid) = self.pid() {
            signal(pid, Signal::SIGTERM);
        }
        let gone = wait::until("it ends", patience, || async {
            self.pid().map_or(Ok(()), |pid| Err(format!("process {pid} runs")))
        });
        let by_itself = gone.await.is_ok();
        self.kill();
        by_itself
    }

    /// Stops the group where it is, as a machine that hangs would.
    pub fn freeze(&self) {
        if let Some(pid) = self.pid() {
            signal(pid, Signal::SIGSTOP);
        }
    }

    /// Lets a frozen group go on.
    pub fn thaw(&self) {
        if let Some(pid) = self.pid() {
            signal(pid, Signal::SIGCONT);
        }
    }

    fn reap(&self) {
        let mut held = self.held();
        let ended = held.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if ended && let Some(child) = held.take() {
            signal(child.id(), Signal::SIGKILL); // whoever of its group is left
            self.supervisor.forget(child.id());
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(group: u32, signal: Signal) {
    if let Ok(group) = i32::try_from(group) {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}
