//! What can be done to a running container from the host: its cgroups, its devices, its mounts.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Hierarchies;
use crate::mountinfo;
use crate::mounts::MountTable;
use crate::procfs::Procfs;

/// Something of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Path in the container.
    pub destination: String,
    /// Path on the host.
    pub host_path: String,
    /// May the container write there?
    pub writable: bool,
    /// Is access to it no finding?
    pub declared: bool,
    /// Device of the file system.
    pub dev: (u32, u32),
}

/// A running container, read from one of its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Full id.
    pub id: String,
    /// Host pid of the first process; 0 when only a later one could be read.
    pub init_pid: u32,
    /// Its start, in ticks since boot (`/proc/PID/stat`).
    pub init_start_ticks: u64,
    /// Directory in the unified cgroup hierarchy, absolute.
    pub cgroup_v2: Option<PathBuf>,
    /// Directory in the v1 freezer hierarchy, absolute.
    pub cgroup_freezer: Option<PathBuf>,
    /// Inode of its own directory (the one named after it) in the unified hierarchy, else in that of the v1 freezer; 0 when it
    /// cannot be had. A directory that is removed and made again has another one.
    #[serde(default)]
    pub cgroup_inode: u64,
    /// Device of the root file system.
    pub root_dev: Option<(u32, u32)>,
    /// Device of the container's own `/proc`.
    pub proc_dev: Option<(u32, u32)>,
    /// What is mounted from the host.
    pub mounts: Vec<BindMount>,
}

impl Runtime {
    /// Takes over what a table says about mounts from the host.
    pub fn set_mounts(&mut self, table: &MountTable) {
        self.mounts = table
            .of_host()
            .filter_map(|p| {
                Some(BindMount {
                    destination: p.destination.clone(),
                    host_path: p.host.first()?.clone(),
                    writable: p.writable,
                    declared: p.declared,
                    dev: p.dev,
                })
            })
            .collect();
    }
}

/// Why a runtime could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The process is gone, or may not be read.
    Gone,
    /// The runtime is still at work: the host's root is still mounted below the new one.
    Early,
    /// `/proc/PID/cgroup` names another container, or none.
    Contradiction(Option<String>),
}

/// What [`read`] found.
#[derive(Debug)]
pub struct Found {
    /// The container.
    pub runtime: Runtime,
    /// Its mounts, joined with the host's.
    pub mounts: MountTable,
    /// The host's, as they were meanwhile.
    pub host: Vec<mountinfo::Mount>,
}

/// Reads the runtime of container `id` from one of its processes. The process must be the same before and after.
///
/// The host's mounts are read between two looks at the container's: what was there both times held its device number all the
/// while, so that a mount of the host with that number is the same file system, and not one whose number was used again.
pub fn read(
    proc: &Procfs,
    hierarchies: &Hierarchies,
    id: &str,
    pid: u32,
    is_init: bool,
) -> Result<Found, Unread> {
    let (membership, before) = proc.membership(pid).ok_or(Unread::Gone)?;
    let named = membership.container.as_ref().map(|c| c.id.clone());
    // An id that somebody chose (`ctr run … web`) names no container by its shape, but it is the last part of the path.
    let chosen = named.is_none()
        && [&membership.unified, &membership.freezer]
            .into_iter()
            .flatten()
            .any(|path| path.rsplit('/').next() == Some(id));
    if named.as_deref() != Some(id) && !chosen {
        return Err(Unread::Contradiction(named));
    }
    let mut mounts = proc.mounts(pid).ok_or(Unread::Gone)?;
    let host = proc.own_mounts();
    let again = proc.mounts(pid).ok_or(Unread::Gone)?;
    let after = proc.stat(pid).ok_or(Unread::Gone)?;
    if before.start_ticks != after.start_ticks || mounts.is_empty() {
        return Err(Unread::Gone);
    }
    if mounts.iter().filter(|m| m.mount_point == "/").count() > 1 {
        return Err(Unread::Early);
    }
    let still: HashSet<_> = again.iter().map(place).collect();
    mounts.retain(|m| still.contains(&place(m)));
    let table = MountTable::join(&mounts, &host);
    let mut runtime = Runtime {
        id: id.to_owned(),
        init_pid: if is_init { pid } else { 0 },
        init_start_ticks: if is_init { after.start_ticks } else { 0 },
        cgroup_v2: membership
            .unified
            .as_deref()
            .and_then(|p| hierarchies.unified_dir(p))
            .filter(|d| d.is_dir()),
        cgroup_freezer: membership
            .freezer
            .as_deref()
            .and_then(|p| hierarchies.freezer_dir(p))
            .filter(|d| d.is_dir()),
        cgroup_inode: 0,
        root_dev: table.dev_of("/", None),
        proc_dev: table.dev_of("/proc", Some("proc")),
        mounts: Vec::new(),
    };
    let dir = runtime
        .cgroup_v2
        .as_deref()
        .or(runtime.cgroup_freezer.as_deref());
    runtime.cgroup_inode = dir.and_then(|d| own_inode(id, d)).unwrap_or(0);
    Ok(Found {
        runtime,
        mounts: table,
        host,
    })
}

/// What tells one mount from another.
fn place(mount: &mountinfo::Mount) -> (&str, (u32, u32), &str, &str) {
    (&mount.mount_point, mount.dev, &mount.root, &mount.fstype)
}

/// Inode of the uppermost directory on this path whose name holds the id: processes may have moved further down.
fn own_inode(id: &str, dir: &Path) -> Option<u64> {
    let named = |d: &&Path| {
        d.file_name()
            .is_some_and(|name| name.to_string_lossy().contains(id))
    };
    let own = dir.ancestors().filter(named).last()?;
    Some(std::fs::metadata(own).ok()?.ino())
}
