//! Where a name in a container really leads, asked of the kernel while the process or its container still runs.
//!
//! The container's file system is hostile: it may be one that never answers (FUSE). So only what the kernel has in its cache is
//! walked (`RESOLVE_CACHED`), where nothing can wait; what a call has just touched is there. The answer counts only when it is
//! the very file that the record names, by inode and device.
//!
//! overlayfs does not tell where a link leads without waiting (`ovl_get_link` gives up in RCU mode), and a container's root is one. So
//! where the kernel does not walk by itself we do, name by name, and read links that lie on file systems which the engine mounted and
//! which do not wait for a program. `..` of the root is the root, whatever a link says.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use collector::text::{to_bytes, to_text};
use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, Stat, fstat, major, minor, openat2, readlinkat,
};
use rustix::io::Errno;

use crate::procfs::Procfs;
use crate::table::Key;

/// Most names that are looked up in a second for each of two reasons, some ten microseconds each.
const PER_SECOND: u32 = 2000;
/// Files of which it is remembered where their names lead, and for how long: a directory above can be renamed.
const MAX_KNOWN: usize = 4096;
const KNOWN_NS: u64 = 10_000_000_000;
/// Longer names are looked up each time.
const MAX_NAME: usize = 256;
/// Links and parts of a name, as path_resolution(7) bounds them.
const MAX_LINKS: usize = 40;
const MAX_PARTS: usize = 512;

/// Major and minor number.
pub type Dev = (u32, u32);

/// Where the names of files lead, for a while.
#[derive(Debug, Default)]
pub struct Known {
    files: HashMap<(Key, u64, Dev), Place>,
}

#[derive(Debug)]
struct Place {
    name: String,
    real: String,
    since_ns: u64,
}

impl Known {
    /// Where `name` of this very file was found to lead.
    pub fn get(&self, file: (Key, u64, Dev), name: &str, now_ns: u64) -> Option<&str> {
        let place = self.files.get(&file)?;
        (place.name == name && now_ns < place.since_ns + KNOWN_NS).then_some(place.real.as_str())
    }

    /// Remembers it.
    pub fn put(&mut self, file: (Key, u64, Dev), name: &str, real: &str, now_ns: u64) {
        if name.len().max(real.len()) > MAX_NAME {
            return;
        }
        if self.files.len() >= MAX_KNOWN {
            self.files.retain(|_, p| now_ns < p.since_ns + KNOWN_NS);
        }
        if self.files.len() >= MAX_KNOWN {
            self.files.clear();
        }
        let place = Place {
            name: name.to_owned(),
            real: real.to_owned(),
            since_ns: now_ns,
        };
        self.files.insert(file, place);
    }
}

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

/// Path of the file `inode` on `dev` that `path` leads to in the root of process `pid`, without links. `plain` says of a device
/// whether links on it can be read without waiting for anybody.
pub fn resolve(
    proc: &Procfs,
    pid: u32,
    path: &str,
    inode: u64,
    dev: Dev,
    plain: impl Fn(Dev) -> bool,
) -> Option<String> {
    let root = File::open(proc.path(pid, "root")).ok()?;
    let name = to_bytes(path.trim_start_matches('/'));
    let is_it = |stat: &Stat| stat.st_ino == inode && dev_of(stat) == dev;
    // What a call did to a link itself is recorded with the link's inode.
    for flags in [PATH, PATH | OFlags::NOFOLLOW] {
        let Some(file) = open_cached(root.as_fd(), &name, flags) else {
            let follow = !flags.contains(OFlags::NOFOLLOW);
            match walk(&root, &name, follow, &plain) {
                // Below the root of the process, which need not be the container's (chroot).
                Some((real, stat)) if is_it(&stat) => {
                    let above = proc.link(pid, "root")?;
                    return Some(match above.as_str() {
                        "/" => real,
                        above => format!("{above}{real}"),
                    });
                }
                _ => continue,
            }
        };
        if !is_it(&fstat(&file).ok()?) {
            continue;
        }
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let real = readlinkat(rustix::fs::CWD, link, Vec::new()).ok()?;
        let real = to_text(real.as_bytes()).into_owned();
        return (real.starts_with('/') && !real.ends_with(" (deleted)")).then_some(real);
    }
    None
}

const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

fn dev_of(stat: &Stat) -> Dev {
    (major(stat.st_dev), minor(stat.st_dev))
}

/// Name by name from the root, links read where that does not wait.
fn walk(
    root: &File,
    path: &[u8],
    follow: bool,
    plain: &impl Fn(Dev) -> bool,
) -> Option<(String, Stat)> {
    let parts = |text: &[u8]| -> Vec<Vec<u8>> {
        let parts = text.rsplit(|&b| b == b'/');
        parts
            .filter(|p| !p.is_empty() && *p != b".")
            .map(<[u8]>::to_vec)
            .collect()
    };
    // What is left, the next one last; the way from the root.
    let mut todo = parts(path);
    let mut at: Vec<(OwnedFd, Vec<u8>, Stat)> = Vec::new();
    let (mut links, mut steps) = (0, 0);
    while let Some(part) = todo.pop() {
        steps += 1;
        if steps > MAX_PARTS {
            return None;
        }
        if part == b".." {
            at.pop();
            continue;
        }
        let dir = at.last().map_or(root.as_fd(), |(dir, ..)| dir.as_fd());
        let file = open_cached(dir, &part, PATH | OFlags::NOFOLLOW)?;
        let stat = fstat(&file).ok()?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if !is_link || todo.is_empty() && !follow {
            at.push((file, part, stat));
            continue;
        }
        links += 1;
        if links > MAX_LINKS || !plain(dev_of(&stat)) {
            return None;
        }
        let target = readlinkat(&file, "", Vec::new()).ok()?;
        if target.as_bytes().starts_with(b"/") {
            at.clear();
        }
        todo.extend(parts(target.as_bytes()));
    }
    let (_, _, stat) = at.last()?;
    let stat = *stat;
    let mut real = Vec::new();
    for (_, name, _) in &at {
        real.push(b'/');
        real.extend_from_slice(name);
    }
    Some((to_text(&real).into_owned(), stat))
}

/// The cache is walked without locks, so a change anywhere in the tree can make the kernel give up: a few attempts.
fn open_cached(root: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Option<OwnedFd> {
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
            |_| true,
        )
    }

    fn root() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/deep")).unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        std::fs::write(dir.path().join("etc/shadow"), "").unwrap();
        for (target, link) in [
            ("/etc/shadow", "tmp/absolute"),
            ("../etc", "tmp/relative"),
            ("absolute", "tmp/again"),
            ("../../../../../../../../etc/shadow", "tmp/out"),
            ("tmp/loop", "tmp/loop"),
            ("/tmp/loop", "tmp/loop2"),
            ("/etc/deep", "tmp/deep"),
        ] {
            symlink(target, dir.path().join(link)).unwrap();
        }
        let root = File::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_walk_follows_links_and_never_leaves_the_root() {
        let (_dir, root) = root();
        let walked =
            |path: &str, follow| walk(&root, path.as_bytes(), follow, &|_| true).map(|w| w.0);
        let shadow = Some("/etc/shadow".to_owned());
        for path in [
            "tmp/absolute",
            "tmp/relative/shadow",
            "tmp/again",
            "tmp/out",
            "tmp/relative/../tmp//./again",
            "../../etc/shadow",
            // Of a link's target, not of the place where the link lies.
            "tmp/deep/../shadow",
        ] {
            assert_eq!(walked(path, true), shadow, "{path}");
        }
        assert_eq!(
            walked("tmp/absolute", false).as_deref(),
            Some("/tmp/absolute")
        );
        for path in ["tmp/loop", "tmp/loop2", "tmp/nothing", "..", ""] {
            assert_eq!(walked(path, true), None, "{path}");
        }
    }

    #[test]
    fn a_link_on_a_file_system_that_may_wait_is_not_read() {
        let (_dir, root) = root();
        assert!(walk(&root, b"tmp/absolute", true, &|_| false).is_none());
        assert!(
            walk(&root, b"etc/shadow", true, &|_| false).is_some(),
            "no link is in it"
        );
    }

    #[test]
    fn what_is_known_is_of_one_file_and_one_name_and_for_a_while() {
        let mut known = Known::default();
        let file = (1, 7, (0, 40));
        known.put(file, "/tmp/a", "/etc/a", 5);
        assert_eq!(known.get(file, "/tmp/a", 6), Some("/etc/a"));
        assert_eq!(known.get(file, "/tmp/b", 6), None);
        assert_eq!(known.get((2, 7, (0, 40)), "/tmp/a", 6), None);
        assert_eq!(known.get(file, "/tmp/a", 5 + KNOWN_NS), None);
        for inode in 0..3 * MAX_KNOWN as u64 {
            known.put((1, inode, (0, 40)), "/tmp/a", "/etc/a", 6);
        }
        assert!(known.files.len() <= MAX_KNOWN);
        known.put((3, 1, (0, 40)), &"x".repeat(MAX_NAME + 1), "/etc/a", 6);
        assert!(!known.files.contains_key(&(3, 1, (0, 40))));
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
            resolve(
                &proc,
                std::process::id(),
                path.to_str().unwrap(),
                1,
                (0, 0),
                |_| true
            ),
            None
        );
        assert_eq!(
            resolve(
                &proc,
                std::process::id(),
                "/no/such/file",
                1,
                (0, 0),
                |_| true
            ),
            None
        );
        assert_eq!(resolve(&proc, u32::MAX, "/", 1, (0, 0), |_| true), None);
    }
}
