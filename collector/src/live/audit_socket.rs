//! The socket that records arrive on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use collector_sys::RecvBatch;
use netlink_packet_audit::constants::{AUDIT_LOGIN, AUDIT_NLGRP_READLOG, AUDIT_REPLACE, AUDIT_SET};
use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_AUDIT};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::batch::Batch;
use super::counters::{Counters, add};
use crate::netlink::{NLMSG_DONE, NLMSG_ERROR, errno, message, split};
use crate::record::RecordType;
use crate::status::Change;

/// libaudit's `MAX_AUDIT_MESSAGE_LENGTH` (8970) and the header, rounded up.
const SLOT: usize = 9 * 1024;
const SLOTS: usize = 64;
/// Records that are put together before anything is handed on, about.
const TURN_RECORDS: u64 = 512;
/// Sequence number of the one request on this socket.
const REGISTER: u32 = 1;

pub(super) struct AuditSocket {
    socket: Socket,
    batch: RecvBatch,
    /// Answer to the request to become the owner: an errno, 0 for yes.
    answer: Option<i32>,
    /// Did records come through it?
    flows: bool,
}

impl AuditSocket {
    fn open(buffer: usize, batch: RecvBatch) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_AUDIT)?;
        socket.bind_auto()?;
        collector_sys::set_receive_buffer(&socket, buffer)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(super::TURN))?;
        Ok(Self {
            socket,
            batch,
            answer: None,
            flows: false,
        })
    }

    /// A socket in the multicast group that anybody with CAP_AUDIT_READ may read.
    ///
    /// # Errors
    /// What the kernel says; `EPROTONOSUPPORT` from one without audit.
    pub(super) fn listening(buffer: usize) -> io::Result<Self> {
        // Whoever has CAP_NET_ADMIN can send to the group: each datagram's sender is looked at.
        let this = Self::open(buffer, RecvBatch::new(SLOTS, SLOT))?;
        this.socket.add_membership(AUDIT_NLGRP_READLOG)?;
        Ok(this)
    }

    /// A socket that owns the stream. The kernel starts to send at once, so what arrives before its answer goes into `out`.
    ///
    /// It is connected to the kernel (port 0), which then refuses everybody else's datagrams (`netlink_getsockbyportid` in
    /// `net/netlink/af_netlink.c`), so that the sender of each need not be asked for.
    ///
    /// # Errors
    /// The kernel's errno (`EEXIST`: there is an owner), or `TimedOut`.
    pub(super) fn owning(
        buffer: usize,
        limit: Duration,
        out: &mut Batch,
        counters: &Counters,
    ) -> io::Result<Self> {
        let mut this = Self::open(buffer, RecvBatch::new(SLOTS, SLOT).without_senders())?;
        this.socket.connect(&SocketAddr::new(0, 0))?;
        this.register(limit, out, counters)?;
        Ok(this)
    }

    /// Did records come through it yet?
    pub(super) fn flows(&self) -> bool {
        self.flows
    }

    /// How full its queue is, 0 to 1.
    pub(super) fn fill(&self) -> f64 {
        // A kernel that cannot tell is one that may have to wait at any moment.
        collector_sys::receive_queue(&self.socket)
            .map_or(1.0, |queue| queue.used as f64 / queue.size.max(1) as f64)
    }

    /// Leaves the multicast group, so that the queue can be read empty, and returns the turns of [`AuditSocket::read`] that what is
    /// queued now takes at most. (To the socket of an owner that let go the kernel's thread still sends until its own queue was empty once.)
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn leave_group(&mut self) -> io::Result<usize> {
        self.socket.drop_membership(AUDIT_NLGRP_READLOG)?;
        // Every record is accounted with more than that.
        const LEAST: usize = 512;
        let used = collector_sys::receive_queue(&self.socket).map_or(256 << 20, |q| q.used);
        Ok(used / LEAST / TURN_RECORDS as usize + 2)
    }

    fn register(
        &mut self,
        limit: Duration,
        out: &mut Batch,
        counters: &Counters,
    ) -> io::Result<()> {
        let change = Change {
            pid: Some(std::process::id()),
            ..Change::default()
        }
        .to_message();
        let mut payload = vec![0; change.buffer_len()];
        change.emit(&mut payload);
        let request = message(AUDIT_SET, NLM_F_REQUEST | NLM_F_ACK, REGISTER, &payload);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
        let until = Instant::now() + limit;
        loop {
            self.read(out, counters)?;
            match self.answer {
                Some(0) => return Ok(()),
                Some(code) => return Err(io::Error::from_raw_os_error(code)),
                None => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            super::wait_readable(&[self.as_fd()], left)?;
        }
    }

    /// Appends what is queued to `out`, up to some hundred records, without waiting.
    ///
    /// # Errors
    /// What recvmmsg(2) says beyond "nothing there", "interrupted" and "overflowed".
    pub(super) fn read(&mut self, out: &mut Batch, counters: &Counters) -> io::Result<()> {
        self.read_with(out, counters, false)
    }

    /// The same, but waits for the first record, at most [`super::TURN`]: one system call where poll(2) would be a second.
    ///
    /// # Errors
    /// Those of [`AuditSocket::read`].
    pub(super) fn read_waiting(&mut self, out: &mut Batch, counters: &Counters) -> io::Result<()> {
        self.read_with(out, counters, true)
    }

    fn read_with(
        &mut self,
        out: &mut Batch,
        counters: &Counters,
        mut wait: bool,
    ) -> io::Result<()> {
        let mut taken = 0;
        while taken < TURN_RECORDS {
            let result = match std::mem::take(&mut wait) {
                true => self.batch.receive_waiting(&self.socket),
                false => self.batch.receive(&self.socket),
            };
            let got = match result {
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    add(&counters.enobufs, 1);
                    out.audit_overrun = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let (mut records, mut bytes) = (0, 0);
            for datagram in self.batch.datagrams() {
                // Only port 0 is the kernel.
                if datagram.sender != 0 {
                    add(&counters.foreign, 1);
                    continue;
                }
                let Some((kind, sequence, payload)) = split(datagram.bytes) else {
                    add(&counters.malformed, 1);
                    continue;
                };
                match kind {
                    NLMSG_ERROR if sequence == REGISTER => {
                        self.answer = self.answer.or(errno(payload))
                    }
                    0..=NLMSG_DONE => {}
                    AUDIT_REPLACE => add(&counters.replace_requests, 1),
                    // Answers to commands, of which only LOGIN is a record.
                    1000..=1099 if kind != AUDIT_LOGIN => {}
                    _ => {
                        add(&counters.truncated, datagram.truncated.into());
                        out.push(RecordType(kind), payload);
                        records += 1;
                        bytes += payload.len() as u64;
                    }
                }
            }
            add(&counters.records, records);
            add(&counters.bytes, bytes);
            taken += records;
            self.flows |= records > 0;
            if got < self.batch.asked() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl AsFd for AuditSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
