//! Answers a query: merges blocks in order of time.
//!
//! Blocks overlap in time (events complete out of order, clocks are set back), so each block that may have hits becomes a run of hits in
//! order, and a heap hands out the next of all runs. A block is opened only when the merge reaches its time, so a first page costs what it
//! shows. Bodies are uncompressed a frame at a time, and only few frames are held.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use sled::Tree;

use crate::block::{Frame, Meta, Placed};
use crate::entry::{Cursor, Row};
use crate::error::{Result, StoreError};
use crate::find::{self, Candidates, Changes};
use crate::intake::lock;
use crate::live::{self, Live, Seen};
use crate::prepare::{Ahead, Job, Prepared};
use crate::query::{Filter, Query, QueryStats};
use crate::rowset::RowSet;
use crate::search::Search;

/// Frames held uncompressed.
const FRAMES: usize = 24;

/// Where the rows of a run come from.
enum Origin {
    Sealed {
        seen: Box<Seen>,
        meta: Box<Meta>,
        changes: Option<Changes>,
    },
    Open {
        rows: Vec<Arc<Placed>>,
        changes: Option<Changes>,
    },
    /// Rows that were found and tested already; those handed out are `None`.
    Prepared { rows: Vec<Option<Row>> },
}

struct Run {
    origin: Origin,
    /// Position in the query's direction, and row; the last is next.
    hits: Vec<((u64, u64), usize)>,
    /// For each thing that is searched for, the rows that have it in a term.
    in_terms: Vec<RowSet>,
}

struct Held {
    lane: usize,
    block: u64,
    number: u16,
    frame: Rc<Frame>,
    /// Rows with the text, when there is one to look for.
    text: Option<RowSet>,
}

struct Scan<'a> {
    tree: &'a Tree,
    query: &'a Query,
    filter: Filter<'a>,
    finder: Option<memchr::memmem::Finder<'a>>,
    candidates: Candidates,
    runs: Vec<Option<Run>>,
    heap: BinaryHeap<Reverse<((u64, u64), usize)>>,
    held: Vec<Held>,
    stats: QueryStats,
}

/// Runs a query. A block that cannot be read is counted and passed over.
pub(crate) fn run(
    tree: &Tree,
    live: &Mutex<Live>,
    query: &Query,
    each: &mut dyn FnMut(Row) -> ControlFlow<()>,
) -> Result<QueryStats> {
    let (mut pending, open) = {
        let live = lock(live);
        let pending = live::blocks(&live, |_, info| query.wants_block(info));
        let open: Vec<_> = live
            .iter()
            .enumerate()
            .map(|(lane, view)| {
                let rows: Vec<_> = view
                    .open
                    .iter()
                    .filter(|row| {
                        query.wants_kind(row.entry.kind)
                            && query.wants_place(row.entry.time_ms, row.seq)
                    })
                    .cloned()
                    .collect();
                (
                    lane,
                    view.open_number,
                    view.amended.contains_key(&view.open_number),
                    rows,
                )
            })
            .collect();
        (pending, open)
    };
    let mut scan = Scan {
        tree,
        query,
        filter: Filter::new(query),
        finder: query
            .text
            .as_ref()
            .filter(|t| !t.is_empty())
            .map(memchr::memmem::Finder::new),
        candidates: Candidates::default(),
        runs: Vec::new(),
        heap: BinaryHeap::new(),
        held: Vec::new(),
        stats: QueryStats {
            blocks_considered: pending.len() as u64,
            ..QueryStats::default()
        },
    };
    for (lane, number, amended, rows) in open {
        scan.open_rows(lane, number, amended, rows)?;
    }
    // Earliest last, to be popped.
    let start = |seen: &Seen| {
        query
            .order(
                if query.reverse {
                    seen.info.max_ms
                } else {
                    seen.info.min_ms
                },
                0,
            )
            .0
    };
    pending.sort_by_key(|seen| {
        Reverse((
            start(seen),
            if query.reverse {
                u64::MAX - seen.info.number
            } else {
                seen.info.number
            },
        ))
    });
    if query.limit == Some(0) {
        scan.stats.truncated = true;
        return Ok(scan.stats);
    }
    // All of an answer, or one that bodies decide: many blocks are opened, by all processors. A page opens few, one after the other.
    if query.looks_into_bodies() || query.limit.is_none() {
        pending.reverse();
        let filter = Filter::new(query);
        let job = Job {
            tree,
            live,
            query,
            filter: &filter,
        };
        return Ahead::run(job, &pending, |ahead| {
            let mut place = 0;
            merge(scan, each, &mut |scan, until| {
                let next = pending
                    .get(place)
                    .filter(|next| until.is_none_or(|time| time >= start(next)));
                if next.is_none() {
                    return Ok(Step::Enough(place == pending.len()));
                }
                let prepared = ahead.get(place)?;
                place += 1;
                scan.add(prepared);
                Ok(Step::More)
            })
        });
    }
    merge(scan, each, &mut |scan, until| match pending
        .pop_if(|next| until.is_none_or(|time| time >= start(next)))
    {
        Some(next) => {
            scan.open_block(next, live)?;
            Ok(Step::More)
        }
        None => Ok(Step::Enough(pending.is_empty())),
    })
}

/// What happened when the next block was asked for.
enum Step {
    /// A block was opened; there may be another.
    More,
    /// No block begins before the time; are none left at all?
    Enough(bool),
}

/// Hands out the rows of all runs in order. `open` opens the next block that begins before a time, or before any.
fn merge<'a>(
    mut scan: Scan<'a>,
    each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    open: &mut dyn FnMut(&mut Scan<'a>, Option<u64>) -> Result<Step>,
) -> Result<QueryStats> {
    let query = scan.query;
    if let Some((_, total)) = &query.progress {
        total.store(scan.stats.blocks_considered, Ordering::Relaxed);
    }
    loop {
        let last = loop {
            if scan.is_cancelled() {
                return Ok(scan.stats);
            }
            let until = scan.heap.peek().map(|Reverse(((time, _), _))| *time);
            match open(&mut scan, until)? {
                Step::Enough(last) => break last,
                Step::More => scan.passed(),
            }
        };
        let Some(Reverse((_, run))) = scan.heap.pop() else {
            return Ok(scan.stats);
        };
        if scan.is_cancelled() {
            return Ok(scan.stats);
        }
        let Some(row) = scan.next_of(run)? else {
            continue;
        };
        scan.stats.rows_hit += 1;
        scan.stats.next = Some(Cursor {
            time_ms: row.time_ms,
            seq: row.seq,
        });
        let enough = query
            .limit
            .is_some_and(|limit| scan.stats.rows_hit >= limit as u64);
        if each(row).is_break() || enough {
            scan.stats.truncated = !(scan.heap.is_empty() && last);
            return Ok(scan.stats);
        }
    }
}

impl Scan<'_> {
    fn is_cancelled(&mut self) -> bool {
        let cancelled = self
            .query
            .cancel
            .as_ref()
            .is_some_and(|c| c.load(Ordering::Relaxed));
        self.stats.cancelled |= cancelled;
        cancelled
    }

    /// One block more is behind us.
    fn passed(&self) {
        if let Some((done, _)) = &self.query.progress {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn push(&mut self, origin: Origin, mut hits: Vec<((u64, u64), usize)>, in_terms: Vec<RowSet>) {
        self.stats.rows_tested += hits.len() as u64;
        hits.sort_unstable_by(|a, b| b.cmp(a));
        if let Some((order, _)) = hits.last() {
            self.heap.push(Reverse((*order, self.runs.len())));
            self.runs.push(Some(Run {
                origin,
                hits,
                in_terms,
            }));
        }
    }

    /// Adds the rows of a block that was prepared.
    fn add(&mut self, prepared: Prepared) {
        let stats = prepared.stats;
        self.stats.blocks_scanned += stats.blocks_scanned;
        self.stats.blocks_damaged += stats.blocks_damaged;
        self.stats.frames_read += stats.frames_read;
        self.stats.rows_tested += stats.rows_tested;
        let rows = prepared.rows;
        let hits = rows
            .iter()
            .enumerate()
            .map(|(place, row)| (self.query.order(row.time_ms, row.seq), place))
            .collect();
        let tested = self.stats.rows_tested;
        let rows = rows.into_iter().map(Some).collect();
        self.push(Origin::Prepared { rows }, hits, Vec::new());
        self.stats.rows_tested = tested;
    }

    fn open_rows(
        &mut self,
        lane: usize,
        number: u64,
        amended: bool,
        rows: Vec<Arc<Placed>>,
    ) -> Result<()> {
        let changes = if amended {
            Some(find::changes(self.tree, lane, number)?)
        } else {
            None
        };
        let change = |row: &Placed| {
            changes
                .as_ref()
                .and_then(|c| c.get(&(row.entry.kind as u8, row.entry.id.as_bytes().to_vec())))
        };
        let hits = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| self.filter.fits(&row.entry, change(row)))
            .map(|(place, row)| (self.query.order(row.entry.time_ms, row.seq), place))
            .collect();
        let in_terms = self
            .query
            .search
            .iter()
            .map(|search| {
                let mut found = RowSet::empty(rows.len());
                for (place, row) in rows.iter().enumerate() {
                    let more = change(row).map_or(&[][..], |c| &c.terms[..]);
                    if row.entry.terms.iter().any(|(_, term)| search.is_in(term))
                        || more.iter().any(|(_, term)| search.is_in(term))
                        || search.is_in(row.entry.id.as_bytes())
                    {
                        found.insert(place);
                    }
                }
                found
            })
            .collect();
        self.push(Origin::Open { rows, changes }, hits, in_terms);
        Ok(())
    }

    fn open_block(&mut self, seen: Seen, live: &Mutex<Live>) -> Result<()> {
        if !self
            .filter
            .may_match(self.tree, &seen, &mut self.candidates)
        {
            return Ok(());
        }
        self.stats.blocks_scanned += 1;
        let (lane, number) = (seen.lane, seen.info.number);
        let meta = match find::meta(self.tree, lane, number) {
            Ok(Some(meta)) => meta,
            Ok(None) => {
                // Retention took it since we began, or it is lost.
                if lock(live)[lane]
                    .blocks
                    .front()
                    .is_some_and(|first| first.number <= number)
                {
                    self.stats.blocks_damaged += 1;
                }
                return Ok(());
            }
            Err(StoreError::Corrupt { .. }) => {
                self.stats.blocks_damaged += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let changes = if seen.amended.is_some() {
            Some(find::changes(self.tree, lane, number)?)
        } else {
            None
        };
        let Some(rows) = self.filter.rows(&meta, changes.as_ref()) else {
            self.stats.blocks_damaged += 1;
            return Ok(());
        };
        let hits = rows
            .iter()
            .filter(|row| {
                self.query.wants_kind(meta.kinds[*row])
                    && self.query.wants_place(meta.times[*row], meta.seqs[*row])
            })
            .map(|row| (self.query.order(meta.times[row], meta.seqs[row]), row))
            .collect();
        let mut in_terms = Vec::with_capacity(self.query.search.len());
        for search in &self.query.search {
            match find::rows_with(&meta, changes.as_ref(), search) {
                Some(found) => in_terms.push(found),
                None => {
                    self.stats.blocks_damaged += 1;
                    return Ok(());
                }
            }
        }
        self.push(
            Origin::Sealed {
                seen: Box::new(seen),
                meta: Box::new(meta),
                changes,
            },
            hits,
            in_terms,
        );
        Ok(())
    }

    /// Takes the next hit of a run; `None` when its body says no, or is damaged.
    fn next_of(&mut self, number: usize) -> Result<Option<Row>> {
        let Some(mut run) = self.runs.get_mut(number).and_then(Option::take) else {
            return Ok(None);
        };
        let Some((_, place)) = run.hits.pop() else {
            return Ok(None);
        };
        if let Origin::Prepared { rows } = &mut run.origin {
            let row = rows.get_mut(place).and_then(Option::take);
            self.put_back(number, run);
            return Ok(row);
        }
        let in_terms = std::mem::take(&mut run.in_terms);
        let row = match &run.origin {
            Origin::Prepared { .. } => None,
            Origin::Open { rows, changes } => rows.get(place).and_then(|placed| {
                let entry = &placed.entry;
                let change = changes
                    .as_ref()
                    .and_then(|c| c.get(&(entry.kind as u8, entry.id.as_bytes().to_vec())));
                let body = change.and_then(|c| c.body.as_ref()).unwrap_or(&entry.body);
                let fits = self.finder.as_ref().is_none_or(|f| f.find(body).is_some());
                fits.then(|| Row {
                    kind: entry.kind,
                    time_ms: entry.time_ms,
                    id: entry.id.clone(),
                    body: body.clone(),
                    seq: placed.seq,
                })
            }),
            Origin::Sealed {
                seen,
                meta,
                changes,
            } => self.sealed_row(seen, meta, changes.as_ref(), place)?,
        };
        self.put_back(number, run);
        let done = Ok(row.filter(|row| {
            let found = |(number, search): (usize, &Search)| {
                in_terms
                    .get(number)
                    .is_some_and(|rows| rows.contains(place))
                    || search.is_in(&row.body)
            };
            self.query.search.iter().enumerate().all(found)
                && self
                    .query
                    .body
                    .as_ref()
                    .is_none_or(|test| (test.0)(&row.body))
        }));
        if let Some(Some(run)) = self.runs.get_mut(number) {
            run.in_terms = in_terms;
        }
        done
    }

    /// A run that has more comes to its place in the order.
    fn put_back(&mut self, number: usize, run: Run) {
        if let Some((order, _)) = run.hits.last() {
            self.heap.push(Reverse((*order, number)));
            if let Some(slot) = self.runs.get_mut(number) {
                *slot = Some(run);
            }
        }
    }

    fn sealed_row(
        &mut self,
        seen: &Seen,
        meta: &Meta,
        changes: Option<&Changes>,
        place: usize,
    ) -> Result<Option<Row>> {
        let change =
            changes.and_then(|c| c.get(&(meta.kinds[place] as u8, meta.id(place).to_vec())));
        let body = match change.and_then(|c| c.body.as_ref()) {
            Some(body) if self.finder.as_ref().is_none_or(|f| f.find(body).is_some()) => {
                body.clone()
            }
            Some(_) => return Ok(None),
            None => {
                let Some((number, inside)) = meta.place(place) else {
                    return Ok(None);
                };
                let Some(held) = self.frame(seen, number)? else {
                    return Ok(None);
                };
                if held
                    .text
                    .as_ref()
                    .is_some_and(|rows| !rows.contains(inside))
                {
                    return Ok(None);
                }
                let Some(body) = held.frame.body(inside) else {
                    return Ok(None);
                };
                body.to_vec()
            }
        };
        Ok(Some(Row {
            kind: meta.kinds[place],
            time_ms: meta.times[place],
            id: String::from_utf8_lossy(meta.id(place)).into_owned(),
            body,
            seq: meta.seqs[place],
        }))
    }

    /// A frame, from those held or from disk. The one used last stands last.
    fn frame(&mut self, seen: &Seen, number: u16) -> Result<Option<&Held>> {
        let (lane, block) = (seen.lane, seen.info.number);
        let held = self
            .held
            .iter()
            .rposition(|h| (h.lane, h.block, h.number) == (lane, block, number));
        match held {
            Some(place) if place + 1 == self.held.len() => {}
            Some(place) => {
                let held = self.held.remove(place);
                self.held.push(held);
            }
            None => {
                let frame = match find::frame(self.tree, lane, block, number) {
                    Ok(Some(frame)) => Rc::new(frame),
                    Ok(None) | Err(StoreError::Corrupt { .. }) => {
                        self.stats.blocks_damaged += 1;
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                };
                self.stats.frames_read += 1;
                if self.held.len() >= FRAMES {
                    self.held.remove(0);
                }
                let text = self.finder.as_ref().map(|finder| frame.search(finder));
                self.held.push(Held {
                    lane,
                    block,
                    number,
                    frame,
                    text,
                });
            }
        }
        Ok(self.held.last())
    }
}
