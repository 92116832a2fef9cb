//! What is done to a store as a whole while nobody has it open: compact, and a test whether it can be opened at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Result, StoreError};
use crate::manifest;
use crate::shared::now_ms;
use crate::stats;
use crate::store::{Options, Store};
use crate::{sync, tail};

/// What compacting did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the files before.
    pub before: u64,
    /// Bytes of the files now.
    pub after: u64,
}

/// Writes a store anew, as small as it can be, and puts it in the place of the old one. Nobody may have it open. Interrupted at any
/// moment, the store is whole: until the new one is complete and on the disk, it is a folder `DIR.compact-…` beside the old one.
///
/// # Errors
/// [`StoreError::Locked`] while somebody has it; [`StoreError::Corrupt`] when something in it is damaged, for what is damaged would be
/// left out: `verify` names it.
pub fn compact(dir: &Path) -> Result<Compacted> {
    let before = stats::folder_bytes(dir);
    let beside = |what: &str| -> Result<PathBuf> {
        let name = dir.file_name().ok_or_else(|| StoreError::Io {
            what: "compacting",
            path: dir.to_owned(),
            error: std::sync::Arc::new(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "it has no name of its own; name the folder itself",
            )),
        })?;
        let mut name = name.to_owned();
        name.push(format!(".{what}-{}", now_ms()));
        Ok(dir.with_file_name(name))
    };
    let (new, old) = (beside("compact")?, beside("old")?);
    let store = Store::open_existing(dir, Options::default())?;
    let report = store.verify(&mut |_| std::ops::ControlFlow::Continue(()))?;
    if let Some(problem) = report.problems.first() {
        return Err(StoreError::corrupt(format!(
            "{} problems, the first: {}",
            report.problems.len(),
            problem.what
        )));
    }
    let made = store.snapshot(&new).and_then(|()| store.close());
    if let Err(error) = made {
        // It is only a copy.
        let _ = fs::remove_dir_all(&new);
        return Err(error);
    }
    let after = stats::folder_bytes(&new);
    fs::rename(dir, &old).map_err(StoreError::io("moving away", dir))?;
    if let Err(error) = fs::rename(&new, dir) {
        // Nobody may find nothing there.
        fs::rename(&old, dir).map_err(StoreError::io("moving back", &old))?;
        return Err(StoreError::io("moving into its place", &new)(error));
    }
    fs::remove_dir_all(&old).map_err(StoreError::io("removing", &old))?;
    Ok(Compacted { before, after })
}

/// Opens a store and reads what a start reads, then lets it go. sled may panic or end the process on a damaged file, so this is for a
/// child process: an exit status other than that of success says that the store cannot be opened.
///
/// # Errors
/// As [`Store::open`].
pub fn probe(dir: &Path) -> Result<()> {
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    let store = Store::open_existing(dir, options)?;
    drop(store);
    Ok(())
}

/// Was the store closed in order when it was used last? If not, [`probe`] it in a child process before it is opened.
pub fn was_closed(dir: &Path) -> bool {
    !manifest::running(dir).exists()
}

/// Makes a store in a new folder from the data file of one that cannot be opened. Everything beside that file is made anew: manifest, and
/// what the engine keeps of its own to open faster. What the copy has, and which times are gone, its `verify` tells. Opening it may still
/// panic or end the process: [`probe`] it in a child first.
///
/// # Errors
/// When there is no data file, when there is something in the new folder already, and what copying gives.
pub fn salvage(broken: &Path, into: &Path) -> Result<()> {
    let from = sync::db_file(broken);
    if !from.exists() {
        return Err(StoreError::Missing {
            dir: broken.to_owned(),
        });
    }
    if manifest::exists(into) {
        return Err(StoreError::io("salvaging into", into)(std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "there is a store already; name a new folder",
        )));
    }
    manifest::open(into)?;
    let to = sync::db_file(into);
    fs::create_dir_all(manifest::engine_dir(into)).map_err(StoreError::io("making", into))?;
    fs::copy(&from, &to).map_err(StoreError::io("copying", &from))?;
    tail::copy(broken, into)
}

/// Moves a store that cannot be opened out of the way, to `DIR.broken-SECONDS`, and says where it is.
///
/// # Errors
/// When it cannot be moved.
pub fn set_aside(dir: &Path) -> Result<PathBuf> {
    let seconds = Duration::from_millis(now_ms()).as_secs();
    for more in 0..100u32 {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!(".broken-{seconds}"));
        if more > 0 {
            name.push(format!("-{more}"));
        }
        let to = dir.with_file_name(name);
        if !to.exists() {
            fs::rename(dir, &to).map_err(StoreError::io("moving aside", dir))?;
            return Ok(to);
        }
    }
    Err(StoreError::io("moving aside", dir)(std::io::Error::new(
        std::io::ErrorKind::AlreadyExists,
        "a hundred broken ones of this second are there already",
    )))
}
