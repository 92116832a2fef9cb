//! What the container changed in its image: the upper layer of its overlay, listed whole and copied up to a limit.
//!
//! It is read where the host keeps it, without the engine, and nothing in it is followed: no link, no device.

use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use enricher::mountinfo;
use serde_json::{Value, json};

use super::{Limits, Pack};
use crate::freeze::{self, FreezeTarget};

pub(super) fn take(pack: &mut Pack, target: &FreezeTarget, limits: &Limits, until: Instant) {
    // The first process is the surest to be in the container's own mount namespace.
    let first = |pids: Vec<u32>| {
        let init = pids.iter().find(|p| **p == target.init_pid);
        init.or(pids.first()).copied()
    };
    let pid = match freeze::processes(target).map(first) {
        Ok(Some(pid)) => pid,
        Ok(None) => return pack.fail("changes.jsonl", "no process of the container is left"),
        Err(e) => return pack.fail("changes.jsonl", &e.to_string()),
    };
    let text = match fs::read(format!("/proc/{pid}/mountinfo")) {
        Ok(text) => text,
        Err(e) => return pack.fail("changes.jsonl", &format!("/proc/{pid}/mountinfo: {e}")),
    };
    match upper(&text) {
        Some(dir) => take_from(pack, &dir, limits, until),
        None => pack.fail(
            "changes.jsonl",
            "its root is no overlay, so what it changed cannot be told from what it was made of",
        ),
    }
}

/// The folder of the host that holds what was changed below the root of this mount namespace.
///
/// Who may mount can put an overlay of his own there and name any folder of the host, for the name is his text. Engines name
/// theirs `…/diff` (Docker, podman) and `…/fs` (containerd).
fn upper(mountinfo: &[u8]) -> Option<PathBuf> {
    let mounts = mountinfo::parse(mountinfo);
    let root = mounts
        .iter()
        .rev()
        .find(|m| m.mount_point == "/" && m.fstype == "overlay")?;
    root.super_options
        .split(',')
        .find_map(|o| o.strip_prefix("upperdir="))
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute() && (dir.ends_with("diff") || dir.ends_with("fs")))
}

pub(super) fn take_from(pack: &mut Pack, dir: &Path, limits: &Limits, until: Instant) {
    let mut list = String::new();
    let mut files: Vec<(i64, PathBuf, u64)> = Vec::new();
    let mut count = 0;
    for entry in walkdir::WalkDir::new(dir).min_depth(1).follow_links(false) {
        if count >= limits.changes || Instant::now() > until {
            pack.fail(
                "changes.jsonl",
                &format!("only the first {count} changes are listed"),
            );
            break;
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                pack.fail("changes.jsonl", &e.to_string());
                continue;
            }
        };
        let Ok(meta) = entry.metadata() else { continue };
        count += 1;
        let path = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        list.push_str(&describe(path, &meta, entry.path()).to_string());
        list.push('\n');
        if meta.is_file() && meta.len() > 0 {
            files.push((meta.mtime(), path.to_owned(), meta.len()));
        }
    }
    pack.add("changes.jsonl", list.as_bytes());
    // What was written last says most, should the room not do for all.
    files.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (n, (mtime, path, size)) in files.iter().enumerate() {
        if Instant::now() > until {
            pack.fail(
                "changed/",
                &format!("no time for {} files", files.len() - n),
            );
            break;
        }
        let shown = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
        // Its own name may be anything; the manifest tells it.
        let to = format!("changed/{n:05}");
        let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(no_follow.bits()).unwrap_or(0))
            .open(dir.join(path));
        match file {
            Ok(file) => {
                let about = json!({"path": format!("/{shown}"), "size": size, "mtime": mtime});
                pack.add_from(&to, file, limits.file, about);
            }
            Err(e) => pack.fail(&format!("/{shown}"), &e.to_string()),
        }
    }
}

fn describe(path: &Path, meta: &fs::Metadata, on_host: &Path) -> Value {
    let kind = meta.file_type();
    let what = if kind.is_char_device() && meta.rdev() == 0 {
        "deleted"
    } else if kind.is_dir() {
        "folder"
    } else if kind.is_file() {
        "file"
    } else if kind.is_symlink() {
        "link"
    } else {
        "other"
    };
    let mut value = json!({
        "path": format!("/{}", String::from_utf8_lossy(path.as_os_str().as_bytes())),
        "what": what, "size": meta.len(), "mode": format!("{:07o}", meta.mode()), "uid": meta.uid(), "gid": meta.gid(),
        "mtime": meta.mtime(), "inode": meta.ino(),
    });
    if what == "link"
        && let Ok(to) = fs::read_link(on_host)
    {
        value["to"] = String::from_utf8_lossy(to.as_os_str().as_bytes()).into();
    }
    value
}
