//! The live stream: audit records and process events, in the order that attribution needs.
//!
//! In: the audit netlink socket (as its owner, or through the multicast group) and the proc connector. Out: [`Batch`]es, on
//! a bounded channel or into a function, and [`Counters`]. It decodes nothing.
//!
//! Threads: one thread of our own, `audit-reader`, owns the sockets and never waits for anything but them and the end. It takes
//! audit records first and drains the connector second: a fork is queued before the child runs, so every batch carries the
//! forks of all processes in it. What the next stage does not take at once is held, up to [`HELD_BYTES`], and then stays in the
//! socket until that is half full; only then records are dropped and counted. So the kernel, which would make the
//! host's programs wait for us, never has to, and a pause of the next stage costs nothing that there is room for.
//!
//! [`Reader::switch`] changes from owner to listener and back while records flow: the new socket is opened before the old one
//! is read empty and closed, and what came through both is a duplicate that the assembler knows by its serial.

mod audit_socket;
mod batch;
mod counters;
mod reader;
mod sink;
mod switch;
mod worker;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use batch::Batch;
pub use counters::Counters;
pub use reader::{ActiveMode, LiveError, Mode, Reader, ReaderOptions};
pub use switch::Switch;
pub use worker::HELD_BYTES;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest wait of the reader: a heartbeat is due every 50 ms.
const TURN: Duration = Duration::from_millis(40);

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
