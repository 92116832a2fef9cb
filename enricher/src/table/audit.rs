//! What the audit stream adds: arguments of execs, and processes whose fork nobody saw.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Epoch, Image, Instance, Key, Origin, Role, Row, Standing, Table};
use crate::clock::Window;
use crate::runtime_args::RuntimeArgs;

/// What an exec record did.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// Place of the new epoch.
    pub index: usize,
    /// Program before.
    pub previous: Option<Arc<Image>>,
    /// Standing before; `None` when it was not known.
    pub before: Option<Standing>,
    /// Standing now.
    pub now: Standing,
}

impl Table {
    /// A row for a process whose fork was not seen, from what a record says. `parent` is the row of `ppid`, if it can be
    /// believed.
    pub fn deduce(&mut self, pid: u32, ppid: u32, parent: Option<Row>, window: Window) -> Row {
        self.counters.deduced += 1;
        let parent_epoch = parent
            .and_then(|row| {
                self.get(row)
                    .map(|p| p.first + self.epoch_of_call(row, window) as u32)
            })
            .unwrap_or(0);
        if let Some(row) = self.by_pid.get(&pid).copied()
            && let Some(known) = self.get_mut(row)
            && known.end_ns == 0
        {
            known.end_ns = window.from.max(1);
            self.dead.push_back((row, window.from));
        }
        let epoch = Epoch {
            start_ns: window.from,
            image: None,
            standing: None,
            audited: false,
            deduced: false,
        };
        self.insert(Instance {
            pid,
            ppid,
            start_ns: window.from,
            end_ns: 0,
            parent,
            parent_epoch,
            older: None,
            threads: 1,
            children: 0,
            first: 0,
            epochs: SmallVec::from_buf([epoch]),
            checked: self.overruns,
            origin: Origin::Record,
            proved_ns: 0,
            named: false,
            settled: false,
        })
    }

    /// The process was adopted.
    pub(crate) fn set_ppid(&mut self, row: Row, ppid: u32) {
        if let Some(instance) = self.get_mut(row) {
            instance.ppid = ppid;
        }
    }

    /// Parent pid, as a fork, `/proc` or a record told it last.
    pub(crate) fn ppid(&self, row: Row) -> Option<u32> {
        self.get(row).map(|i| i.ppid)
    }

    /// The record of an exec: finds the connector's epoch that it belongs to and says what it made of the process. `image` is
    /// kept; `whole`, with every argument, decides.
    pub fn assign(
        &mut self,
        row: Row,
        window: Window,
        image: Arc<Image>,
        whole: &Image,
        key: impl FnMut(&RuntimeArgs) -> Option<Key>,
    ) -> Option<Assigned> {
        let instance = self.get(row)?;
        let done = instance.epochs.iter().rposition(|e| e.audited).unwrap_or(0);
        let waiting =
            (done + 1..instance.epochs.len()).find(|&i| instance.epochs[i].start_ns >= window.from);
        let forked = instance.origin != Origin::Record;
        let index = match waiting {
            Some(index) => index,
            // The connector does not speak, or lost it.
            None => {
                let instance = self.get_mut(row)?;
                let index = instance.open(window.from);
                instance.epochs[index].deduced = true;
                index
            }
        };
        // An exec in between whose record never came: what it brought is gone, what it means for the container may still be plain.
        let previous = (0..index).rev().find_map(|i| self.image(row, i));
        let before = index.checked_sub(1).and_then(|i| self.standing(row, i));
        let now = match before {
            Some(before) if self.trusting && before.role == Role::Unknown => {
                before.after_unknown_exec(whole, key)
            }
            Some(before) => before.after_exec(whole, forked, key),
            None => Standing::UNKNOWN,
        };
        let epoch = self.get_mut(row)?.epochs.get_mut(index)?;
        epoch.audited = true;
        epoch.image = Some(image);
        epoch.standing = Some(now);
        Some(Assigned {
            index,
            previous,
            before,
            now,
        })
    }

    /// A runtime's clone that names itself in a record (`comm`), for when the connector did not say so.
    pub fn named_in_record(&mut self, row: Row, index: usize) {
        if let Some(standing) = self.standing(row, index)
            && matches!(standing.role, Role::RuntimeChild(..))
        {
            self.remember(row, index, standing.after_call());
        }
    }
}
