//! The two freezer files. v2: `cgroup.freeze` and `cgroup.events` (Documentation/admin-guide/cgroup-v2.rst). v1:
//! `freezer.state` (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{FreezeError, How};

/// A directory and the kind of its freezer.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub how: How,
    pub dir: PathBuf,
}

impl Place {
    fn order_file(&self) -> PathBuf {
        self.dir.join(if self.how == How::V1 {
            "freezer.state"
        } else {
            "cgroup.freeze"
        })
    }

    fn read(&self, name: &str) -> Result<String, FreezeError> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).map_err(|e| self.error("read", &path, e))
    }

    fn error(&self, tried: &'static str, path: &Path, source: io::Error) -> FreezeError {
        // ENODEV: the directory was removed while its file was open.
        if source.kind() == ErrorKind::NotFound
            || source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
        {
            let id = self
                .dir
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            return FreezeError::Gone {
                id,
                dir: self.dir.display().to_string(),
            };
        }
        FreezeError::Io {
            tried,
            path: path.display().to_string(),
            source,
        }
    }

    /// Inode of the directory.
    pub fn inode(&self) -> Option<u64> {
        Some(fs::metadata(&self.dir).ok()?.ino())
    }

    pub fn exists(&self, id: &str) -> Result<(), FreezeError> {
        if self.order_file().exists() {
            return Ok(());
        }
        Err(FreezeError::Gone {
            id: id.to_owned(),
            dir: self.dir.display().to_string(),
        })
    }

    /// Are there processes in it or below it (v2 only)?
    pub fn populated(&self) -> Result<bool, FreezeError> {
        Ok(self
            .read("cgroup.events")?
            .lines()
            .any(|l| l == "populated 1"))
    }

    /// Are all tasks held?
    pub fn frozen(&self) -> Result<bool, FreezeError> {
        Ok(if self.how == How::V1 {
            self.read("freezer.state")?.trim() == "FROZEN"
        } else {
            self.read("cgroup.events")?.lines().any(|l| l == "frozen 1")
        })
    }

    /// Is the order given, whether or not all tasks are held yet?
    pub fn frozen_or_freezing(&self) -> Result<bool, FreezeError> {
        Ok(if self.how == How::V1 {
            self.read("freezer.state")?.trim() != "THAWED"
        } else {
            self.read("cgroup.freeze")?.trim() == "1"
        })
    }

    /// Gives the order. The file must exist: it is never created.
    pub fn write(&self, freeze: bool) -> Result<(), FreezeError> {
        let path = self.order_file();
        let word: &[u8] = match (self.how, freeze) {
            (How::V1, true) => b"FROZEN",
            (How::V1, false) => b"THAWED",
            (_, true) => b"1",
            (_, false) => b"0",
        };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|e| self.error("open", &path, e))?;
        io::Write::write_all(&mut file, word).map_err(|e| self.error("write", &path, e))
    }

    /// Polls until it is as ordered; `false` when the limit passed first. The freeze takes about 0.1 ms, so the first
    /// looks follow each other closely.
    pub fn wait(&self, freeze: bool, limit: Instant) -> Result<bool, FreezeError> {
        let mut pause = Duration::from_micros(20);
        loop {
            if self.frozen()? == freeze {
                return Ok(true);
            }
            if Instant::now() >= limit {
                return Ok(false);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// Every process in it and below it.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            // A threaded cgroup refuses this file; its processes stand in the one above it.
            if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
                pids.extend(
                    text.lines()
                        .filter_map(|l| l.parse::<u32>().ok())
                        .filter(|p| *p != 0),
                );
            }
            let below = fs::read_dir(&dir).into_iter().flatten().flatten();
            dirs.extend(
                below
                    .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                    .map(|e| e.path()),
            );
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

/// State letter and start time (ticks since boot) of a process, from `/proc/PID/stat`; see proc(5).
pub(super) fn stat(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold brackets and blanks itself: count from the last one.
    let rest = text.get(text.rfind(')')? + 2..)?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Start time of a process in clock ticks since boot; `None` when it is gone.
pub fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid).map(|(_, ticks)| ticks)
}
