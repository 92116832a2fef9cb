//! Load on the host: programs that start all the time, and how long starting one takes meanwhile.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::Running;

/// Shells that start a program over and over until this goes away.
#[derive(Debug)]
pub struct Load(#[expect(dead_code, reason = "ends them when dropped")] Vec<Running>);

impl Load {
    /// Starts `shells` of them; two keep two processors busy.
    pub fn start(shells: usize) -> Self {
        let shell = || {
            Running::start(Command::new("/bin/sh").args(["-c", "while :; do /bin/true load; done"]))
        };
        Self((0..shells).map(|_| shell()).collect())
    }
}

/// Starts `/bin/true` over and over for `length`, and gives how often and the longest time that one start took.
///
/// # Panics
/// When it cannot be started at all.
pub fn slowest_exec(length: Duration) -> (usize, Duration) {
    let begin = Instant::now();
    let (mut runs, mut slowest) = (0, Duration::ZERO);
    while begin.elapsed() < length {
        let started = Instant::now();
        let status = Command::new("/bin/true").arg("slowest-exec").status();
        assert!(status.is_ok(), "cannot start /bin/true: {status:?}");
        slowest = slowest.max(started.elapsed());
        runs += 1;
    }
    (runs, slowest)
}
