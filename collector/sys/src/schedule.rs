//! Scheduling policy and real-time priority of a thread (sched(7)), and how much of a processor it uses.

use std::io;
use std::mem;
use std::time::Duration;

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

/// What a thread has used of its processors since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, in the kernel and outside of it.
    pub cpu: Duration,
    /// Voluntary context switches: how often it gave its processor away because it had to wait for something.
    pub waits: u64,
}

/// What the calling thread has used (`getrusage(2)` with `RUSAGE_THREAD`).
///
/// # Errors
/// What the kernel says; none is known.
pub fn thread_usage() -> io::Result<Usage> {
    // SAFETY: rusage is a plain C structure for which all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: `usage` is a valid rusage that outlives the call; the kernel only writes it.
    if unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    Ok(Usage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        waits: u64::try_from(usage.ru_nvcsw).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_thread_that_waits_is_told_from_one_that_works() {
        std::thread::spawn(|| {
            let begin = thread_usage().unwrap();
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let waited = thread_usage().unwrap();
            assert!(waited.waits >= begin.waits + 5, "{begin:?} {waited:?}");
            // By the thread's own clock, so that a busy machine does not matter.
            let until = Instant::now() + Duration::from_secs(20);
            let mut worked = waited;
            while worked.cpu < waited.cpu + Duration::from_millis(50) && Instant::now() < until {
                worked = thread_usage().unwrap();
            }
            assert!(
                worked.cpu >= waited.cpu + Duration::from_millis(50),
                "{worked:?}"
            );
            assert!(worked.waits < waited.waits + 5, "{waited:?} {worked:?}");
        })
        .join()
        .unwrap();
    }

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
