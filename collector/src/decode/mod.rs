//! What the bytes of a record mean.
//!
//! In: [`crate::Record`]s and [`crate::Event`]s. Out: names, numbers, paths, arguments, addresses. Nothing here
//! changes an event: what cannot be decoded is `None` here and stays raw there.

pub mod names;
mod syscall_tables;
pub mod syscalls;

pub use syscalls::{
    ARCH_AARCH64, ARCH_I386, ARCH_IO_URING, ARCH_X86_64, arch_name, arch_number, syscall_name,
    syscall_number,
};
