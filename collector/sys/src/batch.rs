//! `recvmmsg(2)` into buffers that are used again and again.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::{mem, ptr};

/// One datagram of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What arrived, cut at the size of a slot.
    pub bytes: &'a [u8],
    /// Was the datagram longer than a slot?
    pub truncated: bool,
    /// Netlink port of the sender. 0 is the kernel; anything else is a process, whose word counts for nothing here.
    pub sender: u32,
}

#[derive(Clone, Copy, Default)]
struct Received {
    len: usize,
    truncated: bool,
    sender: u32,
}

/// Room for a number of datagrams and what the last call put there.
///
/// The vectors of C structures are kept for their memory alone: every call fills them anew with pointers into the other
/// fields, and no pointer is used after the call that it was made for.
pub struct RecvBatch {
    buffer: Box<[u8]>,
    slot: usize,
    named: bool,
    asked: usize,
    received: Vec<Received>,
    senders: Vec<libc::sockaddr_nl>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the raw pointers in `vectors` and `headers` are leftovers of the last call, point into memory that this value
// owns, and are thrown away before they could be used again; everything else in it may be sent.
unsafe impl Send for RecvBatch {}

impl RecvBatch {
    /// Room for `slots` datagrams of at most `slot` bytes each. Both are at least 1; `slots` is at most 1024, the
    /// kernel's `UIO_MAXIOV`.
    pub fn new(slots: usize, slot: usize) -> Self {
        let (slots, slot) = (slots.clamp(1, 1024), slot.max(1));
        Self {
            buffer: vec![0; slots * slot].into_boxed_slice(),
            slot,
            named: true,
            asked: slots,
            received: Vec::with_capacity(slots),
            // SAFETY: sockaddr_nl is a plain C structure for which all zeroes is a valid value.
            senders: vec![unsafe { mem::zeroed() }; slots],
            vectors: Vec::with_capacity(slots),
            headers: Vec::with_capacity(slots),
        }
    }

    /// Does not ask who sent a datagram ([`Datagram::sender`] is then 0): for a connected socket, on which only one can.
    pub fn without_senders(mut self) -> Self {
        self.named = false;
        self
    }

    /// Takes what is queued, without waiting, and returns the number of datagrams.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is queued, `ENOBUFS` when the kernel dropped datagrams for want of buffer since the
    /// last call (netlink(7)), and whatever else recvmmsg(2) says. The batch is then empty.
    pub fn receive(&mut self, fd: impl AsFd) -> io::Result<usize> {
        self.receive_with(fd, libc::MSG_DONTWAIT)
    }

    /// Waits for the first datagram (as long as the socket's `SO_RCVTIMEO` says) and takes what else is queued then.
    ///
    /// # Errors
    /// Those of [`RecvBatch::receive`]; `WouldBlock` when the time is over, `Interrupted` when a signal came.
    pub fn receive_waiting(&mut self, fd: impl AsFd) -> io::Result<usize> {
        self.receive_with(fd, libc::MSG_WAITFORONE)
    }

    fn receive_with(&mut self, fd: impl AsFd, flags: libc::c_int) -> io::Result<usize> {
        self.asked = self.next_asked();
        self.received.clear();
        self.vectors.clear();
        self.vectors.extend(
            self.buffer
                .chunks_exact_mut(self.slot)
                .take(self.asked)
                .map(|slot| libc::iovec {
                    iov_base: slot.as_mut_ptr().cast(),
                    iov_len: slot.len(),
                }),
        );
        self.headers.clear();
        self.headers
            .extend(
                self.vectors
                    .iter_mut()
                    .zip(&mut self.senders)
                    .map(|(vector, sender)| {
                        // SAFETY: mmsghdr is a plain C structure for which all zeroes is a valid value.
                        let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                        if self.named {
                            header.msg_hdr.msg_name = ptr::from_mut(sender).cast();
                            header.msg_hdr.msg_namelen =
                                mem::size_of::<libc::sockaddr_nl>() as libc::socklen_t;
                        }
                        header.msg_hdr.msg_iov = vector;
                        header.msg_hdr.msg_iovlen = 1;
                        header
                    }),
            );
        // SAFETY: `headers` holds as many entries as the length says. Each points to its own sockaddr_nl (with its
        // size) or to none, and to one iovec, which covers one disjoint slot of `buffer`; all of them belong to `self`, which is
        // borrowed mutably for this whole function, and none moves. A null timeout means none.
        let got = unsafe {
            libc::recvmmsg(
                fd.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                (flags | libc::MSG_TRUNC) as _,
                ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let (slot, named) = (self.slot, self.named);
        self.received
            .extend(
                self.headers
                    .iter()
                    .zip(&self.senders)
                    .take(got)
                    .map(|(header, sender)| {
                        let len = header.msg_len as usize;
                        Received {
                            len: len.min(slot),
                            truncated: len > slot
                                || header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                            sender: if named { sender.nl_pid } else { 0 },
                        }
                    }),
            );
        Ok(got)
    }

    /// How many datagrams the last call could have taken: when it took so many, there may be more.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// The structures of every slot are filled anew for each call: on a quiet socket a few are enough.
    fn next_asked(&self) -> usize {
        (self.received.len() * 2).clamp(8.min(self.senders.len()), self.senders.len())
    }

    /// What the last call brought, in the order of the queue.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.received
            .iter()
            .zip(self.buffer.chunks_exact(self.slot))
            .map(|(received, slot)| Datagram {
                bytes: &slot[..received.len],
                truncated: received.truncated,
                sender: received.sender,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SendFlags, SocketType, send, socketpair};

    fn pair() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            rustix::net::SocketFlags::empty(),
            None,
        )
        .unwrap()
    }

    #[test]
    fn more_slots_are_asked_for_while_they_fill() {
        let (a, b) = pair();
        let mut batch = RecvBatch::new(64, 8).without_senders();
        for _ in 0..60 {
            send(&a, b"x", SendFlags::empty()).unwrap();
        }
        let mut taken = vec![];
        while let Ok(got) = batch.receive_waiting(&b) {
            taken.push((got, batch.asked()));
            if got < batch.asked() {
                break;
            }
        }
        assert_eq!(taken, [(8, 8), (16, 16), (32, 32), (4, 64)]);
        assert_eq!(
            batch.receive(&b).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[test]
    fn a_batch_takes_what_is_queued_and_no_more() {
        let (a, b) = pair();
        let mut batch = RecvBatch::new(4, 8);
        assert_eq!(
            batch.receive(&b).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        for text in ["one", "", "three", "exactly8", "nine long"] {
            send(&a, text.as_bytes(), SendFlags::empty()).unwrap();
        }
        assert_eq!(batch.receive(&b).unwrap(), 4);
        let got: Vec<_> = batch
            .datagrams()
            .map(|d| (d.bytes.to_vec(), d.truncated))
            .collect();
        assert_eq!(
            got,
            [
                (b"one".to_vec(), false),
                (vec![], false),
                (b"three".to_vec(), false),
                (b"exactly8".to_vec(), false)
            ]
        );
        assert_eq!(batch.receive(&b).unwrap(), 1);
        let got: Vec<_> = batch
            .datagrams()
            .map(|d| (d.bytes.to_vec(), d.truncated))
            .collect();
        assert_eq!(got, [(b"nine lon".to_vec(), true)]);
        assert_eq!(
            batch.receive(&b).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(batch.datagrams().count(), 0);
    }
}
