//! The ledger of what was lost on the way from the kernel to an event: one figure for each place where something can disappear.
//!
//! In: the reader's [`Counters`], the assembler's, the kernel's status, and what only the program knows ([`Beyond`]).

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::assemble::AssembleCounters;
use crate::live::Counters;
use crate::status::Status;

/// Everything that is known to be lost since the reader started. 0 everywhere is the only good state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Records that the kernel threw away itself (`lost` of `AUDIT_GET`).
    pub kernel_lost: u64,
    /// Times that the audit socket overflowed (ENOBUFS); each hides any number of records.
    pub enobufs: u64,
    /// Times that the proc connector overflowed.
    pub connector_overruns: u64,
    /// Messages of the proc connector that are missing by their count.
    pub connector_missing: u64,
    /// Records that the kernel still held when the stream was left.
    pub left_behind: u64,
    /// Batches that the next stage did not take in time.
    pub queue_dropped_batches: u64,
    /// Records in them.
    pub queue_dropped_records: u64,
    /// Records longer than our buffer.
    pub truncated: u64,
    /// Datagrams on the audit socket that the kernel did not send.
    pub foreign: u64,
    /// Datagrams too short for a header.
    pub malformed: u64,
    /// Events closed by a timer, or because memory was short: perhaps not whole.
    pub incomplete_events: u64,
    /// Those of them that left because memory was short.
    pub evicted_events: u64,
    /// Serial numbers of the kernel that never came (in wrapping arithmetic, after a window for those that come out of
    /// order): at least so many events of which every record was lost on the way.
    pub missing_serials: u64,
    /// Messages without a readable head.
    pub undecodable: u64,
    /// Records with a field that could not be decoded; they are kept as they came.
    pub undecodable_fields: u64,
    /// Times when nobody read: from the end of one run, unannounced, to the start of the next.
    pub gaps: u64,
}

/// What the ledger cannot find out from counters of this crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Records that the kernel threw away since the start, from [`KernelLost`].
    pub kernel_lost: u64,
    /// Messages whose head [`crate::parse_header`] could not read.
    pub undecodable: u64,
    /// Records with a field that the decoder refused.
    pub undecodable_fields: u64,
    /// Times when nobody read.
    pub gaps: u64,
}

impl Losses {
    /// The whole ledger at this moment.
    pub fn of(counters: &Counters, assembled: &AssembleCounters, beyond: Beyond) -> Self {
        Self {
            incomplete_events: assembled.timed_out + assembled.evicted,
            evicted_events: assembled.evicted,
            missing_serials: assembled.serial_gaps,
            undecodable: beyond.undecodable,
            undecodable_fields: beyond.undecodable_fields,
            gaps: beyond.gaps,
            ..Self::snapshot(counters, beyond.kernel_lost)
        }
    }

    /// The reader's part of it.
    pub fn snapshot(counters: &Counters, kernel_lost: u64) -> Self {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            kernel_lost,
            enobufs: get(&counters.enobufs),
            connector_overruns: get(&counters.connector_overruns),
            connector_missing: get(&counters.connector_missing),
            left_behind: get(&counters.left_behind),
            queue_dropped_batches: get(&counters.queue_dropped_batches),
            queue_dropped_records: get(&counters.queue_dropped_records),
            truncated: get(&counters.truncated),
            foreign: get(&counters.foreign),
            malformed: get(&counters.malformed),
            ..Self::default()
        }
    }

    /// May an event be hidden by it? A foreign datagram is a forgery, not a loss; an incomplete event is there, and
    /// so is a field that was not decoded.
    pub fn any(&self) -> bool {
        Self {
            foreign: 0,
            incomplete_events: 0,
            evicted_events: 0,
            undecodable_fields: 0,
            ..*self
        } != Self::default()
    }

    /// Every figure with its name and what it counts, for whoever exports them. The names are those of the JSON.
    pub fn figures(&self) -> [(&'static str, &'static str, u64); 16] {
        [
            (
                "kernel_lost",
                "Records that the kernel threw away",
                self.kernel_lost,
            ),
            (
                "enobufs",
                "Times that the audit socket overflowed",
                self.enobufs,
            ),
            (
                "connector_overruns",
                "Times that the proc connector overflowed",
                self.connector_overruns,
            ),
            (
                "connector_missing",
                "Messages of the proc connector missing by their count",
                self.connector_missing,
            ),
            (
                "left_behind",
                "Records that the kernel held when the stream was left",
                self.left_behind,
            ),
            (
                "queue_dropped_batches",
                "Batches that the next stage had no room for",
                self.queue_dropped_batches,
            ),
            (
                "queue_dropped_records",
                "Records in those batches",
                self.queue_dropped_records,
            ),
            (
                "truncated",
                "Records longer than the buffer",
                self.truncated,
            ),
            (
                "foreign",
                "Datagrams that the kernel did not send",
                self.foreign,
            ),
            (
                "malformed",
                "Datagrams too short for a header",
                self.malformed,
            ),
            (
                "incomplete_events",
                "Events closed by a timer or for want of memory",
                self.incomplete_events,
            ),
            (
                "evicted_events",
                "Events closed for want of memory",
                self.evicted_events,
            ),
            (
                "missing_serials",
                "Serial numbers of the kernel that never came",
                self.missing_serials,
            ),
            (
                "undecodable",
                "Messages without a readable head",
                self.undecodable,
            ),
            (
                "undecodable_fields",
                "Records with a field that could not be decoded, kept raw",
                self.undecodable_fields,
            ),
            ("gaps", "Times when nobody read", self.gaps),
        ]
    }
}

/// Follows the kernel's own count of lost records, which began long before us, wraps, and may be set back by anybody.
#[derive(Clone, Copy, Debug)]
pub struct KernelLost {
    last: u32,
    total: u64,
}

impl KernelLost {
    /// Starts to count at the kernel's present figure.
    pub fn new(status: &Status) -> Self {
        Self {
            last: status.lost,
            total: 0,
        }
    }

    /// Takes note of the present figure and returns the records lost since [`KernelLost::new`].
    pub fn update(&mut self, status: &Status) -> u64 {
        let step = status.lost.wrapping_sub(self.last);
        // A count that goes back by a little was set back; one that goes "forward" by half its range wrapped backwards too.
        self.total += u64::from(if step <= u32::MAX / 2 {
            step
        } else {
            status.lost
        });
        self.last = status.lost;
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(lost: u32) -> Status {
        Status {
            lost,
            ..Status::default()
        }
    }

    #[test]
    fn the_kernels_count_is_followed_across_wrap_and_reset() {
        let mut meter = KernelLost::new(&lost(u32::MAX - 1));
        assert_eq!(meter.update(&lost(u32::MAX - 1)), 0);
        assert_eq!(meter.update(&lost(2)), 4);
        assert_eq!(meter.update(&lost(50)), 52);
        assert_eq!(meter.update(&lost(3)), 55, "set back to 0, then three more");
    }

    #[test]
    fn every_figure_of_the_ledger_is_exported_under_its_name() {
        let assembled = AssembleCounters {
            timed_out: 3,
            evicted: 2,
            serial_gaps: 7,
            ..AssembleCounters::default()
        };
        let beyond = Beyond {
            kernel_lost: 1,
            undecodable: 4,
            undecodable_fields: 5,
            gaps: 6,
        };
        let ledger = Losses::of(&Counters::default(), &assembled, beyond);
        let json = serde_json::to_value(ledger).unwrap();
        let figures = ledger.figures();
        assert_eq!(json.as_object().unwrap().len(), figures.len());
        for (name, _, value) in figures {
            assert_eq!(json[name], value, "{name}");
        }
        assert_eq!(
            (
                ledger.incomplete_events,
                ledger.evicted_events,
                ledger.missing_serials
            ),
            (5, 2, 7)
        );
        assert!(ledger.any());
    }

    #[test]
    fn a_forged_datagram_alone_is_no_loss() {
        assert!(
            !Losses {
                foreign: 9,
                ..Losses::default()
            }
            .any()
        );
        assert!(
            Losses {
                enobufs: 1,
                ..Losses::default()
            }
            .any()
        );
    }
}
