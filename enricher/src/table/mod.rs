//! The process table: which process had a pid at a moment, what it had executed, and whose it was.
//!
//! In: forks, execs and exits of the proc connector (exact times, no arguments) and execs of the audit stream (arguments,
//! coarse times). A process is a row with epochs: epoch 0 is what it inherited at its fork, each exec opens another.
//! The connector is ahead of the audit stream, so an epoch can be there before its arguments are; it is resolved when
//! somebody asks, or a few seconds later, while everything that it depends on is still in the table.

mod audit;
mod find;
mod resolve;
pub mod role;
mod sweep;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use compact_str::CompactString;
use smallvec::SmallVec;

pub use audit::Assigned;
pub use find::Found;
pub use role::{Key, Role, Standing};
pub use sweep::Seed;

/// One program, as an exec brought it into a process. Children share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Path.
    pub exe: CompactString,
    /// Name at the exec.
    pub comm: CompactString,
    /// Arguments, cut at the table's limit.
    pub argv: Vec<String>,
    /// Did root execute it?
    pub by_root: bool,
}

/// A row: pids are used again, rows are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    index: u32,
    generation: u32,
}

/// What a process was between two execs.
#[derive(Clone, Debug)]
pub(crate) struct Epoch {
    /// Fork or exec, monotonic.
    start_ns: u64,
    image: Option<Arc<Image>>,
    standing: Option<Standing>,
    /// The audit record of this exec has come.
    audited: bool,
    /// Opened by an audit record alone; the connector's message may still come.
    deduced: bool,
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pid: u32,
    ppid: u32,
    start_ns: u64,
    /// 0 while it lives.
    end_ns: u64,
    parent: Option<Row>,
    /// Number of the parent's epoch in which it was forked.
    parent_epoch: u32,
    /// Row of an earlier process with this pid.
    older: Option<Row>,
    threads: u32,
    children: u32,
    /// Number of the first epoch that is still kept.
    first: u32,
    epochs: SmallVec<[Epoch; 1]>,
    /// Overruns of the connector that had happened when this row was last known to be right.
    checked: u32,
    origin: Origin,
    /// When `/proc` last showed that the row is right, monotonic.
    proved_ns: u64,
    /// Named itself like a runtime's clone before it executed anything.
    named: bool,
    settled: bool,
}

/// How a row came into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Its fork was seen.
    Fork,
    /// Read from `/proc` at `at_ns`, monotonic.
    Proc {
        /// Time of reading.
        at_ns: u64,
    },
    /// Deduced from a record's pid and ppid.
    Record,
}

/// What the table counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TableCounters {
    /// Rows now, dead ones that are still kept included.
    pub rows: u64,
    /// Processes forked.
    pub forks: u64,
    /// Execs of the connector.
    pub execs: u64,
    /// Processes ended.
    pub exits: u64,
    /// Execs of the connector whose audit record never came.
    pub execs_unaudited: u64,
    /// Dead rows dropped before their time because the table was full.
    pub dropped_early: u64,
    /// Forks of a parent that the table did not know.
    pub orphan_forks: u64,
    /// Rows deduced from records, because no fork was seen.
    pub deduced: u64,
    /// Rows that a repair found in another container than `/proc` shows.
    pub contradicted: u64,
}

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    /// Most rows.
    pub rows: usize,
    /// Most dead rows kept for late records.
    pub dead: usize,
    /// How long a dead row is kept, nanoseconds.
    pub dead_ns: u64,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    slots: Vec<(u32, Option<Instance>)>,
    free: Vec<u32>,
    by_pid: HashMap<u32, Row>,
    settling: VecDeque<(Row, u64)>,
    dead: VecDeque<(Row, u64)>,
    held: VecDeque<Row>,
    limits: TableLimits,
    overruns: u32,
    counters: TableCounters,
    /// Is the connector feeding us?
    connected: bool,
    /// May a process of which nothing is known be taken for a runtime? For logs only.
    trusting: bool,
}

/// Most epochs of one process; one that executes itself in a loop loses its oldest.
const MAX_EPOCHS: usize = 32;
/// Times of `/proc` are in hundredths of a second.
const PROC_SLACK_NS: u64 = 20_000_000;

impl Table {
    /// An empty table.
    pub fn new(limits: TableLimits) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_pid: HashMap::new(),
            settling: VecDeque::new(),
            dead: VecDeque::new(),
            held: VecDeque::new(),
            limits,
            overruns: 0,
            counters: TableCounters::default(),
            connected: false,
            trusting: false,
        }
    }

    /// For logs: takes a process of which nothing is known for a runtime when it executes one.
    pub fn trusting(mut self) -> Self {
        self.trusting = true;
        self
    }

    /// What was counted.
    pub fn counters(&self) -> TableCounters {
        TableCounters {
            rows: (self.slots.len() - self.free.len()) as u64,
            ..self.counters
        }
    }

    pub(crate) fn get(&self, row: Row) -> Option<&Instance> {
        let (generation, instance) = self.slots.get(row.index as usize)?;
        instance.as_ref().filter(|_| *generation == row.generation)
    }

    pub(crate) fn get_mut(&mut self, row: Row) -> Option<&mut Instance> {
        let (generation, instance) = self.slots.get_mut(row.index as usize)?;
        instance.as_mut().filter(|_| *generation == row.generation)
    }

    fn insert(&mut self, mut instance: Instance) -> Row {
        self.make_room(instance.start_ns);
        instance.older = self.by_pid.get(&instance.pid).copied();
        if let Some(parent) = instance.parent.and_then(|p| self.get_mut(p)) {
            parent.children += 1;
        }
        let (pid, at) = (instance.pid, instance.start_ns);
        let row = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.1 = Some(instance);
                Row {
                    index,
                    generation: slot.0,
                }
            }
            None => {
                self.slots.push((0, Some(instance)));
                Row {
                    index: (self.slots.len() - 1) as u32,
                    generation: 0,
                }
            }
        };
        self.by_pid.insert(pid, row);
        self.settling.push_back((row, at));
        row
    }

    /// The living process with a pid.
    fn living(&self, pid: u32) -> Option<Row> {
        let row = *self.by_pid.get(&pid)?;
        (self.get(row)?.end_ns == 0).then_some(row)
    }

    /// A process was forked.
    pub fn fork(&mut self, at_ns: u64, parent: u32, child: u32) {
        self.connected = true;
        self.counters.forks += 1;
        if let Some(row) = self.by_pid.get(&child).copied()
            && let Some(known) = self.get_mut(row)
        {
            let same = known.start_ns.abs_diff(at_ns) <= PROC_SLACK_NS;
            match known.origin {
                // Seen in /proc after it was forked and before we heard of that.
                Origin::Proc { .. } if same && known.end_ns == 0 => {
                    known.start_ns = at_ns;
                    return;
                }
                Origin::Proc { .. } if known.start_ns > at_ns => return,
                _ if known.end_ns == 0 => {
                    known.end_ns = at_ns;
                    self.dead.push_back((row, at_ns));
                }
                _ => {}
            }
        }
        let parent_row = self.by_pid.get(&parent).copied().filter(|row| {
            // The parent lived at that moment, or the row is of an earlier process.
            self.get(*row)
                .is_some_and(|p| p.end_ns == 0 || p.end_ns >= at_ns)
        });
        let (parent_epoch, checked) = parent_row
            .and_then(|row| self.get(row))
            .map_or((0, self.overruns), |p| (p.epoch_at(at_ns), p.checked));
        if parent_row.is_none() {
            self.counters.orphan_forks += 1;
        }
        self.insert(Instance {
            pid: child,
            ppid: parent,
            start_ns: at_ns,
            end_ns: 0,
            parent: parent_row,
            parent_epoch,
            older: None,
            threads: 1,
            children: 0,
            first: 0,
            epochs: SmallVec::from_buf([Epoch {
                start_ns: at_ns,
                image: None,
                standing: None,
                audited: false,
                deduced: false,
            }]),
            checked,
            origin: Origin::Fork,
            proved_ns: 0,
            named: false,
            settled: false,
        });
    }

    /// A thread was made (`delta` 1) or ended (-1); a process ends with its last thread.
    pub fn thread(&mut self, at_ns: u64, tgid: u32, delta: i32) -> Option<Row> {
        self.connected = true;
        let row = self.living(tgid)?;
        let instance = self.get_mut(row)?;
        if instance.start_ns > at_ns + PROC_SLACK_NS {
            return None;
        }
        if let Origin::Proc { at_ns: read } = instance.origin
            && at_ns < read
        {
            return None; // counted by /proc already
        }
        instance.threads = instance.threads.saturating_add_signed(delta);
        (instance.threads == 0)
            .then(|| self.end(row, at_ns))
            .flatten()
    }

    /// The process itself (its first thread) ended. Other threads can go on, and then it goes on.
    pub fn exit(&mut self, at_ns: u64, pid: u32) -> Option<Row> {
        self.counters.exits += 1;
        let row = self.living(pid)?;
        let instance = self.get_mut(row)?;
        if let Origin::Proc { at_ns: read } = instance.origin
            && at_ns < read
            && instance.start_ns + PROC_SLACK_NS > at_ns
        {
            return None;
        }
        self.thread(at_ns, pid, -1)
    }

    fn end(&mut self, row: Row, at_ns: u64) -> Option<Row> {
        let instance = self.get_mut(row)?;
        instance.end_ns = at_ns.max(1);
        self.dead.push_back((row, at_ns));
        self.make_room(at_ns);
        Some(row)
    }

    /// A program was executed; which one, the audit stream says.
    pub fn exec(&mut self, at_ns: u64, pid: u32) {
        self.connected = true;
        self.counters.execs += 1;
        let Some(row) = self.by_pid.get(&pid).copied() else {
            return;
        };
        if self.get(row).is_some_and(|i| i.epochs.len() >= MAX_EPOCHS) {
            // The oldest epoch is about to go; what follows it must not depend on it.
            if self.standing(row, 1).is_none() {
                self.remember(row, 1, Standing::UNKNOWN);
            }
        }
        let Some(instance) = self.get_mut(row) else {
            return;
        };
        if instance.end_ns != 0 {
            instance.end_ns = 0; // its threads were miscounted: who executes lives
        }
        if let Origin::Proc { at_ns: read } = instance.origin
            && at_ns <= read
        {
            return; // what /proc showed was read later
        }
        // Every thread but the one that executes is gone.
        instance.threads = 1;
        if let Some(last) = instance.epochs.last_mut()
            && last.deduced
            && last.start_ns.abs_diff(at_ns) < 50_000_000
        {
            last.deduced = false;
            last.start_ns = at_ns;
            return;
        }
        instance.open(at_ns);
    }

    /// A process named itself. Only the name of a runtime's clone before any exec matters.
    pub fn comm(&mut self, pid: u32, comm: &[u8]) {
        let clone = [&b"runc:["[..], b"crun:[", b"youki:["]
            .iter()
            .any(|p| comm.starts_with(p));
        if !clone {
            return;
        }
        let Some(instance) = self.living(pid).and_then(|row| self.get_mut(row)) else {
            return;
        };
        if instance.first == 0
            && instance.epochs.len() == 1
            && !matches!(instance.origin, Origin::Proc { .. })
        {
            instance.named = true;
            if let Some(epoch) = instance.epochs.first_mut() {
                epoch.standing = epoch.standing.map(|s| match s.role {
                    Role::RuntimeChild(key, verb) => Standing {
                        role: Role::SetupClone(key, verb),
                        ..s
                    },
                    _ => s,
                });
            }
        }
    }

    /// The connector lost messages: rows are no longer known to be right until [`Table::seed`] has looked at them.
    pub fn overrun(&mut self) {
        self.overruns += 1;
    }

    /// A record says that the process acted in the window: if it was thought dead, its threads were miscounted.
    pub(crate) fn touch(&mut self, row: Row, from_ns: u64) {
        if let Some(instance) = self.get_mut(row)
            && instance.end_ns != 0
            && instance.end_ns + 1_000_000_000 < from_ns
        {
            instance.end_ns = 0;
        }
    }

    /// Pids that live according to the table.
    pub fn living_pids(&self) -> Vec<(u32, Row)> {
        self.by_pid
            .iter()
            .filter(|(_, row)| self.get(**row).is_some_and(|i| i.end_ns == 0))
            .map(|(p, r)| (*p, *r))
            .collect()
    }

    /// Start of a row's process as far as it is known, monotonic, and whether it may have been long before that: of a row that
    /// was deduced only the first record is known.
    pub(crate) fn start_of_row(&self, row: Row) -> Option<(u64, bool)> {
        self.get(row)
            .map(|i| (i.start_ns, i.origin == Origin::Record))
    }

    /// When the row's process was last seen to be forked or to execute.
    pub(crate) fn last_seen(&self, row: Row) -> u64 {
        let last = self.get(row).and_then(|i| i.epochs.last());
        last.map_or(0, |e| e.start_ns)
    }

    /// `/proc`, read at `now_ns`, has shown that the row is right.
    pub(crate) fn mark_checked(&mut self, row: Row, now_ns: u64) {
        let overruns = self.overruns;
        if let Some(instance) = self.get_mut(row) {
            instance.proved_ns = now_ns;
            if instance.origin != Origin::Record {
                instance.checked = overruns;
            }
        }
    }

    /// Does the connector tell of forks and exits? Without it nobody says that a pid was used again.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// When `/proc` last showed that a row is right; 0: never.
    pub(crate) fn proved(&self, row: Row) -> u64 {
        self.get(row).map_or(0, |i| i.proved_ns)
    }

    /// Another process has the pid since `at_ns`: the end of this one was not seen.
    pub(crate) fn supersede(&mut self, row: Row, at_ns: u64) {
        if self.get(row).is_some_and(|i| i.end_ns == 0) {
            self.end(row, at_ns);
        }
    }

    /// Is the row right as far as is known?
    pub fn is_checked(&self, row: Row) -> bool {
        self.get(row).is_some_and(|i| i.checked == self.overruns)
    }
}

impl Instance {
    /// Number of the epoch at a moment of the connector's clock.
    fn epoch_at(&self, at_ns: u64) -> u32 {
        let index = self
            .epochs
            .iter()
            .rposition(|e| e.start_ns <= at_ns)
            .unwrap_or(0);
        self.first + index as u32
    }

    /// Opens an epoch.
    fn open(&mut self, at_ns: u64) -> usize {
        // Children that were forked in an epoch settle within a few seconds after its end; until then it stays. The last two
        // stay anyway: the program before the last exec and the one after.
        while self.epochs.len() >= MAX_EPOCHS
            || (self.epochs.len() > 2 && self.epochs[1].start_ns + 2 * sweep::SETTLE_NS < at_ns)
        {
            self.epochs.remove(0);
            self.first += 1;
        }
        self.epochs.push(Epoch {
            start_ns: at_ns,
            image: None,
            standing: None,
            audited: false,
            deduced: false,
        });
        self.epochs.len() - 1
    }

    fn index_of(&self, epoch: u32) -> usize {
        (epoch.saturating_sub(self.first) as usize).min(self.epochs.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests;
