//! Numbers that the kernel writes, by name: errors, signals, io_uring operations, file types, open flags, mount flags and so on.
//!
//! One table a kind, taken from the kernel's headers (named at each); nothing here allocates but the functions that join flags.

/// `enum io_uring_op`, `include/uapi/linux/io_uring.h` of 6.18, named as libaudit names them.
#[rustfmt::skip]
const URING_OPS: [&str; 63] = [
    "nop", "readv", "writev", "fsync", "read_fixed", "write_fixed", "poll_add", "poll_remove", "sync_file_range", "sendmsg",
    "recvmsg", "timeout", "timeout_remove", "accept", "async_cancel", "link_timeout", "connect", "fallocate", "openat", "close",
    "files_update", "statx", "read", "write", "fadvise", "madvise", "send", "recv", "openat2", "epoll_ctl", "splice",
    "provide_buffers", "remove_buffers", "tee", "shutdown", "renameat", "unlinkat", "mkdirat", "symlinkat", "linkat", "msg_ring",
    "fsetxattr", "setxattr", "fgetxattr", "getxattr", "socket", "uring_cmd", "send_zc", "sendmsg_zc", "read_multishot", "waitid",
    "futex_wait", "futex_wake", "futex_waitv", "fixed_fd_install", "ftruncate", "bind", "listen", "recv_zc", "epoll_wait",
    "readv_fixed", "writev_fixed", "pipe",
];

/// Name of an io_uring operation, `openat` for 18.
pub fn uring_op_name(op: u32) -> Option<&'static str> {
    URING_OPS.get(op as usize).copied()
}

/// Number of an io_uring operation.
pub fn uring_op_number(name: &str) -> Option<u32> {
    URING_OPS
        .iter()
        .position(|n| *n == name)
        .and_then(|i| u32::try_from(i).ok())
}
