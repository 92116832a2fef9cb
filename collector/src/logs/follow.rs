//! A log that grows and is rotated, as `tail -F` follows it.
//!
//! auditd renames `audit.log` to `audit.log.1`, that to `audit.log.2` and so on, and starts a new file. The old file is held
//! open, so it is read to its end first; when more than one rotation happened since, the files in between are found by
//! counting up to the one that was held.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Lines, LogError, LogRecord, LogStats};

/// auditd keeps at most 999 (`num_logs`).
const MAX_ROTATIONS: u32 = 999;

/// Follows a log. Plain files only: what is compressed does not grow.
///
/// A log that is cut in place (`copytruncate`) and has grown beyond where it was read before the next [`Self::poll`] cannot be
/// told from one that only grew; auditd itself renames.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    lines: Lines,
    rotations: u64,
}

impl Follower {
    /// Opens a log at its start.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref().to_owned();
        match File::open(&path) {
            Ok(file) => Ok(Self {
                path,
                file: Some(file),
                lines: Lines::default(),
                rotations: 0,
            }),
            Err(source) => Err(LogError::Open { path, source }),
        }
    }

    /// What was read so far.
    pub fn stats(&self) -> &LogStats {
        &self.lines.stats
    }

    /// How often a new file took the place of the one that was read.
    pub fn rotations(&self) -> u64 {
        self.rotations
    }

    /// Gives every record that is there by now to `take`, and returns how many. The last line waits for its line break.
    /// To be called again and again, some times a second; it never waits.
    ///
    /// # Errors
    /// The log cannot be read. A log that is gone for a moment is no error.
    pub fn poll(&mut self, mut take: impl FnMut(LogRecord<'_>)) -> Result<u64, LogError> {
        let before = self.lines.stats.records;
        let mut take = |record: LogRecord<'_>| {
            take(record);
            ControlFlow::Continue(())
        };
        self.drain(&mut take)?;
        for next in self.successors() {
            // What was written between the last look and the rename.
            self.drain(&mut take)?;
            // Nobody finishes the last line of a file that was left.
            let _ = self.lines.give_rest(&mut take);
            self.file = Some(next);
            self.rotations += 1;
            self.drain(&mut take)?;
        }
        Ok(self.lines.stats.records - before)
    }

    fn drain(
        &mut self,
        take: &mut impl FnMut(LogRecord<'_>) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let error = |lines: &Lines, source| LogError::Read {
            line: lines.stats.lines,
            source,
        };
        // Cut in place (`copytruncate`): from the start again.
        let cut = |file: &mut File| -> io::Result<bool> {
            Ok(file.metadata()?.len() < file.stream_position()?)
        };
        match cut(file) {
            Ok(true) => {
                // Nobody finishes the line that was cut off.
                let _ = self.lines.give_rest(take);
                file.seek(SeekFrom::Start(0))
                    .map_err(|e| error(&self.lines, e))?;
                self.rotations += 1;
            }
            Ok(false) => {}
            Err(e) => return Err(error(&self.lines, e)),
        }
        loop {
            let read = self.lines.fill(file).map_err(|e| error(&self.lines, e))?;
            let _ = self.lines.give(take);
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// The files that came after the one that is held, oldest first; none while it still has the log's name.
    fn successors(&self) -> Vec<File> {
        let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let held = match self.file.as_ref().map(File::metadata) {
            Some(Ok(held)) => held,
            _ => return File::open(&self.path).into_iter().collect(),
        };
        // Nothing there: between the rename and the new file.
        let Ok(newest) = File::open(&self.path) else {
            return Vec::new();
        };
        if newest.metadata().is_ok_and(|m| same(&m, &held)) {
            return Vec::new();
        }
        let mut files = vec![newest];
        for n in 1..=MAX_ROTATIONS {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            match File::open(name) {
                Ok(file) if file.metadata().is_ok_and(|m| same(&m, &held)) => {
                    files.reverse();
                    return files;
                }
                Ok(file) => files.push(file),
                // Removed or compressed: what is between is not to be had this way.
                Err(_) => break,
            }
        }
        files.truncate(1);
        files
    }
}
