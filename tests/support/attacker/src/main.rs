//! The attacker of the end-to-end tests: one suspicious system call a run, made from inside a container.
//!
//! It is linked statically, so that it runs in an image that holds nothing but busybox. Each subcommand makes its call, prints
//! `result: ok` or `result: <ERRNO>` and exits with 0: a refused call is as much of a test case as one that went through. Only wrong
//! usage exits with 2. A call that needs a victim takes a child of our own, which is ended afterwards.

mod files;
mod mounts;
mod victims;

use std::process::ExitCode;

/// What a subcommand gives back: nothing, or the error number that the kernel gave.
type Outcome = Result<(), Failure>;

/// Why a subcommand did not do what it was asked to.
enum Failure {
    /// The kernel refused the call.
    Errno(nix::errno::Errno),
    /// An argument is missing or cannot be read.
    Usage(&'static str),
}

impl From<nix::errno::Errno> for Failure {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Errno(nix::errno::Errno::from_raw(errno.raw_os_error()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Errno(nix::errno::Errno::from_raw(
            error.raw_os_error().unwrap_or(0),
        ))
    }
}

const USAGE: &str = "usage: attacker COMMAND
  mount [TARGET]            mount a tmpfs (on /mnt)
  umount TARGET
  fsopen-move-mount [TARGET]  the same through fsopen, fsconfig, fsmount, move_mount
  open-tree [PATH]          open_tree with OPEN_TREE_CLONE (of /)
  mount-setattr [PATH]      mount_setattr (of /)
  pivot-root                pivot_root(\".\", \".\")
  ptrace-attach [PID]       without a PID, of a child of its own, here and below
  ptrace-seize [PID]
  ptrace-traceme
  poke                      attach to a child, PTRACE_POKEDATA
  process-vm-writev [PID]
  pidfd-getfd [PID]
  write-proc-mem [PID]      write to /proc/PID/mem
  write-file PATH           append one line
  read-file PATH
  connect-unix PATH         (@NAME is an abstract socket)
  spin-create-files DIR     create and remove files until killed
  sleep [SECONDS]           (without SECONDS for an hour)";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arg = words.get(1).map(String::as_str);
    let outcome = match words.first().map(String::as_str) {
        Some("mount") => mounts::mount(arg),
        Some("umount") => needed(arg, "umount TARGET").and_then(mounts::umount),
        Some("fsopen-move-mount") => mounts::fsopen_move_mount(arg),
        Some("open-tree") => mounts::open_tree(arg),
        Some("mount-setattr") => mounts::mount_setattr(arg),
        Some("pivot-root") => mounts::pivot_root(),
        Some("ptrace-attach") => victims::attach(arg),
        Some("ptrace-seize") => victims::seize(arg),
        Some("ptrace-traceme") => victims::traceme(),
        Some("poke") => victims::poke(),
        Some("process-vm-writev") => victims::process_vm_writev(arg),
        Some("pidfd-getfd") => victims::pidfd_getfd(arg),
        Some("write-proc-mem") => victims::write_proc_mem(arg),
        Some("write-file") => needed(arg, "write-file PATH").and_then(files::append),
        Some("read-file") => needed(arg, "read-file PATH").and_then(files::read),
        Some("connect-unix") => needed(arg, "connect-unix PATH").and_then(files::connect_unix),
        Some("spin-create-files") => {
            needed(arg, "spin-create-files DIR").and_then(files::spin_create)
        }
        Some("sleep") => files::sleep(arg),
        _ => Err(Failure::Usage(USAGE)),
    };
    match outcome {
        Ok(()) => println!("result: ok"),
        Err(Failure::Errno(errno)) => println!("result: {errno:?}"),
        Err(Failure::Usage(text)) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// The argument that a subcommand cannot do without.
fn needed<'a>(arg: Option<&'a str>, usage: &'static str) -> Result<&'a str, Failure> {
    arg.ok_or(Failure::Usage(usage))
}
