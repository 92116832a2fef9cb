//! The folder itself: files of root's, their sums, a manifest; and the room that all packs together may take.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Summary;

/// There is no pack.
#[derive(Debug, thiserror::Error)]
#[error("cannot {tried} {path}: {source}; the container stays frozen, its evidence is not kept")]
pub struct PackError {
    tried: &'static str,
    path: String,
    source: io::Error,
}

fn error(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PackError {
    let path = path.display().to_string();
    move |source| PackError {
        tried,
        path,
        source,
    }
}

/// A pack that is being filled.
#[derive(Debug)]
pub struct Pack {
    dir: PathBuf,
    entries: Vec<Value>,
    failed: Vec<(String, String)>,
    bytes: u64,
    left: u64,
}

impl Pack {
    /// Makes the folder (mode 0700), `limit` bytes large at most.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(root: &Path, name: &str, limit: u64) -> Result<Self, PackError> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        builder
            .recursive(true)
            .create(root)
            .map_err(error("make", root))?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(error("close to others", root))?;
        builder.recursive(false);
        // Two quarantines of one second have two packs.
        let mut dir = root.join(name);
        for n in 2..100 {
            match builder.create(&dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    dir = root.join(format!("{name}-{n}"));
                }
                other => {
                    other.map_err(error("make", &dir))?;
                    break;
                }
            }
        }
        Ok(Self {
            dir,
            entries: Vec::new(),
            failed: Vec::new(),
            bytes: 0,
            left: limit,
        })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Something that could not be had.
    pub fn fail(&mut self, what: &str, why: &str) {
        // An attacker with a million files must not write a manifest of a million lines.
        if self.failed.len() < 1000 {
            self.failed.push((what.to_owned(), why.to_owned()));
        }
    }

    /// Adds a file.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.add_from(name, bytes, u64::MAX, Value::Null);
    }

    /// Adds a JSON file.
    pub fn add_json(&mut self, name: &str, value: &Value) {
        self.add(name, format!("{value:#}\n").as_bytes());
    }

    /// Adds what a reader gives, `limit` bytes of it at most; what is cut is said. `about` is kept in the manifest.
    pub fn add_from(&mut self, name: &str, from: impl Read, limit: u64, about: Value) {
        let limit = limit.min(self.left);
        if limit == 0 {
            return self.fail(name, "the pack is full");
        }
        match self.write(name, from, limit) {
            Ok((size, sum, cut)) => {
                self.bytes += size;
                self.left -= size;
                let mut entry = json!({"file": name, "bytes": size, "sha256": sum});
                if cut {
                    entry["cut"] = true.into();
                }
                if !about.is_null() {
                    entry["about"] = about;
                }
                self.entries.push(entry);
            }
            Err(e) => {
                // What is half there proves nothing.
                let _ = fs::remove_file(self.dir.join(name));
                if e.kind() == io::ErrorKind::StorageFull {
                    self.left = 0;
                }
                self.fail(name, &e.to_string());
            }
        }
    }

    fn write(&self, name: &str, from: impl Read, limit: u64) -> io::Result<(u64, String, bool)> {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent().filter(|p| *p != self.dir) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let mut sink = Sink {
            file,
            sum: Sha256::new(),
        };
        let mut from = from.take(limit.saturating_add(1));
        let mut size = 0;
        let mut buffer = vec![0; 64 << 10];
        let mut cut = false;
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let room = usize::try_from(limit - size).unwrap_or(usize::MAX);
            cut = n > room;
            sink.write_all(&buffer[..n.min(room)])?;
            size += n.min(room) as u64;
        }
        Ok((size, hex(sink.sum.finalize()), cut))
    }

    /// Writes the manifest, makes everything durable and read-only.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn seal(self, about: Value, now_ms: u64) -> Result<Summary, PackError> {
        let path = self.dir.join("manifest.json");
        let mut manifest = about;
        manifest["sealed_ms"] = now_ms.into();
        manifest["files"] = self.entries.clone().into();
        manifest["failed"] = self
            .failed
            .iter()
            .map(|(what, why)| json!({"what": what, "why": why}))
            .collect();
        let text = format!("{manifest:#}\n");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(text.as_bytes())?;
            // Everything before it lies in the same file system.
            rustix::fs::syncfs(&file)?;
            Ok(())
        };
        write().map_err(error("write", &path))?;
        Ok(Summary {
            files: self.entries.len(),
            bytes: self.bytes,
            manifest_sha256: hex(Sha256::digest(text.as_bytes())),
            failed: self
                .failed
                .iter()
                .map(|(what, why)| format!("{what}: {why}"))
                .collect(),
            at_ms: now_ms,
            dir: Some(self.dir),
        })
    }
}

struct Sink {
    file: File,
    sum: Sha256,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.sum.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    use std::fmt::Write;
    bytes.as_ref().iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// SHA-256 of what a reader gives, and whether it was read to its end within `limit` bytes.
pub(super) fn sum(from: impl Read, limit: u64) -> io::Result<(String, bool)> {
    let mut sum = Sha256::new();
    let mut from = from.take(limit.saturating_add(1));
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0u64;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                size += n as u64;
                sum.update(&buffer[..n]);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok((hex(sum.finalize()), size <= limit))
}

/// Removes the oldest packs below `root` until `need` more bytes fit into `budget`. Those in `keep` stay. Gives what went.
///
/// # Errors
/// When the folder cannot be read.
pub fn make_room(
    root: &Path,
    budget: u64,
    need: u64,
    keep: &[PathBuf],
) -> io::Result<Vec<PathBuf>> {
    let mut packs = Vec::new();
    match fs::read_dir(root) {
        Ok(list) => {
            for entry in list.flatten().filter(|e| e.path().is_dir()) {
                packs.push((entry.path(), size(&entry.path())));
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    }
    // By name, that is by time.
    packs.sort();
    let mut used: u64 = packs.iter().map(|(_, size)| size).sum();
    let mut gone = Vec::new();
    for (path, size) in packs {
        if used + need <= budget {
            break;
        }
        if keep.contains(&path) {
            continue;
        }
        if fs::remove_dir_all(&path).is_ok() {
            used -= size;
            gone.push(path);
        }
    }
    Ok(gone)
}

/// Removes the packs below `root` whose names begin with a time before `before` (`20261122T131018Z`). Those in `keep` stay, and so
/// does whatever bears no such name. Gives what went.
///
/// # Errors
/// When the folder cannot be read.
pub fn expire(root: &Path, before: &str, keep: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let list = match fs::read_dir(root) {
        Ok(list) => list,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut gone = Vec::new();
    for entry in list.flatten() {
        let name = entry.file_name();
        let time = name.to_str().and_then(|n| n.split('-').next());
        let old = time.is_some_and(|t| is_time(t) && t < before);
        let path = entry.path();
        if old && path.is_dir() && !keep.contains(&path) && fs::remove_dir_all(&path).is_ok() {
            gone.push(path);
        }
    }
    gone.sort();
    Ok(gone)
}

/// `20261122T131018Z`?
fn is_time(text: &str) -> bool {
    text.len() == 16
        && text.bytes().enumerate().all(|(n, b)| match n {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        })
}

/// Bytes of the files below a folder.
fn size(dir: &Path) -> u64 {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .flatten()
        .filter_map(|e| e.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|m| m.len())
        .sum()
}
