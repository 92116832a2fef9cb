//! Where a name in a container really leads, asked of the kernel while the process or its container still runs.
//!
//! The container's file system is hostile: it may be one that never answers (FUSE). So only what the kernel has in its cache is
//! walked (`RESOLVE_CACHED`), where nothing can wait; what a call has just touched is there. The answer counts only when it is
//! the very file that the record names, by inode and device.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use collector::text::{to_bytes, to_text};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, major, minor, openat2, readlinkat};
use rustix::io::Errno;

use crate::procfs::Procfs;

/// Most names that are looked up in a second, some ten microseconds each.
const PER_SECOND: u32 = 2000;

/// What is left of this second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    since_ns: u64,
    used: u32,
}

impl Budget {
    /// Takes one, if one is left.
    pub fn allow(&mut self, now_ns: u64) -> bool {
        if now_ns >= self.since_ns + 1_000_000_000 {
            *self = Self {
                since_ns: now_ns,
                used: 0,
            };
        }
        self.used += 1;
        self.used <= PER_SECOND
    }
}

/// Path of the file `inode` on `dev` that `path` leads to in the root of process `pid`, without links.
pub fn resolve(proc: &Procfs, pid: u32, path: &str, inode: u64, dev: (u32, u32)) -> Option<String> {
    let root = File::open(proc.path(pid, "root")).ok()?;
    let name = to_bytes(path.trim_start_matches('/'));
    let follow = OFlags::PATH | OFlags::CLOEXEC;
    // What a call did to a link itself is recorded with the link's inode.
    for flags in [follow, follow | OFlags::NOFOLLOW] {
        let Some(file) = open_cached(&root, &name, flags) else {
            continue;
        };
        let stat = fstat(&file).ok()?;
        if stat.st_ino != inode || (major(stat.st_dev), minor(stat.st_dev)) != dev {
            continue;
        }
        let link = proc.path(std::process::id(), &format!("fd/{}", file.as_raw_fd()));
        let real = readlinkat(rustix::fs::CWD, link, Vec::new()).ok()?;
        let real = to_text(real.as_bytes()).into_owned();
        return (real.starts_with('/') && !real.ends_with(" (deleted)")).then_some(real);
    }
    None
}

/// The cache is walked without locks, so a change anywhere in the tree can make the kernel give up: a few attempts.
fn open_cached(root: &File, name: &[u8], flags: OFlags) -> Option<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    for _ in 0..3 {
        match openat2(root, name, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            other => return other.ok(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn own(path: &std::path::Path, link: bool) -> Option<String> {
        let meta = if link {
            path.symlink_metadata()
        } else {
            path.metadata()
        }
        .unwrap();
        let dev = (major(meta.dev()), minor(meta.dev()));
        resolve(
            &Procfs::new("/proc"),
            std::process::id(),
            path.to_str().unwrap(),
            meta.ino(),
            dev,
        )
    }

    #[test]
    fn links_lead_to_the_file_itself() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        std::fs::write(root.join("a/file"), "").unwrap();
        symlink("a", root.join("b")).unwrap();
        symlink("b/file", root.join("c")).unwrap();
        let real = root.join("a/file").to_str().unwrap().to_owned();
        assert_eq!(own(&root.join("c"), false), Some(real.clone()));
        assert_eq!(own(&root.join("b/../c"), false), Some(real));
        assert_eq!(
            own(&root.join("c"), true).as_deref(),
            root.join("c").to_str(),
            "the link itself"
        );
    }

    #[test]
    fn a_flood_of_names_is_not_looked_up() {
        let mut budget = Budget::default();
        let allowed = (0..10_000).filter(|_| budget.allow(5_000_000_000)).count();
        assert_eq!(allowed, PER_SECOND as usize);
        assert!(budget.allow(6_000_000_000));
    }

    #[test]
    fn another_file_under_that_name_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let proc = Procfs::new("/proc");
        assert_eq!(
            resolve(&proc, std::process::id(), path.to_str().unwrap(), 1, (0, 0)),
            None
        );
        assert_eq!(
            resolve(&proc, std::process::id(), "/no/such/file", 1, (0, 0)),
            None
        );
        assert_eq!(resolve(&proc, u32::MAX, "/", 1, (0, 0)), None);
    }
}
