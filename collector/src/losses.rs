//! The ledger of what this room lost: one figure for each place where a record can disappear.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

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
}

impl Losses {
    /// The ledger at this moment.
    pub fn snapshot(counters: &Counters, kernel_lost: u64) -> Self {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            kernel_lost,
            enobufs: get(&counters.enobufs),
            connector_overruns: get(&counters.connector_overruns),
            connector_missing: get(&counters.connector_missing),
            queue_dropped_batches: get(&counters.queue_dropped_batches),
            queue_dropped_records: get(&counters.queue_dropped_records),
            truncated: get(&counters.truncated),
            foreign: get(&counters.foreign),
            malformed: get(&counters.malformed),
        }
    }

    /// Is anything missing? (A foreign datagram is a forgery, not a loss.)
    pub fn any(&self) -> bool {
        Self {
            foreign: 0,
            ..*self
        } != Self::default()
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
