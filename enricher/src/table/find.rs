//! Which process was it, and in which epoch? Questions from the audit stream, whose times are windows.

use super::{Origin, Row, Table};
use crate::clock::Window;

/// A coarse clock that fell behind can put an event before its process's fork; so much of that is believed.
const LATE_CLOCK_NS: u64 = 200_000_000;

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The process.
    pub row: Row,
    /// Another process with this pid that the window does not exclude.
    pub other: Option<Row>,
}

impl Table {
    /// The process that had `pid` in the window. `ppid`, as the record says it, decides between two, but not surely.
    pub fn find(&self, pid: u32, window: Window, ppid: Option<u32>) -> Option<Found> {
        let mut next = self.by_pid.get(&pid).copied();
        let mut newer: Option<Row> = None;
        while let Some(row) = next {
            let Some(instance) = self.get(row) else { break };
            next = instance.older;
            if instance.start_ns > window.to {
                newer = Some(row);
                continue;
            }
            let older = next.filter(|r| {
                instance.start_ns > window.from
                    && self
                        .get(*r)
                        .is_some_and(|o| o.end_ns == 0 || o.end_ns >= window.from)
            });
            let Some(older) = older else {
                // A clock that is late stamps the first calls of the next one before its fork.
                let next = newer.filter(|n| {
                    instance.end_ns != 0
                        && self
                            .get(*n)
                            .is_some_and(|n| n.start_ns - window.to < LATE_CLOCK_NS)
                });
                return Some(match next {
                    None => Found { row, other: None },
                    // It had ended before the window began.
                    Some(next) if instance.end_ns < window.from => Found {
                        row: next,
                        other: None,
                    },
                    Some(next) => self.one_of(row, next, ppid),
                });
            };
            return Some(self.one_of(row, older, ppid));
        }
        let row = newer?;
        let instance = self.get(row)?;
        (instance.start_ns - window.to < LATE_CLOCK_NS).then_some(Found { row, other: None })
    }

    /// The first, unless the record names the parent of the second alone; either way the other is not excluded.
    fn one_of(&self, first: Row, second: Row, ppid: Option<u32>) -> Found {
        let says = |r: Row| ppid.is_some_and(|p| self.get(r).is_some_and(|i| i.ppid == p));
        let (row, other) = if says(second) && !says(first) {
            (second, first)
        } else {
            (first, second)
        };
        Found {
            row,
            other: Some(other),
        }
    }

    /// Place of the epoch in which a process made a call (other than exec) in the window.
    ///
    /// The audit stream keeps the order of one process: behind the record of an exec comes what was done after it. So the last
    /// audited epoch is the one, unless the connector says that another exec was long over and its record never came.
    pub(crate) fn epoch_of_call(&self, row: Row, window: Window) -> usize {
        let Some(instance) = self.get(row) else {
            return 0;
        };
        let mut index = instance.epochs.iter().rposition(|e| e.audited).unwrap_or(0);
        while index > 0 && instance.epochs[index].start_ns > window.to {
            index -= 1;
        }
        while let Some(next) = instance.epochs.get(index + 1) {
            if next.audited || next.start_ns >= window.from {
                break;
            }
            index += 1;
        }
        index
    }

    /// Was the row only deduced from a record?
    pub(crate) fn is_deduced(&self, row: Row) -> bool {
        self.get(row).is_some_and(|i| i.origin == Origin::Record)
    }

    /// Ancestors, nearest first: pid and row.
    pub(crate) fn ancestors(&self, row: Row, most: usize) -> Vec<(u32, Row)> {
        let mut out = Vec::new();
        let mut at = self.get(row).and_then(|i| i.parent);
        while let Some(row) = at {
            if out.len() >= most {
                break;
            }
            let Some(instance) = self.get(row) else { break };
            out.push((instance.pid, row));
            at = instance.parent;
        }
        out
    }

    /// Program of a process as it was last, at or before a moment.
    pub(crate) fn image_before(
        &self,
        row: Row,
        at_ns: u64,
    ) -> Option<std::sync::Arc<super::Image>> {
        let instance = self.get(row)?;
        let index = instance
            .epochs
            .iter()
            .rposition(|e| e.start_ns <= at_ns)
            .unwrap_or(0);
        (0..=index).rev().find_map(|i| self.image(row, i))
    }
}
