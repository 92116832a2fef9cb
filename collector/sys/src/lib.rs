//! The only unsafe code of the project: system calls that no safe crate wraps.
//!
//! In: borrowed descriptors and buffers of ours. Out: bytes and `io::Error`s. It knows neither audit nor netlink
//! messages, and everything that rustix wraps safely (poll, eventfd, socket options, prctl) is only passed on.
//!
//! | call | why it is here |
//! |---|---|
//! | `recvmmsg(2)` | rustix has no wrapper; one call takes up to a whole batch of datagrams |
//! | `getsockopt(2)` with `SO_MEMINFO` | rustix has no wrapper |
//! | `sched_setscheduler(2)`, `sched_getscheduler(2)`, `sched_getparam(2)` | rustix has no wrapper |
//! | `getrusage(2)` with `RUSAGE_THREAD` | rustix has no wrapper |

mod batch;
mod queue;
mod schedule;

use std::io;
use std::os::fd::AsFd;

pub use batch::{Datagram, RecvBatch};
pub use queue::{ReceiveQueue, receive_queue};
pub use schedule::{
    MAX_PRIORITY, Scheduling, Usage, scheduling, set_realtime, set_scheduling, thread_usage,
};

/// Sets the receive buffer of a socket beyond `net.core.rmem_max` (`SO_RCVBUFFORCE`, socket(7)) and returns what
/// the kernel then accounts, in bytes (it doubles the figure that it is given).
///
/// Without CAP_NET_ADMIN the ordinary `SO_RCVBUF` is used, which the kernel clips in silence: look at the result.
///
/// # Errors
/// What the kernel says when neither option can be set or read.
pub fn set_receive_buffer(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    let fd = fd.as_fd();
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(fd, bytes).is_err() {
        rustix::net::sockopt::set_socket_recv_buffer_size(fd, bytes)?;
    }
    Ok(rustix::net::sockopt::socket_recv_buffer_size(fd)?)
}

/// Gives a socket a receive buffer of at least `bytes` (before the kernel doubles it), and returns what the kernel then
/// accounts. A buffer that is large enough already is left alone: an administrator may have chosen it.
///
/// # Errors
/// As [`set_receive_buffer`].
pub fn grow_receive_buffer(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    let fd = fd.as_fd();
    let now = rustix::net::sockopt::socket_recv_buffer_size(fd)?;
    if now >= bytes.saturating_mul(2) {
        return Ok(now);
    }
    set_receive_buffer(fd, bytes)
}

/// Asks the kernel to kill the calling process with `SIGKILL` when the thread that made it ends (`PR_SET_PDEATHSIG`,
/// prctl(2)). A child that calls this should look afterwards whether its parent is still there.
///
/// # Errors
/// What the kernel says; none is known for a valid signal.
pub fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        rustix::process::Signal::KILL,
    ))?)
}
