//! What can go wrong, said so that the reader knows what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An operation on the store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open.
    #[error("the history in {} is in use by {}; ask the running daemon, or stop it first", dir.display(),
        match pid { Some(pid) => format!("process {pid}"), None => "another process".to_owned() })]
    Locked {
        /// Folder of the store.
        dir: PathBuf,
        /// Holder, as /proc/locks names it; `None` when it is in another pid namespace or gone by now.
        pid: Option<u32>,
    },
    /// There is none.
    #[error("there is no history in {}; start the monitor, or name another folder", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// Written by a newer version.
    #[error("the history in {} has format {found}, this program knows formats up to {known}; use the program that wrote it, or name another folder", dir.display())]
    Version {
        /// Folder of the store.
        dir: PathBuf,
        /// Format found.
        found: u32,
        /// Newest format that this program reads.
        known: u32,
    },
    /// Something stored is not what was stored.
    #[error("the history is damaged: {what}; {next}")]
    Corrupt {
        /// What is wrong, and where.
        what: String,
        /// What to do.
        next: String,
    },
    /// The operating system refused.
    #[error("{what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        error: Arc<io::Error>,
    },
    /// The storage engine refused.
    #[error(
        "the storage engine failed while {what}: {error}; look at the disk and the kernel log, then start again"
    )]
    Engine {
        /// What was tried.
        what: &'static str,
        /// What it said.
        error: String,
    },
    /// The writer stopped at an earlier error; nothing that was acknowledged is touched by that.
    #[error("the history takes nothing more since an earlier failure: {0}")]
    Failed(String),
    /// Opened for reading only.
    #[error("the history was opened for reading only; open it for writing, or ask the daemon")]
    ReadOnly,
    /// Closed by this program.
    #[error("the history was closed")]
    Closed,
    /// More than a value may hold.
    #[error("a value of {bytes} bytes is larger than {most} bytes; split it")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest size that is taken.
        most: usize,
    },
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io {
            what,
            path,
            error: Arc::new(error),
        }
    }

    pub(crate) fn engine(what: &'static str) -> impl FnOnce(sled::Error) -> Self {
        move |error| Self::Engine {
            what,
            error: error.to_string(),
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            next: "run `syscall-monitor history verify` to see what is whole, and move the folder aside to go on with a new one".to_owned(),
        }
    }
}

/// Short for this crate.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// Entries were not taken. They are counted in [`crate::Stats::dropped`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} entries were not kept: {why}")]
pub struct Dropped {
    /// How many.
    pub count: usize,
    /// Why.
    pub why: Why,
}

/// Why entries were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// The writer does not keep up; its queue is full.
    #[error("the writer's queue is full")]
    Full,
    /// Larger than an entry may be, in bytes.
    #[error("an entry of {0} bytes is too large")]
    TooLarge(usize),
    /// Too little room on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// The writer stopped at an error.
    #[error("the writer stopped: {0}")]
    Failed(String),
    /// Opened for reading only.
    #[error("the history was opened for reading only")]
    ReadOnly,
    /// Closed by this program.
    #[error("the history was closed")]
    Closed,
}
