//! One daemon at a time: an advisory lock on the pid file, which the kernel drops when its holder dies.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// Held as long as the daemon lives.
pub struct PidFile {
    _file: File,
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Takes the lock and writes our pid, or says who holds it.
pub fn take(path: &Path) -> anyhow::Result<PidFile> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let mut file =
        open(path).with_context(|| format!("cannot open the pid file {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        bail!(
            "the monitor runs already (pid {}); `syscall-monitor status` shows it",
            pid.trim()
        );
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(PidFile { _file: file })
}

/// Pid of the running daemon.
pub fn holder(path: &Path) -> anyhow::Result<Option<u32>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(None);
        }
        Err(e) => {
            return Err(e).with_context(|| format!("cannot read the pid file {}", path.display()));
        }
    };
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return Ok(None);
    }
    let mut pid = String::new();
    file.read_to_string(&mut pid)?;
    Ok(pid.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_told_the_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.pid");
        assert_eq!(holder(&path).unwrap(), None);
        let held = take(&path).unwrap();
        assert_eq!(holder(&path).unwrap(), Some(std::process::id()));
        assert!(
            take(&path)
                .err()
                .unwrap()
                .to_string()
                .contains(&format!("pid {}", std::process::id()))
        );
        drop(held);
        assert_eq!(holder(&path).unwrap(), None);
    }
}
