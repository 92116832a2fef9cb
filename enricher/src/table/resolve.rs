//! From epochs to standings: what fork and exec made of a process, looked up through its parents.

use std::sync::Arc;

use super::{Image, Origin, Row, Standing, Table};

impl Table {
    /// Standing of a process in one of its epochs (its place in the row). `None` while a record that decides is missing.
    pub(crate) fn standing(&mut self, row: Row, index: usize) -> Option<Standing> {
        // Up to the first ancestor that is resolved, then down again. A chain of forks can be long, so no recursion.
        let mut todo: Vec<(Row, usize)> = vec![(row, index)];
        let mut known: Option<Standing> = None;
        while let Some(&(at, epoch)) = todo.last() {
            let Some(instance) = self.get(at) else {
                known = Some(Standing::UNKNOWN);
                todo.pop();
                break;
            };
            let here = instance.epochs.get(epoch)?;
            if let Some(standing) = here.standing {
                known = Some(standing);
                todo.pop();
                break;
            }
            if epoch > 0 {
                todo.push((at, epoch - 1));
                continue;
            }
            match (instance.first == 0, instance.parent) {
                (true, Some(parent)) => match self.get(parent) {
                    Some(p) if instance.parent_epoch >= p.first => {
                        todo.push((parent, p.index_of(instance.parent_epoch)))
                    }
                    // The parent executed so often that its epoch is gone. Once contained it stays contained; the rest is not known.
                    Some(p) => {
                        let oldest = p.epochs.first().and_then(|e| e.standing);
                        known = oldest
                            .filter(|s| matches!(s.role, super::Role::Contained(..)))
                            .or(Some(Standing::UNKNOWN));
                        break;
                    }
                    None => {
                        known = Some(Standing::UNKNOWN);
                        break;
                    }
                },
                // The first epochs were dropped, or the parent was never seen.
                _ => {
                    known = Some(Standing::UNKNOWN);
                    self.remember(at, epoch, Standing::UNKNOWN);
                    todo.pop();
                    break;
                }
            }
        }
        let mut known = known?;
        while let Some((at, epoch)) = todo.pop() {
            let instance = self.get(at)?;
            let next = if epoch == 0 {
                let mut child = known.of_child(instance.named);
                child.certain &= instance.origin != Origin::Record;
                child
            } else {
                known.after_any_exec()?
            };
            self.remember(at, epoch, next);
            known = next;
        }
        Some(known)
    }

    pub(crate) fn remember(&mut self, row: Row, index: usize, standing: Standing) {
        if let Some(epoch) = self.get_mut(row).and_then(|i| i.epochs.get_mut(index)) {
            epoch.standing = Some(standing);
        }
    }

    /// Program of a process in one of its epochs, inherited from the parent's when it has executed nothing.
    pub(crate) fn image(&self, row: Row, index: usize) -> Option<Arc<Image>> {
        let (mut row, mut index) = (row, index);
        for _ in 0..64 {
            let instance = self.get(row)?;
            let epoch = instance.epochs.get(index)?;
            if let Some(image) = &epoch.image {
                return Some(Arc::clone(image));
            }
            // An exec whose record is missing: nothing is known, and what was before it is not true any more.
            if index > 0 || instance.first > 0 {
                return None;
            }
            let parent = instance.parent?;
            index = self.get(parent)?.index_of(instance.parent_epoch);
            row = parent;
        }
        None
    }

    /// Resolves everything about a process, so that it no longer needs its parents.
    pub(crate) fn settle(&mut self, row: Row) {
        let Some(instance) = self.get(row) else {
            return;
        };
        if instance.settled {
            return;
        }
        let image = self.image(row, 0);
        for index in 0..self.get(row).map_or(0, |i| i.epochs.len()) {
            if self.standing(row, index).is_none() {
                self.remember(row, index, Standing::UNKNOWN);
                self.counters.execs_unaudited += 1;
            }
        }
        if let Some(instance) = self.get_mut(row) {
            instance.settled = true;
            if let Some(first) = instance.epochs.first_mut()
                && first.image.is_none()
            {
                first.image = image;
            }
        }
    }
}
