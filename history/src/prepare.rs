//! The rows of one block that fit a question which looks into bodies, found before the merge needs them.
//!
//! Blocks are prepared by all processors, a window ahead of the merge, which takes them in their order; so a scan of everything runs as
//! fast as the processors uncompress and search, and its answer comes in order all the same. A question that has enough after its first
//! page has prepared a window in vain, no more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use sled::Tree;

use crate::block::{Frame, Meta};
use crate::entry::Row;
use crate::error::{Result, StoreError};
use crate::find::{self, Candidates, Changes};
use crate::intake::lock;
use crate::live::{Live, Seen};
use crate::query::{Filter, Query, QueryStats};
use crate::rowset::RowSet;

/// Blocks ahead of the merge, for each processor.
const AHEAD: usize = 6;
/// Processors at most: the monitor is not alone on its host.
const MOST: usize = 8;
/// Fewer blocks are not worth a thread.
const FEW: usize = 4;

/// What a question and a store have that every block needs.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) live: &'a Mutex<Live>,
    pub(crate) query: &'a Query,
    pub(crate) filter: &'a Filter<'a>,
}

/// Rows of a block that fit, with what it took to find them.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) rows: Vec<Row>,
    pub(crate) stats: QueryStats,
}

impl Job<'_> {
    /// Finds the rows of a block.
    pub(crate) fn block(&self, seen: &Seen, candidates: &mut Candidates) -> Result<Prepared> {
        let mut out = Prepared::default();
        if !self.filter.may_match(self.tree, seen, candidates) {
            return Ok(out);
        }
        out.stats.blocks_scanned += 1;
        let (lane, number) = (seen.lane, seen.info.number);
        let meta = match find::meta(self.tree, lane, number) {
            Ok(Some(meta)) => meta,
            Ok(None) => {
                // Retention took it since we began, or it is lost.
                let held = lock(self.live)[lane].blocks.front().map(|b| b.number);
                out.stats.blocks_damaged += u64::from(held.is_some_and(|first| first <= number));
                return Ok(out);
            }
            Err(StoreError::Corrupt { .. }) => {
                out.stats.blocks_damaged += 1;
                return Ok(out);
            }
            Err(error) => return Err(error),
        };
        let changes = match seen.amended {
            Some(_) => Some(find::changes(self.tree, lane, number)?),
            None => None,
        };
        if self
            .rows(seen, &meta, changes.as_ref(), &mut out)?
            .is_none()
        {
            out.stats.blocks_damaged += 1;
        }
        Ok(out)
    }

    fn rows(
        &self,
        seen: &Seen,
        meta: &Meta,
        changes: Option<&Changes>,
        out: &mut Prepared,
    ) -> Result<Option<()>> {
        let query = self.query;
        let Some(mut wanted) = self.filter.rows(meta, changes) else {
            return Ok(None);
        };
        wanted.retain(|row| {
            query.wants_kind(meta.kinds[row]) && query.wants_place(meta.times[row], meta.seqs[row])
        });
        out.stats.rows_tested += wanted.count() as u64;
        if wanted.is_empty() {
            return Ok(Some(()));
        }
        let mut in_terms = Vec::with_capacity(query.search.len());
        for search in &query.search {
            let Some(rows) = find::rows_with(meta, changes, search) else {
                return Ok(None);
            };
            in_terms.push(rows);
        }
        let finder = query
            .text
            .as_ref()
            .filter(|t| !t.is_empty())
            .map(memchr::memmem::Finder::new);
        let amended: HashMap<usize, &Vec<u8>> = changes
            .into_iter()
            .flat_map(|c| find::changed_rows(meta, c))
            .filter_map(|(row, change)| Some((row, change.body.as_ref()?)))
            .collect();
        let mut damaged = false;
        let mut first = 0;
        for (number, reference) in meta.frames.iter().enumerate() {
            let rows = first..first + reference.rows;
            first = rows.end;
            if !rows.clone().any(|row| wanted.contains(row)) {
                continue;
            }
            let frame = find::frame(self.tree, seen.lane, seen.info.number, number as u16);
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) | Err(StoreError::Corrupt { .. }) => {
                    damaged = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            out.stats.frames_read += 1;
            // Rows of the frame with everything that is searched for.
            let mut fit = RowSet::full(frame.rows());
            for (search, in_terms) in query.search.iter().zip(&in_terms) {
                let mut found = search.rows_of(&frame);
                for row in rows.clone() {
                    if let Some(body) = amended.get(&row) {
                        found.set(row - rows.start, search.is_in(body));
                    }
                    if in_terms.contains(row) {
                        found.insert(row - rows.start);
                    }
                }
                fit.and(&found);
                if fit.is_empty() {
                    break;
                }
            }
            if let Some(finder) = &finder {
                let mut found = frame.search(finder);
                for (row, body) in &amended {
                    if rows.contains(row) {
                        found.set(row - rows.start, finder.find(body).is_some());
                    }
                }
                fit.and(&found);
            }
            for inside in fit.iter() {
                let row = rows.start + inside;
                if wanted.contains(row) {
                    self.take(meta, row, &frame, inside, amended.get(&row).copied(), out);
                }
            }
        }
        Ok((!damaged).then_some(()))
    }

    fn take(
        &self,
        meta: &Meta,
        row: usize,
        frame: &Frame,
        inside: usize,
        amended: Option<&Vec<u8>>,
        out: &mut Prepared,
    ) {
        let query = self.query;
        let Some(body) = amended.map(Vec::as_slice).or_else(|| frame.body(inside)) else {
            return;
        };
        if query.body.as_ref().is_some_and(|test| !(test.0)(body)) {
            return;
        }
        out.rows.push(Row {
            kind: meta.kinds[row],
            time_ms: meta.times[row],
            id: String::from_utf8_lossy(meta.id(row)).into_owned(),
            body: body.to_vec(),
            seq: meta.seqs[row],
        });
    }
}

#[derive(Default)]
struct State {
    done: HashMap<usize, Result<Prepared>>,
    /// Blocks that the merge has taken.
    taken: usize,
}

/// Blocks in their order, being prepared.
pub(crate) struct Ahead<'a> {
    job: Job<'a>,
    blocks: &'a [Seen],
    next: AtomicUsize,
    stop: AtomicBool,
    threads: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl<'a> Ahead<'a> {
    /// Runs `merge` while threads prepare the blocks.
    pub(crate) fn run<T>(
        job: Job<'a>,
        blocks: &'a [Seen],
        merge: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let ahead = Self {
            job,
            blocks,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            threads: if blocks.len() < FEW {
                0
            } else {
                processors.clamp(1, MOST)
            },
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        std::thread::scope(|scope| {
            for _ in 0..ahead.threads {
                scope.spawn(|| ahead.work());
            }
            // Also when the merge panics: the threads must not wait for it for ever.
            let _end = Stop(&ahead);
            merge(&ahead)
        })
    }

    fn work(&self) {
        let mut candidates = Candidates::default();
        loop {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(seen) = self.blocks.get(place) else {
                return;
            };
            {
                let mut state = lock(&self.state);
                while place >= state.taken + AHEAD * self.threads
                    && !self.stop.load(Ordering::Relaxed)
                {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let work = std::panic::AssertUnwindSafe(|| self.job.block(seen, &mut candidates));
            let prepared = std::panic::catch_unwind(work).unwrap_or_else(|_| {
                Err(StoreError::Failed(
                    "reading a block ended in a panic".to_owned(),
                ))
            });
            lock(&self.state).done.insert(place, prepared);
            self.changed.notify_all();
        }
    }

    /// The block at this place of the list.
    pub(crate) fn get(&self, place: usize) -> Result<Prepared> {
        if self.threads == 0 {
            return match self.blocks.get(place) {
                Some(seen) => self.job.block(seen, &mut Candidates::default()),
                None => Ok(Prepared::default()),
            };
        }
        let mut state = lock(&self.state);
        loop {
            if let Some(prepared) = state.done.remove(&place) {
                state.taken = state.taken.max(place + 1);
                drop(state);
                self.changed.notify_all();
                return prepared;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Stop<'a, 'b>(&'b Ahead<'a>);

impl Drop for Stop<'_, '_> {
    fn drop(&mut self) {
        let state = lock(&self.0.state);
        self.0.stop.store(true, Ordering::Relaxed);
        drop(state);
        self.0.changed.notify_all();
    }
}
