//! Real-time priority of the kernel's audit thread, and of threads of ours ([`Held`]).
//!
//! Every record passes through `kauditd`, so that on a busy host the reader's own priority is half of the matter. What it was is part
//! of [`crate::settings::SavedState`], and is put back with it. The priority is bounded ([`MAX_PRIORITY`]), a thread of ours gives its
//! own up when it uses a whole processor, and the kernel leaves ordinary tasks 5 % of each
//! processor whatever real-time tasks do (`kernel.sched_rt_runtime_us`, sched(7)).

mod held;

use std::fs;
use std::io;

pub use collector_sys::MAX_PRIORITY;
use collector_sys::Scheduling;
pub use held::{Held, HeldCounters};
use serde::{Deserialize, Serialize};

/// Policy and priority of a thread, as saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedScheduling {
    /// `SCHED_OTHER` 0, `SCHED_FIFO` 1, `SCHED_RR` 2, …
    pub policy: i32,
    /// 1 to 99 for real-time policies, else 0.
    pub priority: i32,
}

/// Why the kernel's audit thread keeps its priority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RealtimeError {
    /// It is not to be seen.
    #[error(
        "the kernel's audit thread (kauditd) is not in /proc; it is seen from the initial pid namespace only"
    )]
    NoThread,
    /// The kernel said no.
    #[error(
        "could not {what} the kernel's audit thread (kauditd, pid {pid}): {source}; it needs CAP_SYS_NICE, \
         and a cgroup that allows real-time tasks"
    )]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Its pid.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The pid of the kernel's audit thread: the child of kthreadd (pid 2) that is called so. Anybody may take the name,
/// nobody else that parent.
pub fn kauditd() -> Option<i32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        is_kauditd(&stat).then_some(pid)
    })
}

/// `30 (kauditd) S 2 …`
fn is_kauditd(stat: &str) -> bool {
    stat.split_once(" (").is_some_and(|(_, rest)| {
        rest.rsplit_once(") ")
            .is_some_and(|(name, rest)| name == "kauditd" && rest.split(' ').nth(1) == Some("2"))
    })
}

/// How the kernel's audit thread is scheduled; `None` where it cannot be seen.
pub fn kauditd_scheduling() -> Option<SavedScheduling> {
    let found = collector_sys::scheduling(kauditd()?).ok()?;
    Some(SavedScheduling {
        policy: found.policy,
        priority: found.priority,
    })
}

/// Gives the kernel's audit thread a real-time priority, bounded to 1..=[`MAX_PRIORITY`].
///
/// # Errors
/// [`RealtimeError`]; nothing is changed then.
pub fn raise_kauditd(priority: u8) -> Result<(), RealtimeError> {
    set("raise the priority of", Scheduling::realtime(priority))
}

/// Puts back what [`kauditd_scheduling`] found. Says whether anything had to be changed.
///
/// # Errors
/// [`RealtimeError::Refused`]; a thread that cannot be seen was not changed either.
pub fn restore_kauditd(saved: SavedScheduling) -> Result<bool, RealtimeError> {
    match kauditd_scheduling() {
        Some(now) if now != saved => {
            let wanted = Scheduling {
                policy: saved.policy,
                priority: saved.priority,
            };
            set("put back the priority of", wanted).map(|()| true)
        }
        _ => Ok(false),
    }
}

fn set(what: &'static str, wanted: Scheduling) -> Result<(), RealtimeError> {
    let pid = kauditd().ok_or(RealtimeError::NoThread)?;
    collector_sys::set_scheduling(pid, wanted).map_err(|source| RealtimeError::Refused {
        what,
        pid,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_child_of_kthreadd_is_the_kernels_thread() {
        assert!(is_kauditd("30 (kauditd) S 2 0 0 0 -1"));
        assert!(!is_kauditd("3000 (kauditd) S 2999 3000 0 0 -1"));
        assert!(!is_kauditd("3000 (a) S 2 (kauditd) S 2 0"));
        assert!(!is_kauditd("31 (kswapd0) S 2 0 0 0"));
        assert!(!is_kauditd(""));
    }
}
