//! Rows of the table that may be wrong: those that were there when the connector lost messages, and those that were only
//! deduced from records. Before one of them answers, `/proc` is asked whether it is still the process that it was.
//!
//! What cannot be asked any more stays in doubt: it answers when nothing contradicts it, and is never certain.

use super::Enricher;
use crate::clock::Window;
use crate::table::Row;
use crate::table::role::Role;

/// `/proc` cuts the start of a process to hundredths of a second, and a record's window is as wide.
const START_SLACK_NS: u64 = 25_000_000;
/// A process of which only records told is believed for so long after it was last seen: in that time pids do not come round,
/// and reading `/proc` for each event would make us late.
const FRESH_NS: u64 = 1_000_000_000;

impl Enricher {
    /// Is this row really of the process that had `pid` in the window?
    pub(super) fn believe(&mut self, row: Row, pid: u32, ppid: u32, window: Window) -> bool {
        let deduced = self.table.is_deduced(row);
        if !deduced && self.table.is_checked(row) {
            return true;
        }
        if self.proc.is_none() {
            return !(deduced && self.has_another_parent(row, ppid, window));
        }
        if deduced && self.table.proved(row) + FRESH_NS > window.from {
            return true;
        }
        let Some((started, was_before)) = self.table.start_of_row(row) else {
            return false;
        };
        let Some((told, start)) = self.read_process(pid, window) else {
            // Gone, or a later process has the pid.
            return !self.has_another_parent(row, ppid, window);
        };
        let same = if was_before {
            start <= started + START_SLACK_NS
        } else {
            start.abs_diff(started) <= START_SLACK_NS
        };
        if !same {
            self.table.supersede(row, start);
            return false;
        }
        let index = self.table.epoch_of_call(row, window);
        let before = self.table.standing(row, index);
        let container = |role: Role| role.actor().map(|(key, _)| key);
        match before.map(|s| s.role) {
            // What a runtime does is not told by its cgroup.
            Some(
                Role::Shim(_)
                | Role::ShimChild(_)
                | Role::Runtime(..)
                | Role::RuntimeChild(..)
                | Role::SetupInit(..)
                | Role::SetupClone(..),
            ) => {}
            Some(role) if container(role) == container(told.role) => {}
            known => {
                // It inherited from a row that was wrong.
                self.counters.contradictions +=
                    u64::from(known.is_some_and(|r| r != Role::Unknown));
                self.table.remember(row, index, told);
            }
        }
        self.table.mark_checked(row, self.clock.now());
        true
    }

    /// Does the record name another parent than the row has, and would that parent's child be in another container? A process
    /// whose parent died is adopted, but never by another container.
    fn has_another_parent(&mut self, row: Row, ppid: u32, window: Window) -> bool {
        if ppid <= 1 || self.table.ppid(row) == Some(ppid) {
            return false;
        }
        let Some(parent) = self.living_parent(ppid, window) else {
            // Nobody knows that parent. Live, that says enough; a log may simply begin later.
            return self.proc.is_some();
        };
        let index = self.table.epoch_of_call(parent, window);
        match self.table.standing(parent, index).map(|s| s.role) {
            Some(Role::Shim(_) | Role::Unknown) | None => false,
            Some(role) => {
                let index = self.table.epoch_of_call(row, window);
                self.table
                    .standing(row, index)
                    .is_some_and(|s| s.role.actor() != role.actor())
            }
        }
    }

    /// The row of a parent that a record names, when that row can be believed.
    pub(super) fn living_parent(&mut self, ppid: u32, window: Window) -> Option<Row> {
        if ppid == 0 {
            return None;
        }
        let row = self.table.find(ppid, window, None)?.row;
        let deduced = self.table.is_deduced(row);
        if self.proc.is_none() || !deduced && self.table.is_checked(row) {
            return Some(row);
        }
        if deduced && self.table.last_seen(row).max(self.table.proved(row)) + FRESH_NS > window.from
        {
            return Some(row);
        }
        let own = self.table.ppid(row).unwrap_or(0);
        let is_there = self.proc.as_ref().is_some_and(|p| p.stat(ppid).is_some());
        if is_there {
            return self.believe(row, ppid, own, window).then_some(row);
        }
        (!deduced).then_some(row)
    }
}
