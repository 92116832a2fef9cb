//! What can be asked, and what a question says about one block or one row.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::block::{BlockInfo, Meta};
use crate::entry::{Cursor, Entry, Field, Kind};
use crate::find::{self, Candidates, Changes};
use crate::hot::Change;
use crate::live::Seen;
use crate::rowset::RowSet;
use crate::search::Search;
use crate::terms;

/// What a term is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Exactly this.
    Exact(Vec<u8>),
    /// `*` is any bytes, `?` one byte, `\` takes the next literally. A term that was longer than 512 bytes shows its first 472.
    Glob(String),
}

impl Pattern {
    fn matches(&self, term: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => terms::stored(exact).as_ref() == term,
            Self::Glob(pattern) => terms::glob(pattern.as_bytes(), term),
        }
    }
}

/// One condition: some term of `field` matches one of `any`; with `negate`, none does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Field.
    pub field: Field,
    /// Alternatives.
    pub any: Vec<Pattern>,
    /// Turn it round.
    pub negate: bool,
}

/// A test of the body, run only on rows that fit otherwise: a regular expression, say. Bodies come as they were stored.
#[derive(Clone)]
pub struct BodyTest(pub Arc<TestOfBytes>);

/// A test of bytes that any thread may run.
pub type TestOfBytes = dyn Fn(&[u8]) -> bool + Send + Sync;

impl fmt::Debug for BodyTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyTest")
    }
}

/// A question. The default asks for everything, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Kinds; empty is all.
    pub kinds: Vec<Kind>,
    /// From this time on, milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Before this time.
    pub until_ms: Option<u64>,
    /// Conditions, all of which must hold.
    pub all: Vec<Clause>,
    /// Newest first.
    pub reverse: bool,
    /// Rows at most.
    pub limit: Option<usize>,
    /// Only what comes behind this place, in the chosen direction.
    pub after: Option<Cursor>,
    /// Bytes that the body must contain.
    pub text: Option<Vec<u8>>,
    /// Each must be found in the row's body as it is stored, or in one of its terms.
    pub search: Vec<Search>,
    /// A test that the body must pass. Slow: it is put to one row after the other.
    pub body: Option<BodyTest>,
    /// Told how far it is: blocks done, and blocks in all.
    pub progress: Option<(Arc<AtomicU64>, Arc<AtomicU64>)>,
    /// Set from elsewhere to end the query; it then reports `cancelled`.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// What it took, and whether it was all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Sealed blocks in the time range.
    pub blocks_considered: u64,
    /// Of these, blocks whose directory was read.
    pub blocks_scanned: u64,
    /// Frames that were uncompressed.
    pub frames_read: u64,
    /// Rows that the terms let through.
    pub rows_tested: u64,
    /// Rows handed out.
    pub rows_hit: u64,
    /// The limit was reached, or the receiver ended it: there may be more.
    pub truncated: bool,
    /// It was cancelled.
    pub cancelled: bool,
    /// Blocks that could not be read; `verify` names them.
    pub blocks_damaged: u64,
    /// Where to go on.
    pub next: Option<Cursor>,
}

impl Query {
    /// Can it not be answered from the directories of the blocks alone?
    pub(crate) fn looks_into_bodies(&self) -> bool {
        !self.search.is_empty() || self.text.is_some() || self.body.is_some()
    }

    /// Position of a time and place in the direction of the query.
    pub(crate) fn order(&self, time_ms: u64, seq: u64) -> (u64, u64) {
        if self.reverse {
            (u64::MAX - time_ms, u64::MAX - seq)
        } else {
            (time_ms, seq)
        }
    }

    pub(crate) fn wants_time(&self, time_ms: u64) -> bool {
        self.since_ms.is_none_or(|since| time_ms >= since)
            && self.until_ms.is_none_or(|until| time_ms < until)
    }

    pub(crate) fn wants_kind(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Is it behind the cursor, inside the time?
    pub(crate) fn wants_place(&self, time_ms: u64, seq: u64) -> bool {
        self.wants_time(time_ms)
            && self
                .after
                .is_none_or(|c| self.order(time_ms, seq) > self.order(c.time_ms, c.seq))
    }

    /// May a block with these bounds have rows for us?
    pub(crate) fn wants_block(&self, info: &BlockInfo) -> bool {
        let kinds = Kind::ALL
            .iter()
            .any(|kind| info.kinds[kind.index()] > 0 && self.wants_kind(*kind));
        let time = self.since_ms.is_none_or(|since| info.max_ms >= since)
            && self.until_ms.is_none_or(|until| info.min_ms < until);
        let after = self.after.is_none_or(|c| {
            if self.reverse {
                info.min_ms <= c.time_ms
            } else {
                info.max_ms >= c.time_ms
            }
        });
        kinds && time && after
    }
}

/// A clause with what is computed once for a query.
struct Compiled<'a> {
    clause: &'a Clause,
    /// Exact terms as stored, sorted.
    exact: Vec<Vec<u8>>,
    globs: Vec<&'a Pattern>,
    /// Hashes of the exact ones; `None` when the clause says nothing about which blocks to read.
    hashes: Option<Vec<u32>>,
}

/// The conditions of a query, ready to be put to blocks.
pub(crate) struct Filter<'a> {
    clauses: Vec<Compiled<'a>>,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(query: &'a Query) -> Self {
        let clauses = query.all.iter().map(|clause| {
            let (mut exact, mut globs) = (Vec::new(), Vec::new());
            for pattern in &clause.any {
                match pattern {
                    Pattern::Exact(term) => exact.push(terms::stored(term).into_owned()),
                    Pattern::Glob(glob) if !terms::is_glob(glob) => {
                        exact.push(terms::stored(glob.as_bytes()).into_owned())
                    }
                    Pattern::Glob(_) => globs.push(pattern),
                }
            }
            exact.sort_unstable();
            let hashes = (!clause.negate && globs.is_empty()).then(|| {
                exact
                    .iter()
                    .map(|term| terms::hash24(clause.field as u8, term))
                    .collect()
            });
            Compiled {
                clause,
                exact,
                globs,
                hashes,
            }
        });
        Self {
            clauses: clauses.collect(),
        }
    }

    /// May the block hold rows that fit?
    pub(crate) fn may_match(
        &self,
        tree: &sled::Tree,
        seen: &Seen,
        candidates: &mut Candidates,
    ) -> bool {
        // Amendments may bring terms that the index does not know.
        seen.amended == Some(true)
            || self.clauses.iter().all(|c| {
                c.hashes
                    .as_ref()
                    .is_none_or(|hashes| hashes.iter().any(|h| candidates.may_hold(tree, seen, *h)))
            })
    }

    /// Rows of the block that fit. `None` when its directory cannot be read.
    pub(crate) fn rows(&self, meta: &Meta, changes: Option<&Changes>) -> Option<RowSet> {
        let mut fit = RowSet::full(meta.rows());
        let changed: Vec<(usize, &Change)> = changes.map_or_else(Vec::new, |changes| {
            find::changed_rows(meta, changes).collect()
        });
        for compiled in &self.clauses {
            let mut rows = RowSet::empty(meta.rows());
            meta.select(compiled.clause.field, &mut rows, |term| {
                compiled.matches(term)
            })?;
            if compiled.clause.field == Field::Id {
                (0..meta.rows())
                    .filter(|row| compiled.matches(&terms::stored(meta.id(*row))))
                    .for_each(|row| rows.insert(row));
            }
            for (row, change) in &changed {
                if compiled.any_of(&change.terms) {
                    rows.insert(*row);
                }
            }
            if compiled.clause.negate {
                rows.invert();
            }
            fit.and(&rows);
            if fit.is_empty() {
                break;
            }
        }
        Some(fit)
    }

    /// Does a row of an open block fit?
    pub(crate) fn fits(&self, entry: &Entry, change: Option<&Change>) -> bool {
        self.clauses.iter().all(|compiled| {
            let more = change.iter().flat_map(|c| &c.terms);
            let mut all = entry
                .terms
                .iter()
                .take(terms::MOST)
                .chain(more.map(|(field, term)| (*field, &term[..])));
            let found = all.any(|(field, term)| compiled.fits(field, term))
                || (compiled.clause.field == Field::Id
                    && compiled.matches(&terms::stored(entry.id.as_bytes())));
            found != compiled.clause.negate
        })
    }
}

impl Compiled<'_> {
    fn matches(&self, term: &[u8]) -> bool {
        self.exact
            .binary_search_by(|e| e.as_slice().cmp(term))
            .is_ok()
            || self.globs.iter().any(|g| g.matches(term))
    }

    fn fits(&self, field: Field, term: &[u8]) -> bool {
        field == self.clause.field && self.matches(&terms::stored(term))
    }

    fn any_of(&self, terms: &[(Field, Vec<u8>)]) -> bool {
        terms.iter().any(|(field, term)| self.fits(*field, term))
    }
}
