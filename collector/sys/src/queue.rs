//! How full the receive queue of a socket is.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// `SK_MEMINFO_VARS` of `linux/sock_diag.h`, with room for a kernel that knows more.
const VARS: usize = 16;
const RMEM_ALLOC: usize = 0;
const RCVBUF: usize = 1;

/// What a socket's receive queue holds and may hold, in bytes as the kernel accounts them (a short datagram counts with
/// all the memory that was taken for it, some two KiB for an audit record).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveQueue {
    /// Taken.
    pub used: usize,
    /// `SO_RCVBUF`.
    pub size: usize,
}

/// Asks for it (`SO_MEMINFO`, Linux 4.12).
///
/// # Errors
/// What getsockopt(2) says: `ENOPROTOOPT` from an older kernel.
pub fn receive_queue(fd: impl AsFd) -> io::Result<ReceiveQueue> {
    let mut vars = [0u32; VARS];
    let mut len = mem::size_of_val(&vars) as libc::socklen_t;
    // SAFETY: `vars` has `len` bytes, into which the kernel writes at most so many; both outlive the call.
    let done = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            vars.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ReceiveQueue {
        used: vars[RMEM_ALLOC] as usize,
        size: vars[RCVBUF] as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SendFlags, SocketAddrAny, SocketType, bind, getsockname};

    #[test]
    fn a_datagram_that_waits_is_counted_with_its_memory() {
        let socket = || rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        let (a, b) = (socket(), socket());
        bind(&b, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let to: SocketAddrAny = getsockname(&b).unwrap();
        let empty = receive_queue(&b).unwrap();
        assert_eq!(empty.used, 0);
        assert!(empty.size > 1000);
        rustix::net::sendto(&a, b"hello", SendFlags::empty(), &to).unwrap();
        let one = receive_queue(&b).unwrap();
        assert!(one.used > 5 && one.size == empty.size, "{one:?}");
    }
}
