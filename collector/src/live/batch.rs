//! What the reader hands on at once.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::proc_events::ProcEvent;
use crate::record::RecordType;

/// Audit records and process events that were read in one turn.
#[derive(Clone, Debug)]
pub struct Batch {
    /// When the first of it was read.
    pub received: Instant,
    /// Process events, in the connector's order. Apply them before the records: every fork of a process in these
    /// records is here or came earlier.
    pub proc_events: Vec<ProcEvent>,
    /// Process events are missing before this point (the connector overflowed).
    pub connector_overrun: bool,
    /// Records were dropped before this batch because the channel was full; so many.
    pub dropped_before: u64,
    /// The kernel dropped records before or in this batch (ENOBUFS); nobody knows how many.
    pub audit_overrun: bool,
    bytes: Vec<u8>,
    spans: Vec<(RecordType, u32)>,
    /// Where its memory goes when the last stage is done with it.
    pool: Option<Arc<Pool>>,
}

/// Memory of batches that were dealt with, for the next ones: fresh memory costs a page fault for every few records.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Memory>>);

/// Bytes and spans of a batch.
type Memory = (Vec<u8>, Vec<(RecordType, u32)>);

/// Buffers kept, and the longest that is.
const POOLED: usize = 8;
const POOLED_BYTES: usize = 1 << 20;

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool
            && self.bytes.capacity() > 0
            && self.bytes.capacity() <= POOLED_BYTES
            && let Ok(mut kept) = pool.0.try_lock()
            && kept.len() < POOLED
        {
            let (mut bytes, mut spans) = (mem::take(&mut self.bytes), mem::take(&mut self.spans));
            bytes.clear();
            spans.clear();
            kept.push((bytes, spans));
        }
    }
}

impl Batch {
    /// An empty batch with memory from the pool, to which it goes back.
    pub(super) fn pooled(pool: &Arc<Pool>) -> Self {
        let kept = pool.0.try_lock().ok().and_then(|mut kept| kept.pop());
        let mut batch = Self::new();
        (batch.bytes, batch.spans) = kept.unwrap_or_default();
        batch.pool = Some(pool.clone());
        batch
    }

    /// Takes everything out and leaves an empty batch of the same pool.
    pub(super) fn take(&mut self) -> Self {
        let empty = match &self.pool {
            Some(pool) => Self::pooled(pool),
            None => Self::new(),
        };
        mem::replace(self, empty)
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.proc_events.clear();
        self.bytes.clear();
        self.spans.clear();
        (self.connector_overrun, self.audit_overrun) = (false, false);
        self.dropped_before = 0;
    }

    /// Takes in what came after it; `false`, and nothing happens, when a gap lies between the two.
    pub(super) fn append(&mut self, next: &mut Self) -> bool {
        if next.dropped_before > 0 || next.audit_overrun || next.connector_overrun {
            return false;
        }
        let Ok(base) = u32::try_from(self.bytes.len()) else {
            return false;
        };
        self.proc_events.append(&mut next.proc_events);
        self.bytes.extend_from_slice(&next.bytes);
        self.spans
            .extend(next.spans.iter().map(|(kind, end)| (*kind, base + end)));
        next.clear();
        true
    }
    /// An empty batch, received now.
    pub fn new() -> Self {
        Self {
            received: Instant::now(),
            proc_events: Vec::new(),
            connector_overrun: false,
            dropped_before: 0,
            audit_overrun: false,
            bytes: Vec::new(),
            spans: Vec::new(),
            pool: None,
        }
    }

    /// Adds a record: its payload is the text from `audit(` on. NULs at its end are not part of it.
    pub fn push(&mut self, kind: RecordType, payload: &[u8]) {
        let end = payload
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        self.bytes.extend_from_slice(&payload[..end]);
        self.spans
            .push((kind, u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)));
    }

    /// The records in the order of the socket: type and payload, `audit(1795353018.414:5): …`.
    pub fn records(&self) -> impl ExactSizeIterator<Item = (RecordType, &[u8])> {
        self.spans.iter().enumerate().map(|(n, (kind, end))| {
            let start = n
                .checked_sub(1)
                .map_or(0, |before| self.spans[before].1 as usize);
            (*kind, &self.bytes[start..*end as usize])
        })
    }

    /// Gives up the records and returns how many they were. The process events stay: the process table of the next stage
    /// must not suffer from a full channel.
    pub(super) fn drop_records(&mut self) -> u64 {
        let records = self.spans.len() as u64;
        self.spans.clear();
        self.bytes.clear();
        self.dropped_before += records;
        records
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Is there nothing in it that the next stage should know?
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
            && self.proc_events.is_empty()
            && !self.connector_overrun
            && !self.audit_overrun
            && self.dropped_before == 0
    }

    /// Memory that it takes while it is held, about.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len()
            + mem::size_of_val(&self.spans[..])
            + mem::size_of_val(&self.proc_events[..])
    }

    /// Bytes of all payloads.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in_without_their_nul_tail() {
        let mut batch = Batch::new();
        assert!(batch.is_empty());
        batch.push(RecordType::SYSCALL, b"audit(1.000:1): a\0b\0\0");
        batch.push(RecordType::EOE, b"\0");
        batch.push(RecordType::CWD, b"c");
        let got: Vec<_> = batch.records().collect();
        assert_eq!(
            got,
            [
                (RecordType::SYSCALL, &b"audit(1.000:1): a\0b"[..]),
                (RecordType::EOE, b""),
                (RecordType::CWD, b"c")
            ]
        );
        assert_eq!((batch.len(), batch.is_empty()), (3, false));
    }

    #[test]
    fn memory_comes_back_and_is_used_again() {
        let pool = Arc::new(Pool::default());
        let mut batch = Batch::pooled(&pool);
        batch.push(RecordType::EOE, &[b'x'; 100]);
        let taken = batch.take();
        assert_eq!((taken.len(), batch.len()), (1, 0));
        let memory = taken.bytes.as_ptr();
        drop(taken);
        let again = Batch::pooled(&pool);
        assert_eq!((again.bytes.as_ptr(), again.is_empty()), (memory, true));
    }

    #[test]
    fn what_comes_later_is_taken_in_unless_something_is_missing_between() {
        let (mut first, mut second) = (Batch::new(), Batch::new());
        first.push(RecordType::SYSCALL, b"one");
        second.push(RecordType::EOE, b"two");
        assert!(first.append(&mut second) && second.is_empty());
        let got: Vec<_> = first.records().collect();
        assert_eq!(
            got,
            [
                (RecordType::SYSCALL, &b"one"[..]),
                (RecordType::EOE, &b"two"[..])
            ]
        );
        second.push(RecordType::EOE, b"three");
        second.dropped_before = 1;
        assert!(!first.append(&mut second));
        assert_eq!((first.len(), second.len()), (2, 1));
    }

    #[test]
    fn what_is_dropped_leaves_its_process_events_and_a_mark() {
        let mut batch = Batch::new();
        batch.push(RecordType::EOE, b"x");
        batch.dropped_before = 2;
        batch.connector_overrun = true;
        assert_eq!(batch.drop_records(), 1);
        assert_eq!(
            (batch.len(), batch.dropped_before, batch.connector_overrun),
            (0, 3, true)
        );
        assert!(!batch.is_empty());
    }
}
