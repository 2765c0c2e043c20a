//! Finds what a lab left in the system and removes it: processes by the lab's mark in their environment, namespaces, links,
//! cgroups and mounts by the lab's id. Knows no process name: nothing is ended because it is called something.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The environment variable that marks every process of a lab with the lab's id.
pub const MARK: &str = "NAVE_LAB";
/// The environment variable that marks every process of one node besides.
pub const NODE_MARK: &str = "NAVE_LAB_NODE";
/// How long ending processes may take before the rest is removed anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the process carries `name=value` in its environment.
pub fn is_marked(pid: i32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
}

/// All processes that carry the mark, zombies excluded (their environment is empty).
pub fn marked(name: &str, value: &str) -> Vec<i32> {
    let own = Pid::this().as_raw();
    numbers(Path::new("/proc")).into_iter().filter(|pid| *pid != own && is_marked(*pid, name, value)).collect()
}

/// Kills all marked processes and all members of the cgroups called `<prefix>…`, again until none is left.
pub fn end_processes(name: &str, value: &str, prefix: &str) {
    let started = Instant::now();
    while started.elapsed() < PATIENCE && signal(name, value, prefix, Signal::SIGKILL) > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to all of these processes, and says how many there were.
pub fn signal(name: &str, value: &str, prefix: &str, signal: Signal) -> usize {
    let mut pids = marked(name, value);
    pids.extend(cgroups(prefix).iter().flat_map(|dir| members(dir)));
    for pid in &pids {
        let _ = kill(Pid::from_raw(*pid), signal);
    }
    pids.len()
}

/// Removes the cgroups called `<prefix>…`, the deepest first.
pub fn remove_cgroups(prefix: &str) {
    for dir in cgroups(prefix) {
        let mut all = Vec::new();
        descend(&dir, &mut all);
        for dir in all.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Unmounts everything below `dir`, the latest mount first.
pub fn unmount_below(dir: &Path) {
    for at in mounts_below(dir).iter().rev() {
        let _ = umount2(at, MntFlags::MNT_DETACH);
    }
}

/// Removes network namespaces and links whose names begin with the prefixes.
pub fn remove_networks(namespaces: &str, links: &str) {
    for name in names(Path::new("/run/netns"), namespaces) {
        ip(&["netns", "del", &name]);
    }
    for name in names(Path::new("/sys/class/net"), links) {
        ip(&["link", "del", &name]);
    }
}

/// Removes what containerd, CNI and the kubelet keep outside the directories that they are given: shim sockets, cached
/// results, links to logs. All of them name the directory.
pub fn remove_container_traces(dir: &Path) {
    let mut all = Vec::new();
    descend(dir, &mut all);
    for bundle in all {
        let address = fs::read_to_string(bundle.join("address"));
        if let Some(socket) = address.ok().as_deref().and_then(|at| at.strip_prefix("unix://")) {
            let _ = fs::remove_file(socket);
        }
    }
    let inside = dir.display().to_string();
    let results = Path::new("/var/lib/cni/results");
    let results = names(results, "").into_iter().map(|name| results.join(name));
    for cached in results.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&inside))) {
        let _ = fs::remove_file(cached);
    }
    let logs = Path::new("/var/log/containers");
    let logs = names(logs, "").into_iter().map(|name| logs.join(name));
    for link in logs.filter(|path| fs::read_link(path).is_ok_and(|target| target.starts_with(dir))) {
        let _ = fs::remove_file(link);
    }
}

/// What is still there of a lab, its logs excepted: for the tests of the lab itself.
pub fn traces(id: &str) -> Vec<String> {
    let name = format!("nave-{id}");
    let processes = marked(MARK, id).into_iter().map(|pid| format!("process {pid}"));
    let groups = cgroups(&name).into_iter().map(|dir| dir.display().to_string());
    let networks =
        names(Path::new("/run/netns"), &name).into_iter().chain(names(Path::new("/sys/class/net"), &format!("nv{id}")));
    let dir = std::env::temp_dir().join(format!("nave-lab-{id}"));
    let mounts = mounts_below(&dir).into_iter().map(|at| at.display().to_string());
    let files = names(&dir, "").into_iter().filter(|name| name != "logs");
    processes.chain(groups).chain(networks).chain(mounts).chain(files).collect()
}

fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|at| at.starts_with(dir)).collect()
}

fn ip(arguments: &[&str]) {
    let _ = Command::new("ip").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The lab's cgroups in every hierarchy (version 1 has one per controller) and in the unified one.
fn cgroups(prefix: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found: Vec<PathBuf> = names(root, prefix).into_iter().map(|name| root.join(name)).collect();
    for hierarchy in
        fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir())
    {
        found.extend(names(&hierarchy, prefix).into_iter().map(|name| hierarchy.join(name)));
    }
    found
}

fn members(dir: &Path) -> Vec<i32> {
    let mut all = Vec::new();
    descend(dir, &mut all);
    let lists = all.iter().filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
    lists.flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()).collect()
}

/// A directory and all directories in it, parents first; links are not followed.
fn descend(dir: &Path, found: &mut Vec<PathBuf>) {
    found.push(dir.to_path_buf());
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            descend(&entry.path(), found);
        }
    }
}

fn names(dir: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect()
}

fn numbers(dir: &Path) -> Vec<i32> {
    names(dir, "").iter().filter_map(|name| name.parse().ok()).collect()
}
