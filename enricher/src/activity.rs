//! `Activity`: one event with everything that is known of who did it, where, and to what.

use std::sync::Arc;

use collector::Event;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::container::Container;

/// What kind of thing was done.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Category {
    Process,
    File,
    Network,
    Mount,
    Ptrace,
    Module,
    Namespace,
    Credential,
    Seccomp,
    Config,
    #[default]
    Other,
}

/// When in the life of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The runtime prepares the container or an exec session: before the first exec, told by lineage, never by name.
    Setup,
    /// The container's own programs.
    Running,
    /// A program that `docker exec` or a health check started, and its children.
    Exec,
    /// Not in a container.
    #[default]
    Host,
}

/// How the actor's container was told, strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Our own process table: the container was inherited at fork.
    Table,
    /// Lineage: a child of a runtime that named the container.
    Lineage,
    /// `/proc/PID/cgroup`, with the start time of the process checked before and after.
    Proc,
    /// Nothing: the process was gone and no fork of it was seen.
    #[default]
    None,
}

/// How the actor was told, and how sure that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// Strongest source that answered.
    pub source: Source,
    /// May somebody be frozen on it?
    pub certain: bool,
}

/// One ancestor of the actor, nearest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Host pid.
    pub pid: u32,
    /// `comm`.
    pub comm: CompactString,
    /// Path of the program, empty when not known.
    pub exe: CompactString,
}

/// The process that acted. Text is [`collector::text`]'s lossless form of the kernel's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Host pid (thread group).
    pub pid: u32,
    /// Host pid of the parent.
    pub ppid: u32,
    /// Path of the program as the kernel resolved it, in the process's own mount namespace.
    pub exe: String,
    /// First 15 bytes of a name that the process can choose itself.
    pub comm: String,
    /// Arguments: of this exec, or of the last exec that was seen. Empty when not known.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// PROCTITLE, cut at 128 bytes by the kernel, blanks between arguments.
    pub title: Option<String>,
    /// User id.
    pub uid: Option<u32>,
    /// Effective user id.
    pub euid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Login uid; a container process may choose it, so it proves nothing.
    pub auid: Option<u32>,
    /// Name of the user, from the container's own passwd where that can be read.
    pub user: Option<String>,
    /// Terminal, `None` for `(none)`.
    pub tty: Option<String>,
    /// Program before this exec, when the event is one.
    pub previous_exe: Option<String>,
    /// Parent first.
    pub ancestors: Vec<Ancestor>,
}

/// The system call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyscallInfo {
    /// Name on its own ABI; the number as text when there is none.
    pub name: CompactString,
    /// Number on its own ABI; for io_uring the operation.
    pub number: u32,
    /// `x86_64`, `i386`, `aarch64`, …; `io_uring` for an operation of a ring.
    pub arch: CompactString,
    /// Did it succeed? `None` when the kernel does not say.
    pub success: Option<bool>,
    /// Return value.
    pub exit: i64,
    /// Name of the error, `EPERM`.
    pub errno: Option<CompactString>,
    /// The four registers that audit records.
    pub args: [u64; 4],
    /// Of an io_uring operation: the system call during which it ran (`io_uring_enter`), when the event has that too.
    pub within: Option<CompactString>,
    /// Names of all io_uring operations of the event, when there are several; `name` is the first of them.
    pub operations: Vec<CompactString>,
}

/// One PATH record, made whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathInfo {
    /// As the program gave it.
    pub name: String,
    /// Absolute in the actor's own root: cwd joined, `.` and `..` taken out by the names alone.
    pub path: String,
    /// Where that leads in the container, when symbolic links are in it and the kernel could still be asked.
    #[serde(default)]
    pub real_path: Option<String>,
    /// The same file on the host, when it lies on a mount from the host.
    pub host_path: Option<String>,
    /// Is that mount neither Docker's own nor declared? Then access to it is a finding.
    pub undeclared: bool,
    /// Inode; with `dev` the truth about which file it is.
    pub inode: Option<u64>,
    /// Device `00:27`.
    pub dev: Option<CompactString>,
    /// File type and permissions, octal in JSON.
    pub mode: Option<u32>,
    /// Owner.
    pub ouid: Option<u32>,
    /// NORMAL, PARENT, CREATE, DELETE, UNKNOWN.
    pub nametype: CompactString,
}

/// Address that a socket call named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketInfo {
    /// `inet`, `inet6`, `unix`, `netlink`, `packet`, …
    pub family: CompactString,
    /// Address or path; an abstract name starts with `@`.
    pub address: String,
    /// Port of inet and inet6.
    pub port: Option<u16>,
}

/// Another process that the call was aimed at (OBJ_PID).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Host pid.
    pub pid: u32,
    /// `comm`.
    pub comm: String,
    /// Id of its container, if it has one.
    pub container: Option<String>,
}

/// One event, enriched.
#[derive(Clone, Debug)]
pub struct Activity {
    /// The records as the kernel wrote them.
    pub event: Event,
    /// Kind.
    pub category: Category,
    /// Phase.
    pub phase: Phase,
    /// A process of the host that entered a container's namespaces (nsenter), phase `host`.
    pub entered: bool,
    /// Of phase `exec`: the container's health check, and what that started.
    pub health_check: bool,
    /// System call; `None` for a message that stands alone.
    pub syscall: Option<SyscallInfo>,
    /// Actor.
    pub process: Process,
    /// The actor's container.
    pub container: Option<Arc<Container>>,
    /// How that was told.
    pub attribution: Attribution,
    /// Files named.
    pub paths: Vec<PathInfo>,
    /// Address named.
    pub socket: Option<SocketInfo>,
    /// Process aimed at.
    pub target: Option<Target>,
    /// Keys of the kernel rules that let the event through.
    pub keys: Vec<CompactString>,
    /// Ids of the alerts that it raised (`A-42`), filled in behind the detector.
    pub alerts: Vec<CompactString>,
}
