//! Bounded reads of `/proc/PID/*` (proc(5)). Everything read here was true at the moment of reading only, so each answer
//! that names a process carries the start time, read before and after.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use collector::text::to_text;
use compact_str::CompactString;

use crate::cgroup::{self, Membership};
use crate::mountinfo;

/// Clock ticks a second that `/proc` counts in (`USER_HZ`): 100 on every architecture that Rust's std runs on.
pub const USER_HZ: u64 = 100;

/// `/proc`, or a directory like it.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
}

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Name.
    pub comm: CompactString,
    /// State, `R`, `S`, `Z`, ….
    pub state: char,
    /// Parent.
    pub ppid: u32,
    /// Threads.
    pub threads: u32,
    /// Start, ticks since boot (including suspend).
    pub start_ticks: u64,
}

/// One process as `/proc` shows it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Process id.
    pub pid: u32,
    /// Its stat line.
    pub stat: Stat,
    /// Its cgroups.
    pub membership: Membership,
    /// Program; empty for a kernel thread or when it may not be read.
    pub exe: String,
    /// Arguments.
    pub argv: Vec<String>,
}

impl Procfs {
    /// Usually `/proc`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Path of something about a process.
    pub fn path(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(name)
    }

    /// Process ids now.
    pub fn pids(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// `/proc/PID/stat`.
    pub fn stat(&self, pid: u32) -> Option<Stat> {
        parse_stat(&read(&self.path(pid, "stat"), 4096)?)
    }

    /// Cgroups of a process, with its start time, which was the same before and after.
    pub fn membership(&self, pid: u32) -> Option<(Membership, Stat)> {
        let before = self.stat(pid)?;
        let text = read(&self.path(pid, "cgroup"), 64 << 10)?;
        let after = self.stat(pid)?;
        (before.start_ticks == after.start_ticks)
            .then(|| (cgroup::parse(&String::from_utf8_lossy(&text)), after))
    }

    /// Everything about a process that a table is seeded with.
    pub fn snapshot(&self, pid: u32, max_args: usize) -> Option<Snapshot> {
        let before = self.stat(pid)?;
        let cgroup = read(&self.path(pid, "cgroup"), 64 << 10)?;
        let exe = self.link(pid, "exe").unwrap_or_default();
        let argv = split_args(&read(&self.path(pid, "cmdline"), max_args).unwrap_or_default());
        let stat = self.stat(pid)?;
        (before.start_ticks == stat.start_ticks).then(|| Snapshot {
            pid,
            stat,
            membership: cgroup::parse(&String::from_utf8_lossy(&cgroup)),
            exe,
            argv,
        })
    }

    /// Target of a link (`exe`, `cwd`, `fd/3`).
    pub fn link(&self, pid: u32, name: &str) -> Option<String> {
        use std::os::unix::ffi::OsStrExt;
        let target = std::fs::read_link(self.path(pid, name)).ok()?;
        Some(to_text(target.as_os_str().as_bytes()).into_owned())
    }

    /// Mounts of a process.
    pub fn mounts(&self, pid: u32) -> Option<Vec<mountinfo::Mount>> {
        read(&self.path(pid, "mountinfo"), 4 << 20).map(|text| mountinfo::parse(&text))
    }

    /// Our own mounts: the host's.
    pub fn own_mounts(&self) -> Vec<mountinfo::Mount> {
        read(&self.root.join("self/mountinfo"), 16 << 20)
            .map(|text| mountinfo::parse(&text))
            .unwrap_or_default()
    }

    /// Pid of a process inside its own pid namespace (the last of `NSpid:`).
    pub fn inner_pid(&self, pid: u32) -> Option<u32> {
        let status = read(&self.path(pid, "status"), 16 << 10)?;
        let text = String::from_utf8_lossy(&status);
        let line = text.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
        line.split_whitespace().next_back()?.parse().ok()
    }
}

/// Reads at most `max` bytes.
pub fn read(path: &Path, max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(max.min(1024));
    let max = u64::try_from(max).unwrap_or(u64::MAX);
    File::open(path)
        .ok()?
        .take(max)
        .read_to_end(&mut out)
        .ok()?;
    Some(out)
}

/// Arguments are separated by NUL; a program may have overwritten them with anything.
pub fn split_args(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|&b| b == 0)
        .map(|arg| to_text(arg).into_owned())
        .collect()
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name may hold anything, also `)` and blanks: the last `)` ends it.
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let comm = to_text(text.get(open + 1..close)?).as_ref().into();
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of proc(5) is fields[0].
    Some(Stat {
        comm,
        state: fields.first()?.chars().next()?,
        ppid: fields.get(1)?.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_own_process_is_read() {
        let proc = Procfs::new("/proc");
        let me = std::process::id();
        let snapshot = proc.snapshot(me, 4096).unwrap();
        assert!(snapshot.exe.contains("enricher") && !snapshot.argv.is_empty());
        assert!(snapshot.stat.start_ticks > 0 && snapshot.stat.threads >= 1);
        assert_eq!(
            proc.stat(me).unwrap().start_ticks,
            proc.membership(me).unwrap().1.start_ticks
        );
        assert!(proc.pids().contains(&me));
        assert!(!proc.own_mounts().is_empty());
        assert!(proc.snapshot(u32::MAX, 10).is_none());
    }

    #[test]
    fn a_name_with_parentheses_is_read() {
        let tail = " S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 1 1";
        let stat = parse_stat(format!("42 (a) b (c){tail}").as_bytes()).unwrap();
        assert_eq!(
            (
                stat.comm.as_str(),
                stat.ppid,
                stat.threads,
                stat.start_ticks
            ),
            ("a) b (c", 7, 3, 12345)
        );
    }

    #[test]
    fn empty_arguments_stay() {
        assert_eq!(split_args(b"sh\0-c\0\0x\0"), ["sh", "-c", "", "x"]);
        assert!(split_args(b"").is_empty());
    }

    proptest! {
        #[test]
        fn any_stat_is_survived(bytes: Vec<u8>) {
            parse_stat(&bytes);
        }
    }
}
