//! A control group for each node: several kubelets on one machine would otherwise take each other's pods for orphans. Knows
//! both versions of cgroups.
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Act, Result};

/// Makes the group in every hierarchy; the supervisor removes it by its name.
pub(super) fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        // Version 2: what the kubelet counts must be passed on by the root. Not every machine has all of them.
        for controller in ["+cpu", "+cpuset", "+memory", "+pids", "+hugetlb"] {
            let _ = fs::write(hierarchy.join("cgroup.subtree_control"), controller);
        }
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).act(|| format!("make the cgroup {}", group.display()))?;
        // Version 1: a new cpuset is empty, and nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read_to_string(hierarchy.join(file)).map(|all| all.trim().to_owned()).as_deref()
                && !all.is_empty()
            {
                let _ = fs::write(group.join(file), all);
            }
        }
    }
    Ok(())
}

/// Whether groups can be made here at all.
pub(crate) fn work() -> bool {
    let name = format!("nave-probe-{}", std::process::id());
    let all = hierarchies();
    let made = all.iter().all(|hierarchy| fs::create_dir(hierarchy.join(&name)).is_ok());
    for hierarchy in &all {
        let _ = fs::remove_dir(hierarchy.join(&name));
    }
    made && !all.is_empty()
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mounted = fields.filter(|fields| matches!(fields.get(2), Some(&"cgroup" | &"cgroup2")));
    mounted.filter_map(|fields| fields.get(1).map(Path::new).map(Path::to_path_buf)).collect()
}
