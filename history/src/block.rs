//! A sealed block: up to 1,024 rows in order of arrival.
//!
//! The bodies go into frames, zstd, up to 256 rows each, so that one row costs one small frame to read. All else goes into the block's
//! meta: hashes of the frames and of the meta before (the chain), then, compressed together, the columns (order, time, kind, id), the
//! dictionary (for each field its terms, and for each term the rows that have it) and the hashes of amendments.

use std::cell::RefCell;
use std::sync::Arc;

use crate::dictionary::Dictionary;
use crate::entry::{Entry, Field, Kind};
use crate::error::{Result, StoreError};
use crate::rowset::RowSet;
use crate::terms;
use crate::value::Hash;
use crate::wire::{Reader, put_bytes, put_sint, put_uint};

/// Rows of a frame at most.
const FRAME_ROWS: usize = 256;
/// A frame ends when its bodies reach this, in bytes.
const FRAME_BYTES: usize = 320 << 10;
/// Rows of a block at most, whatever the options say: a row number is two bytes.
pub(crate) const MOST_ROWS: usize = 8192;
/// zstd: level 1 cost 4.7 µs an event and 127 bytes, level 3 15 % less space for twice the time.
const LEVEL: i32 = 1;
/// Layout 1 had no amendments, and its terms were sorted.
const LAYOUT: u8 = 2;
const LAYOUTS: std::ops::RangeInclusive<u8> = 1..=LAYOUT;
/// Most that anything compressed may grow to: a bound for what comes from disk.
const LARGEST: usize = 96 << 20;

/// A row with its place in the order of arrival.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) seq: u64,
    pub(crate) entry: Entry,
}

/// What the directory in memory knows of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockInfo {
    /// Number in its lane.
    pub(crate) number: u64,
    /// Smallest and largest time, milliseconds.
    pub(crate) min_ms: u64,
    pub(crate) max_ms: u64,
    /// Rows by kind.
    pub(crate) kinds: [u32; 4],
    /// Bytes of its values.
    pub(crate) bytes: u64,
}

impl BlockInfo {
    pub(crate) fn rows(&self) -> u64 {
        self.kinds.iter().map(|n| u64::from(*n)).sum()
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_uint(out, self.number);
        put_uint(out, self.min_ms);
        put_uint(out, self.max_ms);
        self.kinds.iter().for_each(|n| put_uint(out, u64::from(*n)));
        put_uint(out, self.bytes);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (number, min_ms, max_ms) = (reader.uint()?, reader.uint()?, reader.uint()?);
        let mut kinds = [0; 4];
        for count in &mut kinds {
            *count = u32::try_from(reader.uint()?).ok()?;
        }
        Some(Self {
            number,
            min_ms,
            max_ms,
            kinds,
            bytes: reader.uint()?,
        })
    }
}

/// A frame as the meta names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameRef {
    pub(crate) rows: usize,
    /// Bytes of its value.
    pub(crate) bytes: usize,
    pub(crate) hash: Hash,
}

/// Reused compressor; contexts are large.
pub(crate) struct Packer(zstd::bulk::Compressor<'static>);

impl Packer {
    pub(crate) fn new() -> Result<Self> {
        zstd::bulk::Compressor::new(LEVEL)
            .map(Self)
            .map_err(|e| StoreError::Failed(format!("zstd: {e}")))
    }

    /// Length, then the compressed bytes.
    pub(crate) fn pack(&mut self, raw: &[u8]) -> Result<Vec<u8>> {
        let packed = self
            .0
            .compress(raw)
            .map_err(|e| StoreError::Failed(format!("zstd: {e}")))?;
        let mut out = Vec::with_capacity(packed.len() + 5);
        put_uint(&mut out, raw.len() as u64);
        out.extend_from_slice(&packed);
        Ok(out)
    }
}

thread_local! {
    /// A context is large, and making one costs as much as a frame.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Undoes [`Packer::pack`].
pub(crate) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(packed);
    let size = reader.size().filter(|n| *n <= LARGEST)?;
    let raw = DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(zstd::bulk::Decompressor::new().ok()?),
        };
        decompressor.decompress(reader.rest(), size).ok()
    })?;
    (raw.len() == size).then_some(raw)
}

/// Cuts bodies into frames: compressed bytes, and how many rows each holds.
pub(crate) fn frames(packer: &mut Packer, rows: &[Arc<Placed>]) -> Result<Vec<(Vec<u8>, usize)>> {
    let mut out = Vec::new();
    let mut rest = rows;
    let mut raw = Vec::new();
    while !rest.is_empty() {
        let (mut count, mut bytes) = (0, 0);
        while count < rest.len() && count < FRAME_ROWS && bytes < FRAME_BYTES {
            bytes += rest[count].entry.body.len();
            count += 1;
        }
        let (mine, others) = rest.split_at(count);
        raw.clear();
        put_uint(&mut raw, count as u64);
        mine.iter()
            .for_each(|row| put_uint(&mut raw, row.entry.body.len() as u64));
        mine.iter()
            .for_each(|row| raw.extend_from_slice(&row.entry.body));
        out.push((packer.pack(&raw)?, count));
        rest = others;
    }
    Ok(out)
}

/// Bodies of a frame, uncompressed.
#[derive(Debug)]
pub(crate) struct Frame {
    raw: Vec<u8>,
    /// Where each body begins, and where the last ends.
    bounds: Vec<u32>,
}

impl Frame {
    pub(crate) fn read(packed: &[u8]) -> Option<Self> {
        let raw = unpack(packed)?;
        let mut reader = Reader::new(&raw);
        let count = reader.size().filter(|n| *n <= MOST_ROWS)?;
        let mut sizes = Vec::with_capacity(count);
        for _ in 0..count {
            sizes.push(reader.size()?);
        }
        let mut at = raw.len() - reader.rest().len();
        let mut bounds = Vec::with_capacity(count + 1);
        bounds.push(u32::try_from(at).ok()?);
        for size in sizes {
            at = at.checked_add(size).filter(|n| *n <= raw.len())?;
            bounds.push(u32::try_from(at).ok()?);
        }
        Some(Self { raw, bounds })
    }

    pub(crate) fn rows(&self) -> usize {
        self.bounds.len() - 1
    }

    pub(crate) fn body(&self, row: usize) -> Option<&[u8]> {
        self.raw
            .get(*self.bounds.get(row)? as usize..*self.bounds.get(row + 1)? as usize)
    }

    /// Sizes, then all bodies one behind the other.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Where the body of a row begins; for the number of rows, where the last ends.
    pub(crate) fn start(&self, row: usize) -> Option<usize> {
        self.bounds.get(row).map(|at| *at as usize)
    }

    /// The row that this place is in. Rows without a body are in no place.
    pub(crate) fn row_at(&self, place: usize) -> usize {
        self.bounds
            .partition_point(|bound| *bound as usize <= place)
            .saturating_sub(1)
    }

    /// Rows whose body holds the text, in one pass over all bodies.
    pub(crate) fn search(&self, finder: &memchr::memmem::Finder<'_>) -> RowSet {
        let mut found = RowSet::empty(self.rows());
        let mut at = self.bounds.first().copied().unwrap_or(0) as usize;
        while let Some(offset) = self.raw.get(at..).and_then(|rest| finder.find(rest)) {
            let hit = at + offset;
            let row = self
                .bounds
                .partition_point(|bound| *bound as usize <= hit)
                .saturating_sub(1);
            let Some(end) = self.bounds.get(row + 1).map(|end| *end as usize) else {
                break;
            };
            if hit + finder.needle().len() <= end {
                found.insert(row);
                at = end;
            } else {
                // It lies across two bodies.
                at = hit + 1;
            }
        }
        found
    }
}

/// Everything of a sealed block but its bodies, ready to be stored.
pub(crate) struct Sealed {
    pub(crate) meta: Vec<u8>,
    pub(crate) kinds: [u32; 4],
    pub(crate) min_ms: u64,
    pub(crate) max_ms: u64,
    /// Hashes of its terms and ids for the index of the super-block, sorted, each once.
    pub(crate) hashes: Vec<u32>,
}

/// An amendment that a block names: key behind its letter and lane, and hash of its value.
pub(crate) type Named = (Vec<u8>, Hash);

/// Builds the meta of a block. The dictionary is of exactly these rows.
pub(crate) fn seal(
    packer: &mut Packer,
    number: u64,
    previous: &Hash,
    rows: &[Arc<Placed>],
    frames: &[FrameRef],
    dictionary: &Dictionary,
    amendments: &[Named],
) -> Result<Sealed> {
    let mut kinds = [0u32; 4];
    let (mut min_ms, mut max_ms) = (u64::MAX, 0);
    let mut hashes = Vec::with_capacity(rows.len() + dictionary.len());
    let mut raw = Vec::with_capacity(rows.len() * 64);

    let (mut last_seq, mut last_ms) = (0i64, 0i64);
    for row in rows {
        put_sint(&mut raw, (row.seq as i64).wrapping_sub(last_seq));
        last_seq = row.seq as i64;
    }
    for row in rows {
        let time = row.entry.time_ms;
        (min_ms, max_ms) = (min_ms.min(time), max_ms.max(time));
        put_sint(&mut raw, (time as i64).wrapping_sub(last_ms));
        last_ms = time as i64;
    }
    for row in rows {
        kinds[row.entry.kind.index()] += 1;
        raw.push(row.entry.kind as u8);
    }
    let mut last_id: &[u8] = &[];
    for row in rows {
        let id = row.entry.id.as_bytes();
        let shared = id.iter().zip(last_id).take_while(|(a, b)| a == b).count();
        put_uint(&mut raw, shared as u64);
        put_bytes(&mut raw, &id[shared..]);
        last_id = id;
        hashes.push(terms::hash24(Field::Id as u8, &terms::stored(id)));
    }
    let (list, starts) = dictionary.postings();
    let fields = dictionary.by_field();
    put_uint(
        &mut raw,
        fields.iter().filter(|f| !f.is_empty()).count() as u64,
    );
    let (mut sizes, mut texts, mut counts, mut postings) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (field, numbers) in fields.iter().enumerate().filter(|(_, f)| !f.is_empty()) {
        [&mut sizes, &mut texts, &mut counts, &mut postings]
            .into_iter()
            .for_each(Vec::clear);
        for number in numbers.iter().map(|n| *n as usize) {
            let (_, term) = dictionary.term(number);
            hashes.push(terms::hash24(field as u8, term));
            put_uint(&mut sizes, term.len() as u64);
            texts.extend_from_slice(term);
            let start = postings.len();
            let of_term = &list[starts[number] as usize..starts[number + 1] as usize];
            put_postings(&mut postings, of_term, rows.len());
            put_uint(&mut counts, (postings.len() - start) as u64);
        }
        raw.push(field as u8);
        put_uint(&mut raw, numbers.len() as u64);
        for section in [&sizes, &texts, &counts, &postings] {
            put_bytes(&mut raw, section);
        }
    }
    put_uint(&mut raw, amendments.len() as u64);
    for (key, hash) in amendments {
        put_bytes(&mut raw, key);
        raw.extend_from_slice(hash);
    }
    hashes.sort_unstable();
    hashes.dedup();

    let mut meta = vec![LAYOUT];
    put_uint(&mut meta, number);
    meta.extend_from_slice(previous);
    put_uint(&mut meta, rows.len() as u64);
    put_uint(&mut meta, frames.len() as u64);
    for frame in frames {
        put_uint(&mut meta, frame.rows as u64);
        put_uint(&mut meta, frame.bytes as u64);
        meta.extend_from_slice(&frame.hash);
    }
    meta.extend_from_slice(&packer.pack(&raw)?);
    Ok(Sealed {
        meta,
        kinds,
        min_ms: min_ms.min(max_ms),
        max_ms,
        hashes,
    })
}

/// All rows: nothing. Many: a bitmap. Few: differences.
fn put_postings(out: &mut Vec<u8>, list: &[u16], rows: usize) {
    if list.len() == rows {
        out.push(0);
    } else if list.len() * 8 > rows {
        out.push(1);
        let start = out.len();
        out.resize(start + rows.div_ceil(8), 0);
        for row in list {
            out[start + usize::from(*row) / 8] |= 1 << (row % 8);
        }
    } else {
        out.push(2);
        let mut last = 0;
        for row in list {
            put_uint(out, u64::from(row - last));
            last = *row;
        }
    }
}

fn add_postings(bytes: &[u8], into: &mut RowSet) -> Option<()> {
    match bytes.split_first()? {
        (0, _) => into.insert_all(),
        (1, bits) => into.insert_bits(bits),
        (2, differences) => {
            let (mut reader, mut row) = (Reader::new(differences), 0usize);
            while !reader.is_empty() {
                row = row.checked_add(reader.size()?)?;
                into.insert(row);
            }
        }
        _ => return None,
    }
    Some(())
}

/// A meta that was read.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) number: u64,
    pub(crate) previous: Hash,
    pub(crate) frames: Vec<FrameRef>,
    pub(crate) seqs: Vec<u64>,
    pub(crate) times: Vec<u64>,
    pub(crate) kinds: Vec<Kind>,
    /// Amendments of rows of this lane that were written before this block was sealed and after the one before it.
    pub(crate) amendments: Vec<Named>,
    ids: Vec<u8>,
    id_bounds: Vec<u32>,
    raw: Vec<u8>,
    /// Field, and where its sections lie in `raw`.
    fields: Vec<(u8, [std::ops::Range<usize>; 4])>,
}

impl Meta {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut head = Reader::new(bytes);
        let layout = head.byte().filter(|l| LAYOUTS.contains(l))?;
        let number = head.uint()?;
        let previous = head.hash()?;
        let rows = head.size().filter(|n| *n <= MOST_ROWS)?;
        let count = head.size().filter(|n| *n <= MOST_ROWS)?;
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            frames.push(FrameRef {
                rows: head.size()?,
                bytes: head.size()?,
                hash: head.hash()?,
            });
        }
        let raw = unpack(head.rest())?;
        let mut reader = Reader::new(&raw);
        let column = |reader: &mut Reader<'_>| {
            let (mut last, mut values) = (0i64, Vec::with_capacity(rows));
            for _ in 0..rows {
                last = last.wrapping_add(reader.sint()?);
                values.push(last as u64);
            }
            Some(values)
        };
        let (seqs, times) = (column(&mut reader)?, column(&mut reader)?);
        let kinds = reader
            .take(rows)?
            .iter()
            .map(|b| Kind::from_u8(*b))
            .collect::<Option<Vec<_>>>()?;
        let (mut ids, mut id_bounds, mut start) = (Vec::new(), vec![0u32], 0usize);
        for _ in 0..rows {
            let end = ids.len();
            let shared = reader.size()?.checked_add(start).filter(|n| *n <= end)?;
            ids.extend_from_within(start..shared);
            ids.extend_from_slice(reader.bytes()?);
            start = end;
            id_bounds.push(
                u32::try_from(ids.len())
                    .ok()
                    .filter(|n| *n as usize <= LARGEST)?,
            );
        }
        let mut fields = Vec::new();
        for _ in 0..reader.size()? {
            let field = reader.byte()?;
            reader.size()?;
            let mut section = || {
                let size = reader.bytes()?.len();
                let end = raw.len() - reader.rest().len();
                Some(end - size..end)
            };
            fields.push((field, [section()?, section()?, section()?, section()?]));
        }
        let mut amendments = Vec::new();
        if layout > 1 {
            for _ in 0..reader.size()? {
                amendments.push((reader.bytes()?.to_vec(), reader.hash()?));
            }
        }
        Some(Self {
            amendments,
            number,
            previous,
            frames,
            seqs,
            times,
            kinds,
            ids,
            id_bounds,
            raw,
            fields,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn id(&self, row: usize) -> &[u8] {
        let bounds = self.id_bounds.get(row).zip(self.id_bounds.get(row + 1));
        bounds
            .and_then(|(a, b)| self.ids.get(*a as usize..*b as usize))
            .unwrap_or_default()
    }

    /// Frame that a row is in, and its place there.
    pub(crate) fn place(&self, row: usize) -> Option<(u16, usize)> {
        let mut before = 0;
        for (number, frame) in self.frames.iter().enumerate() {
            if row < before + frame.rows {
                return Some((number as u16, row - before));
            }
            before += frame.rows;
        }
        None
    }

    /// Terms of a field with their postings, in order of the terms, to `visit`, which says whether the rows are wanted.
    pub(crate) fn select(
        &self,
        field: Field,
        into: &mut RowSet,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Option<()> {
        for (number, sections) in &self.fields {
            if *number != field as u8 {
                continue;
            }
            self.walk(sections, |term, postings| {
                if wanted(term) {
                    add_postings(postings, into)
                } else {
                    Some(())
                }
            })?;
        }
        Some(())
    }

    /// Rows that have a term, of any field, that is wanted.
    pub(crate) fn search_terms(&self, mut wanted: impl FnMut(&[u8]) -> bool) -> Option<RowSet> {
        let mut found = RowSet::empty(self.rows());
        for (_, sections) in &self.fields {
            self.walk(sections, |term, postings| {
                if wanted(term) {
                    add_postings(postings, &mut found)
                } else {
                    Some(())
                }
            })?;
        }
        Some(found)
    }

    /// Each term of a field, in order, with its rows.
    pub(crate) fn each_term(
        &self,
        field: Field,
        mut visit: impl FnMut(&[u8], RowSet),
    ) -> Option<()> {
        for (number, sections) in &self.fields {
            if *number == field as u8 {
                self.walk(sections, |term, postings| {
                    let mut rows = RowSet::empty(self.rows());
                    add_postings(postings, &mut rows)?;
                    visit(term, rows);
                    Some(())
                })?;
            }
        }
        Some(())
    }

    fn walk(
        &self,
        sections: &[std::ops::Range<usize>; 4],
        mut visit: impl FnMut(&[u8], &[u8]) -> Option<()>,
    ) -> Option<()> {
        let [mut sizes, mut texts, mut counts, mut postings] = sections
            .clone()
            .map(|range| Reader::new(self.raw.get(range).unwrap_or_default()));
        while !sizes.is_empty() {
            let term = texts.take(sizes.size()?)?;
            visit(term, postings.take(counts.size()?)?)?;
        }
        Some(())
    }

    /// Hashes of all terms and ids, as [`seal`] gave them.
    pub(crate) fn hashes(&self) -> Option<Vec<u32>> {
        let mut hashes: Vec<u32> = (0..self.rows())
            .map(|row| terms::hash24(Field::Id as u8, &terms::stored(self.id(row))))
            .collect();
        for (field, sections) in &self.fields {
            self.walk(sections, |term, _| {
                hashes.push(terms::hash24(*field, term));
                Some(())
            })?;
        }
        hashes.sort_unstable();
        hashes.dedup();
        Some(hashes)
    }

    /// What the directory keeps of it; `bytes` is the size of the meta's own value.
    pub(crate) fn info(&self, bytes: usize) -> BlockInfo {
        let mut kinds = [0; 4];
        self.kinds.iter().for_each(|kind| kinds[kind.index()] += 1);
        BlockInfo {
            number: self.number,
            min_ms: self.times.iter().copied().min().unwrap_or(0),
            max_ms: self.times.iter().copied().max().unwrap_or(0),
            kinds,
            bytes: (bytes + self.frames.iter().map(|frame| frame.bytes).sum::<usize>()) as u64,
        }
    }
}
