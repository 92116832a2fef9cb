//! Counts of terms: the top programs of `stats`, the columns of `timeline`. Answered from the directories of the blocks, without a body.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use crate::entry::{Field, Kind};
use crate::error::{Result, StoreError};
use crate::find;
use crate::intake::lock;
use crate::live;
use crate::query::{Filter, Query};
use crate::rowset::RowSet;
use crate::shared::Shared;
use crate::terms;
use crate::verify::Progress;

/// Time slots at most; slots are made wider where the range would need more.
const MOST_SLOTS: u64 = 100_000;

/// What to count.
#[derive(Clone, Debug, Default)]
pub struct TallyOf {
    /// Fields whose terms are counted.
    pub fields: Vec<Field>,
    /// Width of a time slot in milliseconds; `None` counts over the whole range.
    pub slot_ms: Option<u64>,
    /// Different terms that are remembered, for each field and slot, at most; zero is 100,000. Those beyond are counted in [`Tally::cut`].
    pub most_terms: usize,
}

/// Counts of one time slot, or of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows, by [`Kind::index`].
    pub rows: [u64; 4],
    /// Rows that have the term.
    pub terms: HashMap<(Field, Vec<u8>), u64>,
}

impl Counts {
    /// The terms of a field with the most rows first, equal ones in their own order.
    pub fn top(&self, field: Field) -> Vec<(&[u8], u64)> {
        let mut list: Vec<(&[u8], u64)> = self
            .terms
            .iter()
            .filter(|((of, _), _)| *of == field)
            .map(|((_, term), count)| (term.as_slice(), *count))
            .collect();
        list.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        list
    }
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Over the whole range.
    pub all: Counts,
    /// By start of the slot, milliseconds since the epoch; empty without [`TallyOf::slot_ms`].
    pub slots: BTreeMap<u64, Counts>,
    /// Rows of terms that were too many to remember.
    pub cut: u64,
    /// Blocks that could not be read; `verify` names them.
    pub blocks_damaged: u64,
    /// The query was cancelled, or the receiver of the progress ended it.
    pub cancelled: bool,
}

impl Tally {
    fn add(&mut self, of: &TallyOf, slot: Option<u64>, field: Field, term: &[u8], count: u64) {
        let most = if of.most_terms == 0 {
            100_000
        } else {
            of.most_terms
        };
        let mut cut = 0;
        let mut into = |counts: &mut Counts| {
            let key = (field, term.to_vec());
            if counts.terms.len() < most || counts.terms.contains_key(&key) {
                *counts.terms.entry(key).or_default() += count;
            } else {
                cut += count;
            }
        };
        into(&mut self.all);
        if let Some(slot) = slot {
            into(self.slots.entry(slot).or_default());
        }
        self.cut += cut;
    }

    fn row(&mut self, slot: Option<u64>, kind: Kind) {
        self.all.rows[kind.index()] += 1;
        if let Some(slot) = slot {
            self.slots.entry(slot).or_default().rows[kind.index()] += 1;
        }
    }
}

/// Counts what the query's time, kinds and clauses let through. Its limit, cursor, text and tests of bodies are not regarded.
pub(crate) fn run(
    shared: &Shared,
    query: &Query,
    of: &TallyOf,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Tally> {
    let (tree, filter) = (&shared.db, Filter::new(query));
    let (blocks, open) = {
        let live = lock(&shared.live);
        let open: Vec<_> = live
            .iter()
            .enumerate()
            .map(|(lane, view)| (lane, view.open_number, view.open.clone()))
            .collect();
        (live::blocks(&live, |_, info| query.wants_block(info)), open)
    };
    let mut out = Tally::default();
    let bounds = blocks
        .iter()
        .fold(None, |bounds: Option<(u64, u64)>, seen| {
            Some(
                bounds.map_or((seen.info.min_ms, seen.info.max_ms), |(a, b)| {
                    (a.min(seen.info.min_ms), b.max(seen.info.max_ms))
                }),
            )
        });
    let range = bounds.map_or(0, |(from, to)| {
        to.min(query.until_ms.unwrap_or(u64::MAX))
            .saturating_sub(from.max(query.since_ms.unwrap_or(0)))
    });
    let width = of.slot_ms.map(|w| w.max(1).max(range / MOST_SLOTS));
    let slot = |time: u64| width.map(|w| time / w * w);

    let total = blocks.len() as u64;
    let mut candidates = find::Candidates::default();
    for (done, seen) in blocks.into_iter().enumerate() {
        let cancelled = query
            .cancel
            .as_ref()
            .is_some_and(|c| c.load(Ordering::Relaxed));
        let report = Progress {
            done: done as u64,
            total,
        };
        if cancelled || progress(report).is_break() {
            out.cancelled = true;
            return Ok(out);
        }
        if !filter.may_match(tree, &seen, &mut candidates) {
            continue;
        }
        let meta = match find::meta(tree, seen.lane, seen.info.number) {
            Ok(Some(meta)) => meta,
            // Retention took it, or it is lost, which verify tells.
            Ok(None) => continue,
            Err(StoreError::Corrupt { .. }) => {
                out.blocks_damaged += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        let changes = match seen.amended {
            Some(_) => Some(find::changes(tree, seen.lane, seen.info.number)?),
            None => None,
        };
        let Some(mut rows) = filter.rows(&meta, changes.as_ref()) else {
            out.blocks_damaged += 1;
            continue;
        };
        rows.retain(|row| query.wants_kind(meta.kinds[row]) && query.wants_time(meta.times[row]));
        if rows.is_empty() {
            continue;
        }
        rows.iter()
            .for_each(|row| out.row(slot(meta.times[row]), meta.kinds[row]));
        // One slot for the whole block needs no look at single rows.
        let one = slot(seen.info.min_ms) == slot(seen.info.max_ms);
        for field in &of.fields {
            let whole = meta.each_term(*field, |term, mut of_term: RowSet| {
                of_term.and(&rows);
                let count = of_term.count() as u64;
                if count == 0 {
                    return;
                }
                if one {
                    out.add(of, slot(seen.info.min_ms), *field, term, count);
                } else {
                    for row in of_term.iter() {
                        out.add(of, slot(meta.times[row]), *field, term, 1);
                    }
                }
            });
            if whole.is_none() {
                out.blocks_damaged += 1;
                break;
            }
        }
        for (row, change) in changes.iter().flat_map(|c| find::changed_rows(&meta, c)) {
            for (field, term) in &change.terms {
                if rows.contains(row) && of.fields.contains(field) {
                    let term = terms::stored(term);
                    out.add(of, slot(meta.times[row]), *field, &term, 1);
                }
            }
        }
    }
    for (lane, number, rows) in open {
        let changes = find::changes(tree, lane, number)?;
        for row in &rows {
            let entry = &row.entry;
            let change = changes.get(&(entry.kind as u8, entry.id.as_bytes().to_vec()));
            if !query.wants_kind(entry.kind)
                || !query.wants_time(entry.time_ms)
                || !filter.fits(entry, change)
            {
                continue;
            }
            out.row(slot(entry.time_ms), entry.kind);
            let mut seen = Vec::new();
            let more = change.iter().flat_map(|c| &c.terms);
            let more = more.map(|(field, term)| (*field, &term[..]));
            for (field, term) in entry.terms.iter().take(terms::MOST).chain(more) {
                if of.fields.contains(&field) && !seen.contains(&(field, term)) {
                    seen.push((field, term));
                    out.add(of, slot(entry.time_ms), field, &terms::stored(term), 1);
                }
            }
        }
    }
    Ok(out)
}
