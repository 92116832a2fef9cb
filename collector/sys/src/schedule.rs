//! Real-time priority.

use std::io;

/// Highest priority that is accepted: above the ordinary tasks, far below what the kernel's own threads use.
pub const MAX_PRIORITY: u8 = 10;

/// Gives the thread `tid` (0: the calling one) real-time priority `priority` (`SCHED_FIFO`, sched(7)), bounded to 1..=10,
/// or with `None` the ordinary policy. Children that it forks start with the ordinary policy (`SCHED_RESET_ON_FORK`).
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_NICE and where the host's cgroup allows no real-time tasks. Nothing is changed then.
pub fn set_realtime(tid: i32, priority: Option<u8>) -> io::Result<()> {
    let (policy, priority) = match priority {
        Some(p) => (
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            p.clamp(1, MAX_PRIORITY),
        ),
        None => (libc::SCHED_OTHER, 0),
    };
    let param = libc::sched_param {
        sched_priority: priority.into(),
    };
    // SAFETY: `param` is a valid sched_param that outlives the call; the kernel only reads it.
    if unsafe { libc::sched_setscheduler(tid, policy, &raw const param) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
