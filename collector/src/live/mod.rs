//! The live stream: audit records and process events, in the order that attribution needs.
//!
//! In: the audit netlink socket (as its owner, or through the multicast group) and the proc connector. Out: [`Batch`]es on
//! a bounded channel, and [`Counters`]. It decodes nothing.
//!
//! Threads: one thread of our own, `audit-reader`, owns both sockets and never waits for anything but them, a full channel
//! (100 ms at most, then it drops and counts) and the end. It takes audit records first and drains the connector second: a fork
//! is queued before the child runs, so every batch carries the forks of all processes in it.

mod audit_socket;
mod batch;
mod counters;
mod reader;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use batch::Batch;
pub use counters::Counters;
pub use reader::{ActiveMode, LiveError, Mode, Reader, ReaderOptions};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until one of the descriptors can be read (or is in error), the time is over or a signal came.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], limit: Duration) -> io::Result<()> {
    let mut fds: smallvec::SmallVec<[PollFd<'_>; 4]> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: limit.as_secs().min(3600) as _,
        tv_nsec: limit.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
