//! The socket that records arrive on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use collector_sys::RecvBatch;
use netlink_packet_audit::constants::{AUDIT_LOGIN, AUDIT_NLGRP_READLOG, AUDIT_REPLACE, AUDIT_SET};
use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_AUDIT};

use super::batch::Batch;
use super::counters::{Counters, add};
use crate::netlink::{NLMSG_DONE, NLMSG_ERROR, errno, message, split};
use crate::record::RecordType;
use crate::status::Change;

/// libaudit's `MAX_AUDIT_MESSAGE_LENGTH` (8970) and the header, rounded up.
const SLOT: usize = 9 * 1024;
const SLOTS: usize = 64;
/// Full batches that are put together before anything is handed on.
const ROUNDS: usize = 4;
/// Sequence number of the one request on this socket.
const REGISTER: u32 = 1;

pub(super) struct AuditSocket {
    socket: Socket,
    batch: RecvBatch,
    /// Answer to the request to become the owner: an errno, 0 for yes.
    answer: Option<i32>,
}

impl AuditSocket {
    /// # Errors
    /// What the kernel says; `EPROTONOSUPPORT` from one without audit.
    pub(super) fn open(buffer: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_AUDIT)?;
        socket.bind_auto()?;
        collector_sys::set_receive_buffer(&socket, buffer)?;
        Ok(Self {
            socket,
            batch: RecvBatch::new(SLOTS, SLOT),
            answer: None,
        })
    }

    /// Joins the multicast group that anybody with CAP_AUDIT_READ may read.
    pub(super) fn join(&self) -> io::Result<()> {
        self.socket.add_membership(AUDIT_NLGRP_READLOG)
    }

    /// Asks to own the stream. The kernel starts to send at once, so what arrives before the answer goes into `out`.
    ///
    /// # Errors
    /// The kernel's errno (`EEXIST`: there is an owner), or `TimedOut`.
    pub(super) fn register(
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
        for _ in 0..ROUNDS {
            let got = match self.batch.receive(&self.socket) {
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
                // Whoever has CAP_NET_ADMIN can send to our port; only port 0 is the kernel.
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
            if got < self.batch.slots() {
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
