//! Audit logs as records: auditd's raw and enriched formats, `ausearch --raw`, the kernel's own log.
//!
//! In: a file (plain, gzip or zstd, told by its first bytes), standard input, or any reader. Out: [`LogRecord`]s that borrow
//! from a chunk. A line that is none is counted with its number and never ends the reading.

mod follow;
mod line;

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::record::RecordType;
pub use follow::Follower;
pub use line::parse_line;

/// How much is read at a time.
const CHUNK: usize = 256 << 10;
/// A longer line is counted and passed over. The kernel's records end at 8,970 bytes.
const MAX_LINE: usize = 1 << 20;
/// So many line numbers of malformed lines are kept.
const KEPT_NUMBERS: usize = 16;

/// One record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// Name in front of the line (`node=web1`).
    pub node: Option<&'a [u8]>,
    /// Type.
    pub kind: RecordType,
    /// Milliseconds since the epoch.
    pub millis: u64,
    /// Serial number.
    pub serial: u32,
    /// What stands behind `audit(…): `, with the enriched tail.
    pub body: &'a [u8],
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStats {
    /// Lines, of any kind.
    pub lines: u64,
    /// Lines that are records.
    pub records: u64,
    /// Lines that are none, and no separators of ausearch either. Among them those that are too long (1 MiB).
    pub malformed: u64,
    /// Numbers of the first malformed lines, from 1.
    pub malformed_lines: Vec<u64>,
}

/// A log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be opened.
    #[error(
        "cannot open the audit log {path}: {source}; is the path right, and may this user read it?"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading it (or undoing its compression) failed.
    #[error("cannot read the audit log after line {line}: {source}; what came before it was read")]
    Read {
        /// Lines that were read.
        line: u64,
        /// Why.
        source: io::Error,
    },
}

/// Reads records from a log.
pub struct LogReader<'a> {
    input: Box<dyn Read + Send + 'a>,
    lines: Lines,
}

impl LogReader<'static> {
    /// Opens a log; `-` is standard input.
    ///
    /// # Errors
    /// It cannot be opened or its first bytes cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        let error = |source| LogError::Open {
            path: path.to_owned(),
            source,
        };
        if path == Path::new("-") {
            return LogReader::new(io::stdin()).map_err(error);
        }
        LogReader::new(File::open(path).map_err(error)?).map_err(error)
    }
}

impl<'a> LogReader<'a> {
    /// Reads from anything; gzip and zstd are told by the first bytes.
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub fn new(mut input: impl Read + Send + 'a) -> io::Result<Self> {
        let mut magic = [0; 4];
        let mut len = 0;
        while len < magic.len() {
            match input.read(&mut magic[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let start = Cursor::new(magic[..len].to_vec());
        let whole = start.chain(input);
        let input: Box<dyn Read + Send + 'a> = match &magic[..len] {
            [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
            _ => Box::new(whole),
        };
        Ok(Self {
            input,
            lines: Lines::default(),
        })
    }

    /// What was read so far.
    pub fn stats(&self) -> &LogStats {
        &self.lines.stats
    }

    /// Gives every record to `take`, to the end of the input.
    ///
    /// # Errors
    /// The input cannot be read further; what came before was given.
    pub fn for_each_record(&mut self, mut take: impl FnMut(LogRecord<'_>)) -> Result<(), LogError> {
        self.try_for_each_record(|record| {
            take(record);
            ControlFlow::Continue(())
        })
        .map(|_| ())
    }

    /// Gives every record to `take` until it breaks, or to the end of the input. What was read beyond the break is kept, so
    /// that a next call goes on behind it.
    ///
    /// # Errors
    /// The input cannot be read further; what came before was given.
    pub fn try_for_each_record(
        &mut self,
        mut take: impl FnMut(LogRecord<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LogError> {
        loop {
            if self.lines.give(&mut take).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            match self.lines.fill(&mut self.input) {
                Ok(0) => return Ok(self.lines.give_rest(&mut take)),
                Ok(_) => {}
                Err(source) => {
                    return Err(LogError::Read {
                        line: self.lines.stats.lines,
                        source,
                    });
                }
            }
        }
    }
}

/// A buffer of which the front holds whole lines.
#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
    /// What is between them is unread.
    start: usize,
    end: usize,
    /// No line break before here: an unfinished line is searched once.
    searched: usize,
    /// The rest of a line that is too long is passed over.
    skipping: bool,
    stats: LogStats,
}

impl Lines {
    /// Reads a chunk behind what is there; 0 at the end of the input.
    fn fill(&mut self, input: &mut dyn Read) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.end >= MAX_LINE {
            if !self.skipping {
                self.malformed(self.stats.lines + 1);
            }
            self.skipping = true;
            (self.end, self.searched) = (0, 0);
        }
        if self.buffer.len() < self.end + CHUNK {
            self.buffer.resize(self.end + CHUNK, 0);
        }
        loop {
            match input.read(&mut self.buffer[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Gives the records of the whole lines that are there.
    fn give(&mut self, take: &mut impl FnMut(LogRecord<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        while let Some(len) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) {
            let line = self.start..self.searched + len;
            self.start = line.end + 1;
            self.searched = self.start;
            self.stats.lines += 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            match parse_line(&self.buffer[line.clone()]) {
                Some(record) => {
                    self.stats.records += 1;
                    take(record)?;
                }
                None => self.no_record(line),
            }
        }
        self.searched = self.end;
        ControlFlow::Continue(())
    }

    /// Gives the last line, which may lack its line break.
    fn give_rest(
        &mut self,
        take: &mut impl FnMut(LogRecord<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let line = self.start..self.end;
        (self.start, self.searched) = (self.end, self.end);
        if line.is_empty() {
            return ControlFlow::Continue(());
        }
        self.stats.lines += 1;
        if std::mem::take(&mut self.skipping) {
            return ControlFlow::Continue(());
        }
        match parse_line(&self.buffer[line.clone()]) {
            Some(record) => {
                self.stats.records += 1;
                take(record)
            }
            None => {
                self.no_record(line);
                ControlFlow::Continue(())
            }
        }
    }

    fn no_record(&mut self, line: std::ops::Range<usize>) {
        if !line::is_separator(&self.buffer[line]) {
            self.malformed(self.stats.lines);
        }
    }

    fn malformed(&mut self, number: u64) {
        self.stats.malformed += 1;
        if self.stats.malformed_lines.len() < KEPT_NUMBERS {
            self.stats.malformed_lines.push(number);
        }
    }
}

/// The time of a log as instants that never go back, for [`crate::Assembler`]: an event of a log waits for log time.
#[derive(Clone, Copy, Debug)]
pub struct LogClock {
    base: Instant,
    first: Option<u64>,
    highest: u64,
}

impl Default for LogClock {
    fn default() -> Self {
        Self::new()
    }
}

impl LogClock {
    /// A clock that starts with the first record.
    pub fn new() -> Self {
        Self {
            base: Instant::now(),
            first: None,
            highest: 0,
        }
    }

    /// The instant of a record of that time (milliseconds since the epoch).
    #[inline]
    pub fn at(&mut self, millis: u64) -> Instant {
        /// A hundred years: instants end somewhere.
        const MAX: u64 = 100 * 366 * 86_400_000;
        let first = *self.first.get_or_insert(millis);
        self.highest = self.highest.max(millis.saturating_sub(first).min(MAX));
        self.base + Duration::from_millis(self.highest)
    }
}

#[cfg(test)]
mod tests;
