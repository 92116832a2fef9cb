//! Scheduling policy and real-time priority of a thread (sched(7)).

use std::io;

/// Highest priority that is given: above the ordinary tasks, far below what the kernel's own threads use.
pub const MAX_PRIORITY: u8 = 10;

/// Policy and priority of a thread, in the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_OTHER` 0, `SCHED_FIFO` 1, `SCHED_RR` 2, `SCHED_BATCH` 3, `SCHED_IDLE` 5; `SCHED_RESET_ON_FORK` 0x40000000 may be
    /// added.
    pub policy: i32,
    /// 1 to 99 for the two real-time policies, 0 for the others.
    pub priority: i32,
}

impl Scheduling {
    /// What every thread begins with.
    pub const ORDINARY: Self = Self {
        policy: libc::SCHED_OTHER,
        priority: 0,
    };

    /// Real-time priority (`SCHED_FIFO`), bounded to 1..=[`MAX_PRIORITY`]. Children start with the ordinary policy
    /// (`SCHED_RESET_ON_FORK`).
    pub fn realtime(priority: u8) -> Self {
        Self {
            policy: libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            priority: priority.clamp(1, MAX_PRIORITY).into(),
        }
    }

    /// Is it one of the two real-time policies?
    pub fn is_realtime(self) -> bool {
        matches!(
            self.policy & !libc::SCHED_RESET_ON_FORK,
            libc::SCHED_FIFO | libc::SCHED_RR
        )
    }
}

/// How the thread `tid` (0: the calling one) is scheduled.
///
/// # Errors
/// `ESRCH`: there is no such thread.
pub fn scheduling(tid: i32) -> io::Result<Scheduling> {
    // SAFETY: takes a number and gives one.
    let policy = unsafe { libc::sched_getscheduler(tid) };
    if policy < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` is a valid sched_param that outlives the call.
    if unsafe { libc::sched_getparam(tid, &raw mut param) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Scheduling {
        policy,
        priority: param.sched_priority,
    })
}

/// Schedules the thread `tid` (0: the calling one) so. Meant for [`Scheduling::realtime`], and to put back what
/// [`scheduling`] found.
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_NICE and where the host's cgroup allows no real-time tasks. Nothing is changed then.
pub fn set_scheduling(tid: i32, wanted: Scheduling) -> io::Result<()> {
    let param = libc::sched_param {
        sched_priority: wanted.priority,
    };
    // SAFETY: `param` is a valid sched_param that outlives the call; the kernel only reads it.
    if unsafe { libc::sched_setscheduler(tid, wanted.policy, &raw const param) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the thread `tid` (0: the calling one) [`Scheduling::realtime`], or with `None` the ordinary policy.
///
/// # Errors
/// Those of [`set_scheduling`].
pub fn set_realtime(tid: i32, priority: Option<u8>) -> io::Result<()> {
    set_scheduling(
        tid,
        priority.map_or(Scheduling::ORDINARY, Scheduling::realtime),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_bounded_and_an_ordinary_thread_is_ordinary() {
        assert_eq!(Scheduling::realtime(0).priority, 1);
        assert_eq!(Scheduling::realtime(99).priority, i32::from(MAX_PRIORITY));
        assert!(Scheduling::realtime(3).is_realtime());
        std::thread::spawn(|| {
            set_scheduling(0, Scheduling::ORDINARY).unwrap();
            assert_eq!(scheduling(0).unwrap(), Scheduling::ORDINARY);
            assert!(!scheduling(0).unwrap().is_realtime());
        })
        .join()
        .unwrap();
        assert!(scheduling(i32::MAX).is_err());
    }
}
