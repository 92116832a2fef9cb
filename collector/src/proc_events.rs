//! The proc connector: every fork, exec and exit of the machine, in the pids of the initial namespace.
//!
//! In: datagrams of `NETLINK_CONNECTOR`, group `CN_IDX_PROC` (`linux/connector.h`, `linux/cn_proc.h`). Out: [`ProcEvent`]s.
//! It does not know audit. The kernel queues the message about a fork before the child runs, so a reader that drains
//! this socket after it has taken a batch of audit records knows every process of that batch.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use std::{fmt, io};

use collector_sys::RecvBatch;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_CONNECTOR};

use crate::netlink::{NLMSG_DONE, message, split, u16_at, u32_at, u64_at};

const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
/// `struct cn_msg` without its data.
const CN_MSG_LEN: usize = 20;
/// `struct proc_event` up to its union.
const EVENT_HEADER_LEN: usize = 16;
/// Longest message that the kernel sends here: header, `cn_msg` and a `proc_event` of 40 bytes, with room to grow.
const SLOT: usize = 256;

/// One message of the proc connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcEvent {
    /// Nanoseconds of the monotonic clock (`CLOCK_MONOTONIC`, not counting suspend).
    pub at_ns: u64,
    /// Processor on which it happened.
    pub cpu: u32,
    /// The processor's own count of messages; it wraps.
    pub seq: u32,
    /// What happened.
    pub kind: ProcEventKind,
}

/// What happened to a process. `pid` is a thread's id and `tgid` its process's, both in the initial pid namespace;
/// where they are equal it is the process itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ProcEventKind {
    /// A process (`child_pid == child_tgid`) or a thread was made.
    Fork {
        parent_pid: u32,
        parent_tgid: u32,
        child_pid: u32,
        child_tgid: u32,
    },
    /// A program was executed.
    Exec { pid: u32, tgid: u32 },
    /// A thread ended. `code` is wait(2)'s status, `signal` what the parent gets (`u32::MAX`, -1, for a thread).
    Exit {
        pid: u32,
        tgid: u32,
        code: u32,
        signal: u32,
    },
    /// A thread named itself; the name ends at the first NUL.
    Comm { pid: u32, tgid: u32, comm: [u8; 16] },
    /// Real and effective user changed.
    Uid {
        pid: u32,
        tgid: u32,
        real: u32,
        effective: u32,
    },
    /// Real and effective group changed.
    Gid {
        pid: u32,
        tgid: u32,
        real: u32,
        effective: u32,
    },
    /// A new session.
    Sid { pid: u32, tgid: u32 },
    /// A tracer attached, or with `tracer_pid` 0 let go.
    Ptrace {
        pid: u32,
        tgid: u32,
        tracer_pid: u32,
        tracer_tgid: u32,
    },
    /// A process dumps core.
    Coredump { pid: u32, tgid: u32 },
    /// The kernel's answer to a subscription, anybody's: 0 or an errno.
    Ack { error: u32 },
    /// A kind that this version does not know.
    Unknown { what: u32 },
}

impl ProcEvent {
    /// Reads a datagram; `None` when it is no message of the proc connector or is cut.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let (kind, _, body) = split(datagram)?;
        if kind != NLMSG_DONE || u32_at(body, 0)? != CN_IDX_PROC || u32_at(body, 4)? != CN_VAL_PROC
        {
            return None;
        }
        let seq = u32_at(body, 8)?;
        let len = usize::from(u16_at(body, 16)?);
        let event = body.get(CN_MSG_LEN..CN_MSG_LEN + len)?;
        let field = |n: usize| u32_at(event, EVENT_HEADER_LEN + 4 * n);
        let kind = match u32_at(event, 0)? {
            0 => ProcEventKind::Ack { error: field(0)? },
            0x1 => ProcEventKind::Fork {
                parent_pid: field(0)?,
                parent_tgid: field(1)?,
                child_pid: field(2)?,
                child_tgid: field(3)?,
            },
            0x2 => ProcEventKind::Exec {
                pid: field(0)?,
                tgid: field(1)?,
            },
            0x4 => ProcEventKind::Uid {
                pid: field(0)?,
                tgid: field(1)?,
                real: field(2)?,
                effective: field(3)?,
            },
            0x40 => ProcEventKind::Gid {
                pid: field(0)?,
                tgid: field(1)?,
                real: field(2)?,
                effective: field(3)?,
            },
            0x80 => ProcEventKind::Sid {
                pid: field(0)?,
                tgid: field(1)?,
            },
            0x100 => ProcEventKind::Ptrace {
                pid: field(0)?,
                tgid: field(1)?,
                tracer_pid: field(2)?,
                tracer_tgid: field(3)?,
            },
            0x200 => ProcEventKind::Comm {
                pid: field(0)?,
                tgid: field(1)?,
                comm: event
                    .get(EVENT_HEADER_LEN + 8..EVENT_HEADER_LEN + 24)?
                    .try_into()
                    .ok()?,
            },
            0x4000_0000 => ProcEventKind::Coredump {
                pid: field(0)?,
                tgid: field(1)?,
            },
            0x8000_0000 => ProcEventKind::Exit {
                pid: field(0)?,
                tgid: field(1)?,
                code: field(2)?,
                signal: field(3)?,
            },
            what => ProcEventKind::Unknown { what },
        };
        Some(Self {
            at_ns: u64_at(event, 8)?,
            cpu: u32_at(event, 4)?,
            seq,
            kind,
        })
    }
}

/// Watches the per-processor counts for messages that never came.
#[derive(Debug, Default)]
pub struct SeqGaps {
    next: Vec<Option<u32>>,
}

/// What the kernel accounts in a receive queue for one message, bytes: the datagram of 76 bytes, its headers and the memory
/// that it was cut from (`truesize`; 768 on x86_64 of Linux 6.18, from what overflowing queues of known size held).
const ACCOUNTED: usize = 768;

/// Receive buffer, before the kernel doubles it. While every processor of a small host is busy with forks, the reader is not run
/// for 0.7 to 1.4 s, in which 45,000 messages were queued: 8 MiB held 21,800 of them, this holds 87,000.
pub const RECEIVE_BUFFER: usize = 32 << 20;

/// More messages than a receive queue of [`RECEIVE_BUFFER`] can hold.
pub(crate) const MAX_DRAIN: u64 = 1 << 17;

/// Processors whose count is followed; more are not counted (the kernel's own limit on x86_64 is 8192).
const MAX_CPUS: usize = 8192;

impl SeqGaps {
    /// Takes note of an event and returns how many messages of its processor are missing before it.
    ///
    /// An acknowledgement has no place in the count (it repeats the number of the request).
    pub fn missing(&mut self, event: &ProcEvent) -> u32 {
        if matches!(event.kind, ProcEventKind::Ack { .. }) {
            return 0;
        }
        let cpu = event.cpu as usize;
        if cpu >= MAX_CPUS {
            return 0;
        }
        if cpu >= self.next.len() {
            self.next.resize(cpu + 1, None);
        }
        let expected = self.next[cpu].replace(event.seq.wrapping_add(1));
        match expected.map(|expected| event.seq.wrapping_sub(expected)) {
            // A number behind the expected one is a repeat, not a gap of four thousand million.
            Some(gap) if gap < u32::MAX / 2 => gap,
            _ => 0,
        }
    }
}

/// Why there is no proc connector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The kernel has none.
    #[error(
        "this kernel has no proc connector; build it with CONFIG_CONNECTOR=y and CONFIG_PROC_EVENTS=y"
    )]
    Unsupported,
    /// Rights are missing.
    #[error(
        "may not listen to the proc connector; it needs CAP_NET_ADMIN in the initial namespaces"
    )]
    NotPermitted,
    /// Nothing answered.
    #[error(
        "the proc connector did not acknowledge the subscription within {0:?}; \
         it does so only for a process in the initial pid and user namespace of a kernel with CONFIG_PROC_EVENTS=y"
    )]
    NoAnswer(Duration),
    /// Anything else.
    #[error("could not {what} on the proc connector's socket: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ConnectorError {
    move |source| match source.raw_os_error() {
        Some(libc::EPROTONOSUPPORT) => ConnectorError::Unsupported,
        Some(libc::EPERM | libc::EACCES) => ConnectorError::NotPermitted,
        _ => ConnectorError::Io { what, source },
    }
}

/// What a call of [`Connector::drain`] met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Messages read.
    pub messages: u64,
    /// Messages known to be missing: gaps in the count, and what was over the limit.
    pub missing: u64,
    /// The kernel said that its queue overflowed (ENOBUFS), or a gap was seen, or the limit was reached.
    pub overrun: bool,
}

/// A subscription. The kernel ends it when the socket closes.
pub struct Connector {
    socket: Socket,
    batch: RecvBatch,
    gaps: SeqGaps,
    room: Room,
}

/// How much a receive buffer was to hold, and how much the kernel gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes asked for, as the kernel accounts them (twice the figure that setsockopt(2) is given).
    pub wanted: usize,
    /// Bytes that it may hold.
    pub got: usize,
}

impl Room {
    /// Gives `socket` at least a buffer of `buffer` bytes, or what the kernel allows: without CAP_NET_ADMIN that is
    /// `net.core.rmem_max`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(socket: impl AsFd, buffer: usize) -> io::Result<Self> {
        Ok(Self {
            wanted: buffer.saturating_mul(2),
            got: collector_sys::grow_receive_buffer(socket, buffer)?,
        })
    }

    /// Did the kernel give less?
    pub fn is_short(&self) -> bool {
        self.got < self.wanted
    }

    /// Messages of the proc connector that it holds before it overflows, about.
    pub fn messages(&self) -> usize {
        self.got / ACCOUNTED
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// Subscribes, with a receive buffer of `buffer` bytes, and waits for the kernel's acknowledgement.
    ///
    /// # Errors
    /// [`ConnectorError`].
    pub fn open(buffer: usize) -> Result<Self, ConnectorError> {
        const ANSWER: Duration = Duration::from_secs(2);
        let mut socket = Socket::new(NETLINK_CONNECTOR).map_err(failed("open"))?;
        // Port 0: the kernel chooses one. The group is joined by bind, which every kernel understands.
        socket
            .bind(&SocketAddr::new(0, 1 << (CN_IDX_PROC - 1)))
            .map_err(failed("bind"))?;
        let room = Room::make(&socket, buffer).map_err(failed("set the receive buffer"))?;
        if room.is_short() {
            tracing::warn!(
                "the proc connector's queue holds some {} messages, not {}: the kernel gave {} bytes of {}; give the monitor \
                 CAP_NET_ADMIN or raise net.core.rmem_max to {}, else a storm of short processes makes answers uncertain",
                room.messages(),
                room.wanted / ACCOUNTED,
                room.got,
                room.wanted,
                room.wanted / 2
            );
        }

        let mut body = Vec::with_capacity(CN_MSG_LEN + 4);
        for word in [CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, PROC_CN_MCAST_LISTEN] {
            body.extend_from_slice(&word.to_ne_bytes());
        }
        // The fifth word stands for `len` and `flags`, two halves, of which only the first is set.
        body[16..20].copy_from_slice(&[4u16.to_ne_bytes(), 0u16.to_ne_bytes()].concat());
        let request = message(NLMSG_DONE, 0, 0, &body);
        socket
            .send_to(&request, &SocketAddr::new(0, 0), 0)
            .map_err(failed("subscribe"))?;

        let mut connector = Self {
            socket,
            batch: RecvBatch::new(64, SLOT),
            gaps: SeqGaps::default(),
            room,
        };
        let until = Instant::now() + ANSWER;
        let mut seen = Vec::new();
        loop {
            seen.clear();
            connector
                .drain(&mut seen, usize::MAX)
                .map_err(failed("read"))?;
            for event in &seen {
                match event.kind {
                    ProcEventKind::Ack { error: 0 } => return Ok(connector),
                    ProcEventKind::Ack { error } if error == libc::EPERM as u32 => {
                        return Err(ConnectorError::NotPermitted);
                    }
                    _ => {}
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectorError::NoAnswer(ANSWER));
            }
            crate::live::wait_readable(&[connector.as_fd()], left).map_err(failed("wait"))?;
        }
    }

    /// What its receive buffer holds.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Appends everything that is queued to `out`, up to `limit` events in `out`; what is over it is read, counted as
    /// missing and dropped. Messages of other processes (not the kernel) are ignored.
    ///
    /// # Errors
    /// What recvmmsg(2) says beyond "nothing there", "interrupted" and "overflowed".
    pub fn drain(&mut self, out: &mut Vec<ProcEvent>, limit: usize) -> io::Result<Drained> {
        let mut drained = Drained::default();
        loop {
            let got = match self.batch.receive(&self.socket) {
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(drained),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    drained.overrun = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            for datagram in self.batch.datagrams().filter(|d| d.sender == 0) {
                let Some(event) = ProcEvent::parse(datagram.bytes) else {
                    continue;
                };
                drained.messages += 1;
                drained.missing += u64::from(self.gaps.missing(&event));
                if out.len() < limit {
                    out.push(event);
                } else {
                    drained.missing += 1;
                }
            }
            drained.overrun |= drained.missing > 0;
            // Whoever fills the queue as fast as it is read must not hold us here. What was queued when we came
            // is far behind by now: the queue never holds as many.
            if drained.messages >= MAX_DRAIN || got < self.batch.asked() {
                return Ok(drained);
            }
        }
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The bytes of a message, for tests and for recording.
pub fn encode(event: &ProcEvent) -> Vec<u8> {
    let (what, words): (u32, Vec<u32>) = match event.kind {
        ProcEventKind::Ack { error } => (0, vec![error]),
        ProcEventKind::Fork {
            parent_pid,
            parent_tgid,
            child_pid,
            child_tgid,
        } => (1, vec![parent_pid, parent_tgid, child_pid, child_tgid]),
        ProcEventKind::Exec { pid, tgid } => (2, vec![pid, tgid]),
        ProcEventKind::Uid {
            pid,
            tgid,
            real,
            effective,
        } => (4, vec![pid, tgid, real, effective]),
        ProcEventKind::Gid {
            pid,
            tgid,
            real,
            effective,
        } => (0x40, vec![pid, tgid, real, effective]),
        ProcEventKind::Sid { pid, tgid } => (0x80, vec![pid, tgid]),
        ProcEventKind::Ptrace {
            pid,
            tgid,
            tracer_pid,
            tracer_tgid,
        } => (0x100, vec![pid, tgid, tracer_pid, tracer_tgid]),
        ProcEventKind::Comm { pid, tgid, comm } => {
            let mut words = vec![pid, tgid];
            words.extend((0..4).filter_map(|n| u32_at(&comm, 4 * n)));
            (0x200, words)
        }
        ProcEventKind::Coredump { pid, tgid } => (0x4000_0000, vec![pid, tgid]),
        ProcEventKind::Exit {
            pid,
            tgid,
            code,
            signal,
        } => (0x8000_0000, vec![pid, tgid, code, signal]),
        ProcEventKind::Unknown { what } => (what, vec![]),
    };
    // The kernel always sends the whole structure, 40 bytes.
    let mut body = Vec::with_capacity(CN_MSG_LEN + 40);
    for word in [CN_IDX_PROC, CN_VAL_PROC, event.seq, 0] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    body.extend_from_slice(&40u16.to_ne_bytes());
    body.extend_from_slice(&0u16.to_ne_bytes());
    body.extend_from_slice(&what.to_ne_bytes());
    body.extend_from_slice(&event.cpu.to_ne_bytes());
    body.extend_from_slice(&event.at_ns.to_ne_bytes());
    words
        .iter()
        .for_each(|word| body.extend_from_slice(&word.to_ne_bytes()));
    body.resize(CN_MSG_LEN + 40, 0);
    message(NLMSG_DONE, 0, 0, &body)
}

#[cfg(test)]
#[path = "proc_events_tests.rs"]
mod tests;
