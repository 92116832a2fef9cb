//! How far the store had come, in a small file beside the engine's.
//!
//! When the end of its log is damaged, sled takes it for a write that a crash cut short, and opens as the store was some time before: whole
//! to look at, and shorter. So each commit has a number, in the tree and, once flushed, in this file; a tree that is behind the file has
//! lost its end. It is written without fsync: after a power loss it may be behind, which says nothing, but never ahead of what was flushed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};

const SIZE: usize = 24;

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Tail {
    file: File,
    path: PathBuf,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("tail")
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    out
}

impl Tail {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = path(dir);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("opening", &path))?;
        Ok(Self { file, path })
    }

    /// Notes that this commit, at this time in milliseconds since the epoch, was flushed.
    pub(crate) fn note(&self, commit: u64, time_ms: u64) -> Result<()> {
        let mut bytes = [0u8; SIZE];
        bytes[..8].copy_from_slice(&commit.to_be_bytes());
        bytes[8..16].copy_from_slice(&time_ms.to_be_bytes());
        let sum = checksum(&bytes[..16]);
        bytes[16..].copy_from_slice(&sum);
        self.file
            .write_all_at(&bytes, 0)
            .map_err(StoreError::io("writing", &self.path))
    }
}

/// Takes the file over, if there is one: the copy should know what it lacks.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    match std::fs::copy(path(from), path(to)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("copying", &path(from))(error))
        }
        _ => Ok(()),
    }
}

/// Commit and time that were noted last. `None` when there is no file; an error text when it is damaged.
pub(crate) fn read(dir: &Path) -> std::result::Result<Option<(u64, u64)>, String> {
    let path = path(dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) if bytes.is_empty() => return Ok(None),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let number = |at: usize| {
        let part = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_be_bytes(part))
    };
    match (number(0), number(8)) {
        (Some(commit), Some(time)) if bytes.get(16..) == Some(&checksum(&bytes[..16])[..]) => {
            Ok(Some((commit, time)))
        }
        _ => Err(format!(
            "{} does not have its checksum: whether the newest entries are missing is not known",
            path.display()
        )),
    }
}
