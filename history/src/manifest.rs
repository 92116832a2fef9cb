//! The folder of a store: `manifest` (format, segment size) and `sled/`. And who holds it.
//!
//! sled refuses to open its file with another segment size than it was made with, so the size is written down. The format number says how
//! everything in the tree is laid out.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};

/// Format that this code writes, and the newest that it reads.
pub const FORMAT: u32 = 2;
/// Pages up to a quarter of it stay out of sled's separate files.
const SEGMENT: usize = 16 << 20;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) segment_size: usize,
}

/// sled's folder inside ours.
pub(crate) fn engine_dir(dir: &Path) -> PathBuf {
    dir.join("sled")
}

/// The file that is there while the store is open for writing.
pub(crate) fn running(dir: &Path) -> PathBuf {
    dir.join("running")
}

/// Makes it.
pub(crate) fn mark_running(dir: &Path) -> Result<()> {
    let path = running(dir);
    fs::write(&path, format!("{}\n", std::process::id()))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(StoreError::io("writing", &path))
}

/// Takes it away: everything is durable.
pub(crate) fn mark_closed(dir: &Path) -> Result<()> {
    let path = running(dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("removing", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Is there a store?
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join("manifest").exists() || engine_dir(dir).exists()
}

/// Reads the manifest, or makes folder and manifest when there is nothing yet.
pub(crate) fn open(dir: &Path) -> Result<Manifest> {
    let path = dir.join("manifest");
    match fs::read_to_string(&path) {
        Ok(text) => return parse(dir, &text),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("reading", &path)(error)),
    }
    if engine_dir(dir).exists() {
        return Err(StoreError::corrupt(format!(
            "{} is missing beside its data",
            path.display()
        )));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(StoreError::io("making the folder", dir))?;
    write(dir, SEGMENT)?;
    open(dir)
}

fn write(dir: &Path, segment_size: usize) -> Result<()> {
    let path = dir.join("manifest");
    let text = format!(
        "# History of syscall-monitor. Written once; the data beside it cannot be read without it.\nformat = {FORMAT}\nsegment_size = {segment_size}\n"
    );
    let new = dir.join("manifest.new");
    File::create(&new)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&new, &path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(StoreError::io("writing", &path))
}

/// Before anything is written: a store of an earlier format is one of this format from now on. What is in it can still be read.
pub(crate) fn upgrade(dir: &Path) -> Result<()> {
    write(dir, open(dir)?.segment_size)
}

/// Is it of an earlier format?
pub(crate) fn is_old(dir: &Path) -> Result<bool> {
    Ok(open(dir)?.format < FORMAT)
}

fn parse(dir: &Path, text: &str) -> Result<Manifest> {
    let number = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().parse::<u64>().ok())?
        })
    };
    let damaged = || {
        StoreError::corrupt(format!(
            "{} does not say what it should",
            dir.join("manifest").display()
        ))
    };
    let found = number("format")
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(damaged)?;
    if found == 0 || found > FORMAT {
        return Err(StoreError::Version {
            dir: dir.to_owned(),
            found,
            known: FORMAT,
        });
    }
    let segment_size = number("segment_size")
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| n.is_power_of_two() && (256..=1 << 24).contains(n))
        .ok_or_else(damaged)?;
    Ok(Manifest {
        format: found,
        segment_size,
    })
}

/// Process that holds an flock on this file, from /proc/locks (proc(5)).
pub(crate) fn holder(file: &Path) -> Option<u32> {
    let meta = fs::metadata(file).ok()?;
    let device = (
        u64::from(rustix::fs::major(meta.dev())),
        u64::from(rustix::fs::minor(meta.dev())),
    );
    holder_in(&fs::read_to_string("/proc/locks").ok()?, device, meta.ino())
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; device numbers are hexadecimal, the inode is not.
fn holder_in(locks: &str, device: (u64, u64), inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid: i64 = words.nth(2)?.parse().ok()?;
        let mut place = words.next()?.split(':');
        let major = u64::from_str_radix(place.next()?, 16).ok()?;
        let minor = u64::from_str_radix(place.next()?, 16).ok()?;
        let same = (major, minor) == device && place.next()?.parse::<u64>().ok()? == inode;
        same.then(|| u32::try_from(pid).ok().filter(|pid| *pid > 0))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_read_from_the_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:5678 0 EOF\n2: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 9 fe:00:5678 0 EOF\n3: FLOCK  ADVISORY  WRITE -1 00:1a:9 0 EOF\n";
        assert_eq!(holder_in(locks, (0xfe, 0), 5678), Some(1234));
        assert_eq!(holder_in(locks, (0xfe, 0), 5679), None);
        assert_eq!(holder_in(locks, (0, 0x1a), 9), None);
    }

    #[test]
    fn a_newer_format_is_refused_and_nonsense_is_damage() {
        let dir = Path::new("/x");
        assert!(matches!(
            parse(dir, "format = 3\nsegment_size = 16777216"),
            Err(StoreError::Version { found: 3, .. })
        ));
        assert!(matches!(
            parse(dir, "format = 1\nsegment_size = 7"),
            Err(StoreError::Corrupt { .. })
        ));
        assert!(matches!(parse(dir, ""), Err(StoreError::Corrupt { .. })));
        assert_eq!(
            parse(dir, "format = 1\nsegment_size = 16777216")
                .unwrap()
                .segment_size,
            16 << 20
        );
    }

    #[test]
    fn data_without_a_manifest_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(engine_dir(dir.path())).unwrap();
        assert!(matches!(open(dir.path()), Err(StoreError::Corrupt { .. })));
    }
}
