//! Freezing a container by its cgroup files: sensor side, no Docker, microseconds to write and about 0.1 ms to hold.
//!
//! Which file depends on the host, and so does the way in which Docker is brought to agree afterwards (it must say
//! "paused", or the next `docker` command of somebody else would surprise him):
//!
//! | host | frozen by | then Docker |
//! |---|---|---|
//! | hybrid, the container has a place in `unified` | `cgroup.freeze` there | pauses with the v1 freezer: `docker pause` simply works |
//! | v2 only | `cgroup.freeze` | is refused ("not running"), for it is the same file: see [`handover`] |
//! | v1 only | `freezer.state` | is refused likewise: see [`handover`] |
//!
//! Both files hold all descendants. Nothing is written unless the directory's name holds the container's id.

mod cgroup;
pub mod handover;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use cgroup::start_ticks;

/// How long [`freeze`] waits for the kernel to say that every task is held. Tasks in an uninterruptible wait can take
/// longer; they run no instruction of their own before they are held.
pub const SETTLE: Duration = Duration::from_millis(500);

/// The container to freeze, as the enricher knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeTarget {
    /// Full id.
    pub container_id: String,
    /// Its directory in the v2 tree (also the `unified` one of a hybrid host), absolute.
    pub cgroup_v2: Option<PathBuf>,
    /// Its directory in the v1 `freezer` tree, absolute.
    pub cgroup_freezer: Option<PathBuf>,
    /// Host pid of its first process; 0 when not known.
    pub init_pid: u32,
    /// Start time of that process, clock ticks since boot (`/proc/PID/stat`, field 22); 0 when not known.
    pub init_start_ticks: u64,
    /// Inode of the directory named after it, in the v2 tree when it has a place there; 0 when not known.
    #[serde(default)]
    pub cgroup_inode: u64,
}

/// Which file did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// `cgroup.freeze` below `unified` of a hybrid host; Docker's own freezer is another one.
    Hybrid,
    /// `cgroup.freeze` of a v2 host.
    V2,
    /// `freezer.state`.
    V1,
}

impl How {
    /// Must Docker's pause be prepared by [`handover::hold`], because it uses the very file that we used?
    pub fn needs_handover(self) -> bool {
        !matches!(self, Self::Hybrid)
    }
}

/// The container is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// By which file.
    pub how: How,
    /// From the first look to the kernel's word that all tasks are held.
    pub took: Duration,
    /// Did the kernel say so within [`SETTLE`]? If not the order stands, and some task sits in an uninterruptible wait.
    pub settled: bool,
    /// It was frozen before we came (a paused container, or our own earlier freeze).
    pub already: bool,
    /// Its first process is not the one that was known: it was restarted since. The id is the same, so it was frozen.
    pub restarted: bool,
}

/// The container was not frozen (or not thawed).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// The directories are unknown.
    #[error(
        "container {0} cannot be frozen: neither its v2 cgroup nor its v1 freezer is known; pause it with `docker pause`"
    )]
    NoCgroup(String),
    /// The directory is gone: so is the container.
    #[error("container {id} is gone: {dir} does not exist")]
    Gone {
        /// Container.
        id: String,
        /// Directory.
        dir: String,
    },
    /// The directory is not the container's.
    #[error(
        "{dir} is not the cgroup of container {id}: no part of it holds that id; nothing was written"
    )]
    NotItsOwn {
        /// Container.
        id: String,
        /// Directory.
        dir: String,
    },
    /// A container whose name can be used again was replaced.
    #[error(
        "container {id} is not the one that was seen: its cgroup or its first process (pid {pid}) is another one; nothing was written"
    )]
    Replaced {
        /// Container.
        id: String,
        /// First process as it was known.
        pid: u32,
    },
    /// The kernel refused.
    #[error("cannot {tried} {path}: {source}")]
    Io {
        /// Verb.
        tried: &'static str,
        /// File.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl FreezeError {
    /// Is there nothing left to freeze?
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// Freezes, and waits until it holds (at most [`SETTLE`]). Calling it again on a frozen container is no error.
///
/// # Errors
/// See [`FreezeError`]; when it is returned nothing was changed, unless it is [`FreezeError::Io`] with the verb `read`.
pub fn freeze(target: &FreezeTarget) -> Result<Frozen, FreezeError> {
    let begin = Instant::now();
    let place = place(target)?;
    let restarted = check_init(target)? | check_inode(target, &place)?;
    let already = place.frozen()?;
    if !already {
        place.write(true)?;
    }
    let settled = already || place.wait(true, begin + SETTLE)?;
    Ok(Frozen {
        how: place.how,
        took: begin.elapsed(),
        settled,
        already,
        restarted,
    })
}

/// Thaws what [`freeze`] froze, and waits until it runs. A container that is gone, or that runs already, is no error:
/// the answer says whether anything was thawed.
///
/// # Errors
/// [`FreezeError::Io`], [`FreezeError::NotItsOwn`], [`FreezeError::NoCgroup`].
pub fn thaw(target: &FreezeTarget) -> Result<bool, FreezeError> {
    let mut thawed = false;
    // Both, whichever was used: a host may have been rebooted into another layout while the container was quarantined.
    for (how, dir) in [
        (How::V2, &target.cgroup_v2),
        (How::V1, &target.cgroup_freezer),
    ] {
        let Some(dir) = dir else { continue };
        let dir = own_part(&target.container_id, dir)?;
        let place = cgroup::Place {
            how,
            dir: dir.to_owned(),
        };
        match place.frozen_or_freezing() {
            Ok(true) => {
                place.write(false)?;
                place.wait(false, Instant::now() + SETTLE)?;
                thawed = true;
            }
            Ok(false) => {}
            Err(e) if e.is_gone() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(thawed)
}

/// Freezes by the file that Docker's runtime uses (v1 freezer where there is one), whatever else holds the container. Docker can only
/// unpause what its runtime finds frozen; a release that finds it otherwise asks again after this.
///
/// # Errors
/// As [`thaw`], and [`FreezeError::Gone`].
pub fn freeze_as_docker(target: &FreezeTarget) -> Result<(), FreezeError> {
    let (how, dir) = match (&target.cgroup_freezer, &target.cgroup_v2) {
        (Some(dir), _) => (How::V1, dir),
        (None, Some(dir)) => (How::V2, dir),
        (None, None) => return Err(FreezeError::NoCgroup(target.container_id.clone())),
    };
    let place = cgroup::Place {
        how,
        dir: own_part(&target.container_id, dir)?.to_owned(),
    };
    place.write(true)?;
    place.wait(true, Instant::now() + SETTLE)?;
    Ok(())
}

/// Host pids of all its processes, sorted.
///
/// # Errors
/// As [`freeze`], when there is no cgroup to look into.
pub fn processes(target: &FreezeTarget) -> Result<Vec<u32>, FreezeError> {
    Ok(place(target)?.processes())
}

/// Is it frozen now, by either file?
///
/// # Errors
/// As [`thaw`], and [`FreezeError::Gone`].
pub fn is_frozen(target: &FreezeTarget) -> Result<bool, FreezeError> {
    let mut seen = None;
    for (how, dir) in [
        (How::V2, &target.cgroup_v2),
        (How::V1, &target.cgroup_freezer),
    ] {
        let Some(dir) = dir else { continue };
        let dir = own_part(&target.container_id, dir)?.to_owned();
        match (cgroup::Place { how, dir }).frozen() {
            Ok(frozen) => seen = Some(seen.unwrap_or(false) || frozen),
            Err(e) if e.is_gone() && seen.is_some() => {}
            Err(e) => return Err(e),
        }
    }
    seen.ok_or_else(|| FreezeError::NoCgroup(target.container_id.clone()))
}

/// Which directory of the target is to be used. The v2 one when it holds the container's processes, the v1 freezer else:
/// there are hybrid hosts on which Docker gives containers no place in `unified`.
fn place(target: &FreezeTarget) -> Result<cgroup::Place, FreezeError> {
    let id = &target.container_id;
    let v1 = target
        .cgroup_freezer
        .as_deref()
        .map(|d| own_part(id, d))
        .transpose();
    let mut gone = None;
    if let Some(dir) = &target.cgroup_v2 {
        let how = if target.cgroup_freezer.is_some() {
            How::Hybrid
        } else {
            How::V2
        };
        match own_part(id, dir) {
            Ok(dir) => {
                let place = cgroup::Place {
                    how,
                    dir: dir.to_owned(),
                };
                match place.populated() {
                    Ok(true) => return Ok(place),
                    Ok(false) if target.cgroup_freezer.is_none() => return Ok(place),
                    Ok(false) => {}
                    Err(e) => gone = Some(e),
                }
            }
            Err(e) => gone = Some(e),
        }
    }
    match (v1?, gone) {
        (Some(dir), _) => {
            let place = cgroup::Place {
                how: How::V1,
                dir: dir.to_owned(),
            };
            place.exists(id)?;
            Ok(place)
        }
        (None, Some(e)) => Err(e),
        (None, None) => Err(FreezeError::NoCgroup(id.clone())),
    }
}

/// The part of `dir` up to and with the component that holds the id. A container that is an init of its own (systemd,
/// Docker in Docker) moves its processes into cgroups further down; all of it is to be frozen.
fn own_part<'a>(id: &str, dir: &'a Path) -> Result<&'a Path, FreezeError> {
    let mut part = dir;
    let mut found = None;
    while let Some(name) = part.file_name() {
        if id.len() >= 4 && name.to_string_lossy().contains(id) {
            found = Some(part);
        }
        match part.parent() {
            Some(parent) => part = parent,
            None => break,
        }
    }
    found.ok_or_else(|| FreezeError::NotItsOwn {
        id: id.to_owned(),
        dir: dir.display().to_string(),
    })
}

/// Was the container restarted since it was seen? An id of 64 digits is never used twice, so freezing the directory with
/// that name is right also then: else an agent would escape by ending its first process. A shorter id is a name, and a
/// name can be given again: there a different start time stops us.
fn check_init(target: &FreezeTarget) -> Result<bool, FreezeError> {
    if target.init_pid == 0 || target.init_start_ticks == 0 {
        return Ok(false);
    }
    match start_ticks(target.init_pid) {
        Some(ticks) if ticks == target.init_start_ticks => Ok(false),
        None if !is_unique(&target.container_id) => Ok(false),
        _ if is_unique(&target.container_id) => Ok(true),
        _ => Err(FreezeError::Replaced {
            id: target.container_id.clone(),
            pid: target.init_pid,
        }),
    }
}

/// Is the directory the one that was seen? Of a container that was started again it is another one; for the rest see
/// [`check_init`].
fn check_inode(target: &FreezeTarget, place: &cgroup::Place) -> Result<bool, FreezeError> {
    // The inode that is known is that of the other tree.
    let other = place.how == How::V1 && target.cgroup_v2.is_some();
    if target.cgroup_inode == 0 || other {
        return Ok(false);
    }
    match place.inode() {
        Some(inode) if inode == target.cgroup_inode => Ok(false),
        None => Ok(false),
        Some(_) if is_unique(&target.container_id) => Ok(true),
        Some(_) => Err(FreezeError::Replaced {
            id: target.container_id.clone(),
            pid: target.init_pid,
        }),
    }
}

fn is_unique(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
