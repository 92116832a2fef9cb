//! What the reader hands on at once.

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
}

impl Batch {
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
        self.spans = Vec::new();
        self.bytes = Vec::new();

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
