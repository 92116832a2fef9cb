//! Keeping the table bounded and right: settling, forgetting, seeding from `/proc` and repairing after an overrun.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Epoch, Image, Instance, Origin, Row, Standing, Table};

/// After so long every record that can decide over a process has come, or will not.
pub(super) const SETTLE_NS: u64 = 5_000_000_000;

/// What `/proc` says about a process that the table is to hold.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Process id.
    pub pid: u32,
    /// Its parent now.
    pub ppid: u32,
    /// Threads now.
    pub threads: u32,
    /// Start, monotonic, cut to hundredths of a second.
    pub start_ns: u64,
    /// When it was read, monotonic.
    pub read_ns: u64,
    /// Program.
    pub image: Arc<Image>,
    /// Whose it is.
    pub standing: Standing,
}

impl Table {
    /// Puts in what `/proc` shows. Returns its row.
    pub fn seed(&mut self, seed: Seed) -> Row {
        let overruns = self.overruns;
        if let Some(row) = self.living(seed.pid)
            && let Some(known) = self.get_mut(row)
        {
            // Of a deduced row only its first record is known: the process was there then, so it did not start later.
            let same = match known.origin {
                Origin::Record => seed.start_ns <= known.start_ns + super::PROC_SLACK_NS,
                _ => known.start_ns.abs_diff(seed.start_ns) <= super::PROC_SLACK_NS,
            };
            if same {
                // The same process: take what is fresher, keep what only we know.
                known.threads = seed.threads;
                let changed = known
                    .epochs
                    .last()
                    .is_some_and(|e| e.image.as_ref().is_some_and(|i| i.exe != seed.image.exe));
                if changed {
                    let index = known.open(seed.read_ns);
                    known.epochs[index].image = Some(seed.image);
                    known.epochs[index].standing = Some(seed.standing);
                } else if let Some(last) = known.epochs.last_mut() {
                    last.image.get_or_insert(seed.image);
                    last.standing.get_or_insert(seed.standing);
                }
                known.checked = overruns;
                known.proved_ns = seed.read_ns;
                let contradicted = self.agree(row, seed.standing);
                self.counters.contradicted += u64::from(contradicted);
                return row;
            }
            known.end_ns = seed.start_ns.max(1);
            self.dead.push_back((row, seed.start_ns));
        }
        let epoch = Epoch {
            start_ns: seed.start_ns,
            image: Some(seed.image),
            standing: Some(seed.standing),
            audited: false,
            deduced: false,
        };
        self.insert(Instance {
            pid: seed.pid,
            ppid: seed.ppid,
            start_ns: seed.start_ns,
            end_ns: 0,
            parent: None,
            parent_epoch: 0,
            older: None,
            threads: seed.threads,
            children: 0,
            first: 0,
            epochs: SmallVec::from_buf([epoch]),
            checked: self.overruns,
            origin: Origin::Proc {
                at_ns: seed.read_ns,
            },
            proved_ns: seed.read_ns,
            named: false,
            settled: true,
        })
    }

    /// `/proc` says whose a process is: what it inherited from a row that was wrong is put right, in every epoch, since the record of
    /// an exec that comes later goes on from the epoch before it. Was there such a thing? What a runtime does is not told by its cgroup.
    pub(crate) fn agree(&mut self, row: Row, told: Standing) -> bool {
        let container = |s: Standing| s.role.actor().map(|(key, _)| key);
        let last = self.get(row).map_or(0, |i| i.epochs.len());
        let mut contradicted = false;
        for index in (0..last).filter(|_| told.is_settled()) {
            let Some(known) = self.standing(row, index) else {
                continue;
            };
            if known.is_settled() && container(known) != container(told) {
                contradicted = true;
                // What it did before it was looked at it may have done elsewhere.
                let certain = told.certain && index + 1 == last;
                self.remember(row, index, Standing { certain, ..told });
            }
        }
        contradicted
    }

    /// Ties seeded rows to their parents, when all are in.
    pub fn tie(&mut self) {
        let seeded: Vec<(Row, u32)> = self
            .by_pid
            .values()
            .filter_map(|row| {
                self.get(*row)
                    .filter(|i| i.parent.is_none() && i.ppid != 0)
                    .map(|i| (*row, i.ppid))
            })
            .collect();
        for (row, ppid) in seeded {
            let Some(parent) = self.living(ppid).filter(|p| *p != row) else {
                continue;
            };
            let epoch = self.get(parent).map_or(0, |p| p.first);
            if let Some(p) = self.get_mut(parent) {
                p.children += 1;
            }
            if let Some(instance) = self.get_mut(row) {
                instance.parent = Some(parent);
                instance.parent_epoch = epoch;
            }
        }
    }

    /// Ends every living row that `/proc`, read after `before_ns`, did not show: its exit was lost.
    pub fn end_missing(&mut self, before_ns: u64, shown: impl Fn(u32) -> bool) -> usize {
        let gone: Vec<Row> = self
            .living_pids()
            .into_iter()
            .filter(|(pid, row)| {
                !shown(*pid) && self.get(*row).is_some_and(|i| i.start_ns < before_ns)
            })
            .map(|(_, row)| row)
            .collect();
        for row in &gone {
            self.end(*row, before_ns);
        }
        gone.len()
    }

    /// Start of the living process with a pid, if the table has one.
    pub fn start_of(&self, pid: u32) -> Option<u64> {
        self.living(pid)
            .and_then(|row| self.get(row))
            .map(|i| i.start_ns)
    }

    /// Does what time brings: settles what is a few seconds old, forgets what died long ago.
    pub fn advance(&mut self, now_ns: u64) {
        while let Some(&(row, at)) = self.settling.front() {
            if at + SETTLE_NS > now_ns {
                break;
            }
            self.settling.pop_front();
            self.settle(row);
        }
        while let Some(&(row, at)) = self.dead.front() {
            if at + self.limits.dead_ns > now_ns {
                break;
            }
            self.dead.pop_front();
            self.forget_or_hold(row);
        }
    }

    /// Keeps the limits.
    pub(super) fn make_room(&mut self, now_ns: u64) {
        self.advance(now_ns);
        while self.dead.len() > self.limits.dead {
            let Some((row, at)) = self.dead.pop_front() else {
                break;
            };
            self.counters.dropped_early += 1;
            // Its children were forked before it died: resolve them while it is here.
            while let Some(&(child, forked)) = self.settling.front() {
                if forked > at {
                    break;
                }
                self.settling.pop_front();
                self.settle(child);
            }
            self.forget_or_hold(row);
        }
        while self.held.len() > self.limits.dead {
            if let Some(row) = self.held.pop_front() {
                self.forget(row);
            }
        }
        if self.slots.len() - self.free.len() >= self.limits.rows {
            let row = self
                .held
                .pop_front()
                .or_else(|| self.dead.pop_front().map(|(row, _)| row));
            match row {
                Some(row) => {
                    self.counters.dropped_early += 1;
                    self.forget(row);
                }
                None => self.forget_oldest(),
            }
        }
    }

    /// The table is full of processes that live, or of which nobody says that they ended (without the connector): those that
    /// did nothing for longest go, a sixteenth of all at once. `/proc` answers for one that comes back.
    fn forget_oldest(&mut self) {
        let mut all: Vec<(u64, Row)> = self
            .by_pid
            .values()
            .filter_map(|row| Some((self.get(*row)?.epochs.last()?.start_ns, *row)))
            .collect();
        let many = (all.len() / 16).max(1);
        if all.len() > many {
            all.select_nth_unstable_by_key(many - 1, |(seen, _)| *seen);
        }
        for (_, row) in all.into_iter().take(many) {
            self.counters.dropped_early += 1;
            self.forget(row);
        }
    }

    /// A dead process with living children is their ancestor: kept while there is room.
    fn forget_or_hold(&mut self, row: Row) {
        match self.get(row) {
            Some(i) if i.end_ns == 0 => {}
            Some(i) if i.children > 0 => self.held.push_back(row),
            Some(_) => self.forget(row),
            None => {}
        }
    }

    fn forget(&mut self, row: Row) {
        let Some((generation, slot)) = self
            .slots
            .get_mut(row.index as usize)
            .filter(|s| s.0 == row.generation)
        else {
            return;
        };
        let Some(instance) = slot.take() else { return };
        *generation = generation.wrapping_add(1);
        self.free.push(row.index);
        if self.by_pid.get(&instance.pid) == Some(&row) {
            self.by_pid.remove(&instance.pid);
        }
        if let Some(parent) = instance.parent
            && let Some(p) = self.get_mut(parent)
        {
            p.children = p.children.saturating_sub(1);
        }
    }
}
