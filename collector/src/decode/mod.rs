//! What the bytes of a record mean.
//!
//! In: [`crate::Record`]s and [`crate::Event`]s. Out: names, numbers, paths, arguments, addresses. Nothing here
//! changes an event: what cannot be decoded is `None` here and stays raw there.

pub mod args;
mod exec;
pub mod flags;
mod interpret;
pub mod names;
mod path;
mod sockaddr;
mod syscall;
mod syscall_tables;
pub mod syscalls;

pub use args::{describe, describe_args};
pub use exec::encode_text;
pub use flags::{clone_flags, mount_flags, open_flags, ptrace_request};
pub use interpret::interpret;
pub use names::{
    capabilities, capability_name, errno_name, errno_number, mode_text, signal_name, signal_number,
    socket_family, uring_op_name, uring_op_number,
};
pub use path::{Nametype, PathItem};
pub use sockaddr::SocketAddress;
pub use syscall::{ObjPid, OpenHow, Syscall};
pub use syscalls::{
    ARCH_AARCH64, ARCH_I386, ARCH_IO_URING, ARCH_X86_64, arch_name, arch_number, syscall_name,
    syscall_number,
};

/// A user, group or session id that is not set (`AUDIT_UID_UNSET`).
pub const UNSET: u32 = u32::MAX;
