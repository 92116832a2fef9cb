//! The thread that makes flushed data survive a power loss: at most every 200 ms, and only when there is something new.
//!
//! sled's flush hands data to the disk's queue without a barrier. Its own flusher thread calls fsync too, but logs a failure and goes on;
//! here a failure stops the store, for after one nobody knows what is on the disk.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::error::{Result, StoreError};
use crate::manifest;
use crate::shared::{Shared, now_ms};

const EVERY: Duration = Duration::from_millis(200);

/// The writer's end.
pub(crate) struct Syncer {
    bell: SyncSender<()>,
    file: Arc<File>,
    shared: Arc<Shared>,
}

/// The thread's end.
pub(crate) struct SyncThread {
    bell: Receiver<()>,
    file: Arc<File>,
    shared: Arc<Shared>,
}

/// Opens sled's file a second time, to call fsync on.
pub(crate) fn syncer(shared: &Arc<Shared>) -> Result<(Syncer, SyncThread)> {
    let path = db_file(&shared.dir);
    let file = Arc::new(File::open(&path).map_err(StoreError::io("opening", &path))?);
    let (sender, bell) = sync_channel(1);
    let thread = SyncThread {
        bell,
        file: Arc::clone(&file),
        shared: Arc::clone(shared),
    };
    Ok((
        Syncer {
            bell: sender,
            file,
            shared: Arc::clone(shared),
        },
        thread,
    ))
}

/// The file that sled locks and writes.
pub(crate) fn db_file(dir: &Path) -> std::path::PathBuf {
    manifest::engine_dir(dir).join("db")
}

impl Syncer {
    /// Something was flushed. Rings the bell; one that rings already is enough.
    pub(crate) fn dirty(&self) {
        let _ = self.bell.try_send(());
    }

    /// Waits for the disk.
    pub(crate) fn sync_now(&self) -> Result<()> {
        sync(&self.file, &self.shared)
    }
}

fn sync(file: &File, shared: &Shared) -> Result<()> {
    file.sync_all().map_err(StoreError::io(
        "waiting for the disk to have",
        &db_file(&shared.dir),
    ))?;
    shared
        .counts
        .last_sync_ms
        .store(now_ms(), Ordering::Relaxed);
    Ok(())
}

impl SyncThread {
    /// Runs until the writer is gone.
    pub(crate) fn run(self) {
        while self.bell.recv().is_ok() {
            let began = Instant::now();
            if let Err(error) = sync(&self.file, &self.shared) {
                self.shared.fail(&error.to_string());
                return;
            }
            std::thread::sleep(EVERY.saturating_sub(began.elapsed()));
        }
    }
}
