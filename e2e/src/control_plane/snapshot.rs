//! A snapshot of a control plane's etcd, and the way back to it, as an administrator takes and restores them. Knows etcd's own
//! tools; knows nothing of what is stored.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ControlPlane, flags};
use crate::error::{Act, Result};
use crate::tools::{self, run};

/// How much newer everything is after a restore. More than could have been written since the snapshot: who watched before
/// must not take what comes for old.
const BUMP: u64 = 1_000_000_000;

/// How to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// As etcd's manual asks of those who have watchers: revisions go on, and old ones are compacted.
    Bumped,
    /// Revisions go back to those of the snapshot.
    Plain,
}

impl ControlPlane {
    /// Takes a snapshot while etcd runs, and returns where it is.
    pub async fn snapshot(&self) -> Result<PathBuf> {
        let path = self.dir.join("snapshot.db");
        let endpoint = format!("--endpoints={}", flags::local(self.ports.etcd.number()));
        let mut etcdctl = Command::new(tools::etcdctl()?);
        etcdctl.args(["snapshot", "save", "--write-out=json", &endpoint]).arg(&path);
        aside(etcdctl, "take a snapshot of etcd").await?;
        Ok(path)
    }

    /// Stops the cluster, puts etcd back to a snapshot, and starts the cluster again; ready when this returns.
    pub async fn restore(&self, snapshot: &Path, how: Restore) -> Result<()> {
        self.processes.api.kill();
        self.processes.etcd.kill();
        let data = self.dir.join("etcd");
        fs::remove_dir_all(&data).act(|| "remove etcd's data")?;
        let peer = flags::local(self.ports.peer.number());
        let mut etcdutl = Command::new(tools::etcdutl()?);
        etcdutl.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(&data);
        etcdutl.arg(format!("--initial-cluster=default={peer}")).arg(format!("--initial-advertise-peer-urls={peer}"));
        match how {
            Restore::Bumped => etcdutl.arg(format!("--bump-revision={BUMP}")).arg("--mark-compacted"),
            Restore::Plain => &mut etcdutl,
        };
        aside(etcdutl, "restore a snapshot of etcd").await?;
        self.processes.etcd.restart()?;
        self.start_api().await
    }
}

/// Runs it to its end on a thread that may wait.
async fn aside(mut command: Command, act: &'static str) -> Result<()> {
    tokio::task::spawn_blocking(move || run(&mut command, act)).await.act(|| act)?.map(drop)
}
