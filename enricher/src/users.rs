//! Names of users: from the container's own `/etc/passwd` where it can be read, else from the host's.
//!
//! The container's file is hostile: only a regular file of the container's root file system, found without following a
//! link out of it, is read, and only up to a bound.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use compact_str::CompactString;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::procfs::Procfs;

const MAX_BYTES: u64 = 256 << 10;
const MAX_USERS: usize = 4096;

/// Users of one root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passwd {
    users: Vec<(u32, CompactString)>,
}

impl Passwd {
    /// passwd(5). What does not have the shape is skipped; names with characters that no useradd lets pass as well.
    pub fn parse(text: &[u8]) -> Self {
        let mut users: Vec<(u32, CompactString)> = Vec::new();
        for line in text.split(|&b| b == b'\n').take(MAX_USERS) {
            let mut fields = line.split(|&b| b == b':');
            let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let fine = !name.is_empty()
                && name.len() <= 32
                && name
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.$".contains(b));
            let (Ok(name), Ok(uid)) = (std::str::from_utf8(name), std::str::from_utf8(uid)) else {
                continue;
            };
            if let (true, Ok(uid)) = (fine, uid.parse())
                && !users.iter().any(|(u, _)| *u == uid)
            {
                users.push((uid, name.into()));
            }
        }
        users.sort();
        users.shrink_to_fit();
        Self { users }
    }

    /// Of the host.
    pub fn host() -> Self {
        // The host's own /etc may be a mount or a link: it is not hostile.
        let plain = || {
            crate::procfs::read(Path::new("/etc/passwd"), MAX_BYTES as usize)
                .map(|text| Self::parse(&text))
        };
        Self::of_root(Path::new("/"))
            .or_else(plain)
            .unwrap_or_default()
    }

    /// Of the root directory of a process, unless that process is not the one that started at `start_ticks` any more.
    pub fn of_process(proc: &Procfs, pid: u32, start_ticks: u64) -> Option<Self> {
        let passwd = Self::of_root(&proc.path(pid, "root"))?;
        (proc.stat(pid)?.start_ticks == start_ticks).then_some(passwd)
    }

    fn of_root(root: &Path) -> Option<Self> {
        let dir = File::open(root).ok()?;
        // NO_XDEV: a file system that the container mounted over /etc may never answer (FUSE). NONBLOCK: a FIFO would wait.
        let file = openat2(
            &dir,
            "etc/passwd",
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV,
        )
        .ok()?;
        let file = File::from(file);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        Some(Self::parse(&text))
    }

    /// Name of a user.
    pub fn name(&self, uid: u32) -> Option<&str> {
        let at = self.users.binary_search_by_key(&uid, |(u, _)| *u).ok()?;
        self.users.get(at).map(|(_, name)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_of_a_uid_wins() {
        let p = Passwd::parse(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/\nnode:x:1000:1000::/home/node:/bin/sh\nbad\n:x:1:1\nev\x1bil:x:7:7::/:/\n");
        assert_eq!(
            (p.name(0), p.name(1000), p.name(1), p.name(7)),
            (Some("root"), Some("node"), None, None)
        );
        assert_eq!(Passwd::host().name(0), Some("root"));
    }

    #[test]
    fn a_link_does_not_lead_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../../../etc/passwd", dir.path().join("etc/passwd"))
            .unwrap();
        assert_eq!(
            Passwd::of_root(dir.path()),
            None,
            "a loop in its own root, not the host's file"
        );
        std::fs::remove_file(dir.path().join("etc/passwd")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("etc/passwd"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(
            Passwd::of_root(dir.path()),
            None,
            "a FIFO is not waited for"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text: Vec<u8>) {
            Passwd::parse(&text);
        }
    }
}
