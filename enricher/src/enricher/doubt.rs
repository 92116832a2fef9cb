//! Rows of the table that may be wrong: those that were there when the connector lost messages, those that were only
//! deduced from records, and without the connector all of them. Before one of them answers, `/proc` is asked whether it is
//! still the process that it was.
//!
//! What cannot be asked any more stays in doubt: it answers when nothing contradicts it, and is never certain.

use super::Enricher;
use super::seed::start_ns;
use crate::clock::Window;
use crate::procfs::USER_HZ;
use crate::table::Row;
use crate::table::role::Role;

/// `/proc` cuts the start of a process to hundredths of a second, and a record's window is as wide.
const START_SLACK_NS: u64 = 25_000_000;
/// A process of which only records told is believed for so long after it was last seen: in that time pids do not come round,
/// and reading `/proc` for each event would make us late.
const FRESH_NS: u64 = 1_000_000_000;
/// The unit of a start in `/proc`.
pub(super) const TICK_NS: u64 = 1_000_000_000 / USER_HZ;

impl Enricher {
    /// Is this row really of the process that had `pid` in the window?
    pub(super) fn believe(&mut self, row: Row, pid: u32, ppid: u32, window: Window) -> bool {
        let deduced = self.table.is_deduced(row);
        let unwatched = deduced || !self.table.is_connected();
        let checked = self.table.is_checked(row);
        if !unwatched && checked {
            return true;
        }
        if self.proc.is_none() {
            return !(deduced && self.has_another_parent(row, ppid, window));
        }
        // Another parent: adopted, or another process.
        let same_parent = ppid == 0 || self.table.ppid(row) == Some(ppid);
        if unwatched
            && (deduced || checked)
            && same_parent
            && self.table.proved(row) + FRESH_NS > window.from
        {
            return true;
        }
        let Some((told, start)) = self.read_process(pid, window) else {
            // Gone, or a later process has the pid.
            return !self.has_another_parent(row, ppid, window);
        };
        if !self.is_of(row, start) {
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
        // Also before this call: the record of an exec goes on from there.
        self.counters.contradictions += u64::from(self.table.agree(row, told));
        self.table.mark_checked(row, self.clock.now());
        if ppid != 0 {
            self.table.set_ppid(row, ppid);
        }
        true
    }

    /// Can a process that started at `start` be the row's?
    fn is_of(&self, row: Row, start: u64) -> bool {
        self.table
            .start_of_row(row)
            .is_some_and(|(started, was_before)| {
                if was_before {
                    start <= started + START_SLACK_NS
                } else {
                    start.abs_diff(started) <= START_SLACK_NS
                }
            })
    }

    /// Without the connector a pid can be used again unseen, within the second too in which a row is believed. The row's process
    /// surely acted only when it still has the pid now, after the event, and had it before: then it had it in between.
    pub(super) fn corroborated(&mut self, row: Row, pid: u32, window: Window) -> bool {
        let Some(proc) = &self.proc else {
            return false;
        };
        self.counters.proc_reads += 1;
        let Some(stat) = proc.stat(pid) else {
            self.counters.proc_late += 1;
            return false;
        };
        let start = start_ns(stat.start_ticks);
        start + TICK_NS <= window.from && self.is_of(row, start)
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
        let unwatched = deduced || !self.table.is_connected();
        let checked = self.table.is_checked(row);
        if self.proc.is_none() || !unwatched && checked {
            return Some(row);
        }
        if unwatched
            && (deduced || checked)
            && self.table.last_seen(row).max(self.table.proved(row)) + FRESH_NS > window.from
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use collector::{Event, EventId, RecordType};

    use crate::activity::Source;
    use crate::clock::{monotonic_ns, suspended_ns};
    use crate::{Activity, Enricher, Options};

    const SECOND: u64 = 1_000_000_000;

    /// `/proc/PID` of a process that started at `start_ns`, in Docker's container `id`.
    fn process(proc: &Path, pid: u32, ppid: u32, start_ns: u64, id: char) {
        let dir = proc.join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let ticks = (start_ns + suspended_ns()) / 10_000_000;
        let stat = format!("{pid} (x) S {ppid} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 1 1");
        std::fs::write(dir.join("stat"), stat).unwrap();
        let id = String::from(id).repeat(64);
        std::fs::write(dir.join("cgroup"), format!("0::/docker/{id}\n")).unwrap();
    }

    /// A call of a process, so many nanoseconds from now.
    fn call(enricher: &mut Enricher, serial: u32, pid: u32, ppid: u32, after_ns: u64) -> Activity {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        let mut event = Event::new(EventId::local(now + after_ns / 1_000_000, serial));
        event.push(
            RecordType::SYSCALL,
            format!("arch=c000003e syscall=257 success=yes exit=3 a0=0 a1=0 a2=0 a3=0 items=0 ppid={ppid} pid={pid} auid=4294967295 uid=0 gid=0 euid=0 comm=\"x\" exe=\"/x\" key=(null)").as_bytes(),
        );
        event.complete = true;
        enricher.enrich(event)
    }

    fn of(a: &Activity) -> Option<char> {
        a.container.as_ref().and_then(|c| c.id.chars().next())
    }

    #[test]
    fn without_the_connector_a_pid_used_again_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut enricher = Enricher::new(Options {
            proc: dir.path().to_owned(),
            ..Options::default()
        });
        let now = monotonic_ns();
        process(dir.path(), 100, 50, now - 5 * SECOND, 'a');
        let first = call(&mut enricher, 1, 100, 50, 0);
        assert_eq!(
            (of(&first), first.attribution.source),
            (Some('a'), Source::Proc)
        );
        // Nobody said that it ended, and the next one has the same parent.
        process(dir.path(), 100, 50, now + 2 * SECOND, 'b');
        assert_eq!(of(&call(&mut enricher, 2, 100, 50, 3 * SECOND)), Some('b'));
        // Gone, with a parent that nobody knows: no answer rather than the last one.
        std::fs::remove_dir_all(dir.path().join("100")).unwrap();
        let last = call(&mut enricher, 3, 100, 77, 6 * SECOND);
        assert_eq!((of(&last), last.attribution.source), (None, Source::None));
    }

    #[test]
    fn without_the_connector_only_what_proc_still_shows_is_certain() {
        let dir = tempfile::tempdir().unwrap();
        let mut enricher = Enricher::new(Options {
            proc: dir.path().to_owned(),
            ..Options::default()
        });
        let now = monotonic_ns();
        process(dir.path(), 100, 50, now - 5 * SECOND, 'a');
        process(dir.path(), 101, 50, now - 5 * SECOND, 'a');
        enricher.seed();
        // One that was there at the start, and one that a record brought in.
        process(dir.path(), 102, 50, now - SECOND, 'a');
        for pid in [100, 101, 102] {
            let first = call(&mut enricher, pid, pid, 50, 0);
            assert!(
                of(&first) == Some('a') && first.attribution.certain,
                "{pid}"
            );
        }
        // Within the second in which a row is believed the pids came round: two live, one is gone already.
        process(dir.path(), 100, 50, now + SECOND / 5, 'b');
        process(dir.path(), 102, 50, now + SECOND / 5, 'b');
        std::fs::remove_dir_all(dir.path().join("101")).unwrap();
        for pid in [100, 101, 102] {
            let later = call(&mut enricher, 10 + pid, pid, 50, SECOND / 2);
            assert!(
                of(&later) == Some('b') || !later.attribution.certain,
                "{pid}: {:?} {:?}",
                of(&later),
                later.attribution
            );
        }
    }

    #[test]
    fn without_the_connector_another_parent_is_a_reason_to_look_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut enricher = Enricher::new(Options {
            proc: dir.path().to_owned(),
            ..Options::default()
        });
        let now = monotonic_ns();
        process(dir.path(), 100, 50, now - 5 * SECOND, 'a');
        enricher.seed();
        assert_eq!(of(&call(&mut enricher, 1, 100, 50, 0)), Some('a'));
        // Adopted: still the same. Then another process, within the second in which the row is believed.
        assert_eq!(of(&call(&mut enricher, 2, 100, 1, 0)), Some('a'));
        process(dir.path(), 100, 60, now + SECOND / 5, 'b');
        assert_eq!(of(&call(&mut enricher, 3, 100, 60, SECOND / 2)), Some('b'));
    }

    #[test]
    fn a_repair_does_not_take_a_later_process_for_the_one_that_a_record_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let mut enricher = Enricher::new(Options {
            proc: dir.path().to_owned(),
            ..Options::default()
        });
        let now = monotonic_ns();
        process(dir.path(), 100, 50, now - 5 * SECOND, 'a');
        assert_eq!(of(&call(&mut enricher, 1, 100, 50, 0)), Some('a'));
        process(dir.path(), 100, 50, now + SECOND / 5, 'b');
        enricher.seed();
        let later = call(&mut enricher, 2, 100, 50, SECOND / 2);
        assert_eq!(of(&later), Some('b'));
    }

    #[test]
    fn after_an_overrun_a_row_is_compared_before_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let mut enricher = Enricher::new(Options {
            proc: dir.path().to_owned(),
            ..Options::default()
        });
        let now = monotonic_ns();
        process(dir.path(), 100, 50, now - 5 * SECOND, 'a');
        enricher.seed();
        let before = call(&mut enricher, 1, 100, 50, 0);
        assert!(of(&before) == Some('a') && before.attribution.certain);
        enricher.on_connector_overrun();
        enricher.on_connector_overrun();
        // The second overrun waits for its repair; meanwhile another process got the pid.
        process(dir.path(), 100, 50, now + SECOND / 2, 'b');
        let after = call(&mut enricher, 2, 100, 50, SECOND);
        assert_eq!(of(&after), Some('b'));
        assert_eq!(enricher.counters().overruns, 2);
    }
}
