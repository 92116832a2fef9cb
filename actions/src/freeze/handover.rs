//! From our freeze to Docker's pause where both use the same file (v1 only, v2 only).
//!
//! runc pauses only what runs, so the freeze has to be taken off before Docker is asked; and nothing may run in between.
//! While the container is frozen every process gets SIGSTOP, which stays queued and takes effect before its next
//! instruction of its own; then it is thawed, stands still as stopped, and Docker pauses it. SIGCONT is sent while Docker
//! holds it and takes effect at unpause.
//!
//! 1. [`hold`] 2. ask the courier to pause 3. [`Held::paused`], or [`Held::not_paused`], which freezes again.
//!
//! A process outside the container that shares its pid namespace could send SIGCONT in between; nobody inside can. The
//! pid that is signalled is opened as a pidfd and looked up again in the cgroup first, so no other process is ever hit.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{FreezeError, FreezeTarget, Frozen, How, cgroup, freeze};

/// How long the processes may take to stand still after the thaw.
const STOP: Duration = Duration::from_millis(500);

/// A container whose processes are stopped by signal, ready for Docker's pause. It must be finished by [`Held::paused`]
/// or [`Held::not_paused`]; dropped without, its processes stay stopped (the safe side), which a warning says.
#[derive(Debug)]
#[must_use = "the container stays stopped by signals until `paused` or `not_paused` is called"]
pub struct Held {
    target: FreezeTarget,
    stopped: Vec<OwnedFd>,
    done: bool,
    /// How many processes were stopped.
    pub processes: usize,
    /// From the first signal to the last process standing still.
    pub took: Duration,
}

/// Makes a frozen container ready for Docker's pause. `None` when nothing has to be done (hybrid host).
///
/// # Errors
/// [`FreezeError`]; the container is then frozen as it was before.
pub fn hold(target: &FreezeTarget, frozen: &Frozen) -> Result<Option<Held>, FreezeError> {
    if !frozen.how.needs_handover() {
        return Ok(None);
    }
    let begin = Instant::now();
    let dir = match frozen.how {
        How::V1 => target.cgroup_freezer.as_deref(),
        How::Hybrid | How::V2 => target.cgroup_v2.as_deref(),
    };
    let dir = dir.ok_or_else(|| FreezeError::NoCgroup(target.container_id.clone()))?;
    let place = cgroup::Place {
        how: frozen.how,
        dir: super::own_part(&target.container_id, dir)?.to_owned(),
    };
    if !place.wait(true, begin + STOP)? {
        // Not all tasks are held: one of them could fork behind our back. The freeze stands, Docker is told later.
        return Err(FreezeError::Io {
            tried: "hand over to Docker the freeze of",
            path: place.dir.display().to_string(),
            source: std::io::ErrorKind::TimedOut.into(),
        });
    }
    let mut stopped = Vec::new();
    let mut pids = Vec::new();
    for pid in place.processes() {
        // Stopped by its own people before: it must not be continued at the release. (A v1 freezer hides that state.)
        if cgroup::stat(pid).is_none_or(|(state, _)| matches!(state, 'T' | 't' | 'Z' | 'X')) {
            continue;
        }
        if let Some(fd) = open_in(&target.container_id, pid)
            && pidfd_send_signal(&fd, Signal::STOP).is_ok()
        {
            stopped.push(fd);
            pids.push(pid);
        }
    }
    let mut held = Held {
        target: target.clone(),
        processes: stopped.len(),
        stopped,
        done: false,
        took: Duration::ZERO,
    };
    if let Err(e) = place
        .write(false)
        .and_then(|()| place.wait(false, Instant::now() + STOP).map(drop))
    {
        held.not_paused()?;
        return Err(e);
    }
    let limit = Instant::now() + STOP;
    let still = |pid: &u32| {
        cgroup::stat(*pid).is_none_or(|(state, _)| matches!(state, 'T' | 't' | 'Z' | 'X'))
    };
    while !pids.iter().all(still) && Instant::now() < limit {
        std::thread::sleep(Duration::from_micros(50));
    }
    held.took = begin.elapsed();
    Ok(Some(held))
}

/// A pidfd of a process that is in the container's cgroup, looked up after the pidfd was opened.
fn open_in(id: &str, pid: u32) -> Option<OwnedFd> {
    let fd = pidfd_open(
        Pid::from_raw(i32::try_from(pid).ok()?)?,
        PidfdFlags::empty(),
    )
    .ok()?;
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    cgroups.contains(id).then_some(fd)
}

impl Held {
    /// Docker paused it: the stop is taken back, and takes effect when Docker unpauses.
    pub fn paused(mut self) {
        self.resume();
    }

    /// Docker did not pause it: it is frozen by us again, and only then is the stop taken back.
    ///
    /// # Errors
    /// As [`freeze`]; the processes then stay stopped by signal.
    pub fn not_paused(mut self) -> Result<Option<Frozen>, FreezeError> {
        match freeze(&self.target) {
            Ok(frozen) => {
                self.resume();
                Ok(Some(frozen))
            }
            Err(e) if e.is_gone() => {
                self.done = true;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn resume(&mut self) {
        for fd in self.stopped.drain(..) {
            // ESRCH: it was killed meanwhile.
            let _ = pidfd_send_signal(&fd, Signal::CONT);
        }
        self.done = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.done {
            tracing::warn!(
                container = %self.target.container_id,
                processes = self.processes,
                "a handover to Docker was not finished: the processes stay stopped (SIGSTOP) until the container is released"
            );
        }
    }
}

/// Takes back the stop of a handover that nobody finished (the sensor was killed in between): SIGCONT to every stopped
/// process of the container. Called by a release, after which the container is to run.
pub fn resume_all(target: &FreezeTarget) -> usize {
    let mut resumed = 0;
    for (how, dir) in [
        (How::V2, &target.cgroup_v2),
        (How::V1, &target.cgroup_freezer),
    ] {
        let Some(Ok(dir)) = dir
            .as_deref()
            .map(|d| super::own_part(&target.container_id, d))
        else {
            continue;
        };
        for pid in (cgroup::Place {
            how,
            dir: dir.to_owned(),
        })
        .processes()
        {
            if cgroup::stat(pid).is_some_and(|(state, _)| state == 'T')
                && let Some(fd) = open_in(&target.container_id, pid)
                && pidfd_send_signal(&fd, Signal::CONT).is_ok()
            {
                resumed += 1;
            }
        }
    }
    resumed
}
