//! Encodings of single rows: chunks of the hot log, and amendments.

use crate::block::{FrameRef, MOST_ROWS, Packer, Placed, unpack};
use crate::dictionary::Dictionary;
use crate::entry::{Entry, Field, Kind, Terms};
use crate::error::Result;
use crate::wire::{Reader, put_bytes, put_uint};
use std::sync::Arc;

fn put_terms(out: &mut Vec<u8>, terms: &[(Field, Vec<u8>)]) {
    put_uint(out, terms.len() as u64);
    for (field, term) in terms {
        out.push(*field as u8);
        put_bytes(out, term);
    }
}

fn read_terms(reader: &mut Reader<'_>) -> Option<Vec<(Field, Vec<u8>)>> {
    let count = reader.size()?;
    let mut terms = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        terms.push((Field::from_u8(reader.byte()?)?, reader.bytes()?.to_vec()));
    }
    Some(terms)
}

/// Rows that became durable before their block was sealed, as a chunk holds them.
///
/// What the next chunk builds on is not written again: terms are numbers of the block's dictionary, of which a chunk brings the new ones.
/// Bodies are in it only where they are not in a frame yet: where there are enough rows for a frame, it is the block's own from the start.
pub(crate) struct Saved<'a> {
    /// All rows of the open block.
    pub(crate) rows: &'a [Arc<Placed>],
    pub(crate) dictionary: &'a Dictionary,
    /// Rows, and terms, that earlier chunks hold.
    pub(crate) from: usize,
    pub(crate) terms: usize,
    /// All frames of the block so far, and how many of the rows are in them.
    pub(crate) frames: &'a [FrameRef],
    pub(crate) framed: usize,
}

/// Encodes a chunk.
pub(crate) fn chunk(packer: &mut Packer, saved: &Saved<'_>) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    put_uint(&mut raw, saved.frames.len() as u64);
    for frame in saved.frames {
        put_uint(&mut raw, frame.rows as u64);
        put_uint(&mut raw, frame.bytes as u64);
        raw.extend_from_slice(&frame.hash);
    }
    put_uint(&mut raw, saved.terms as u64);
    put_uint(&mut raw, (saved.dictionary.len() - saved.terms) as u64);
    for number in saved.terms..saved.dictionary.len() {
        let (field, term) = saved.dictionary.term(number);
        raw.push(field);
        put_bytes(&mut raw, term);
    }
    put_uint(&mut raw, saved.from as u64);
    put_uint(&mut raw, (saved.rows.len() - saved.from) as u64);
    for (row, placed) in saved.rows.iter().enumerate().skip(saved.from) {
        let Placed { seq, entry } = &**placed;
        put_uint(&mut raw, *seq);
        raw.push(entry.kind as u8);
        put_uint(&mut raw, entry.time_ms);
        put_bytes(&mut raw, entry.id.as_bytes());
        let terms = saved.dictionary.row(row);
        put_uint(&mut raw, terms.len() as u64);
        terms.iter().for_each(|n| put_uint(&mut raw, u64::from(*n)));
        if row >= saved.framed {
            raw.push(1);
            put_bytes(&mut raw, &entry.body);
        } else {
            raw.push(0);
        }
    }
    packer.pack(&raw)
}

/// The open block of a lane, as its chunks are read one after the other.
#[derive(Default)]
pub(crate) struct Unsaved {
    pub(crate) frames: Vec<FrameRef>,
    terms: Vec<(Field, Vec<u8>)>,
    /// Rows; without a body where it is in a frame.
    pub(crate) rows: Vec<(Placed, bool)>,
}

impl Unsaved {
    /// Reads the next chunk. `None` when it is damaged, or one before it was.
    pub(crate) fn read(&mut self, packed: &[u8]) -> Option<()> {
        let raw = unpack(packed)?;
        let mut reader = Reader::new(&raw);
        let mut frames = Vec::new();
        for _ in 0..reader.size().filter(|n| *n <= MOST_ROWS)? {
            frames.push(FrameRef {
                rows: reader.size()?,
                bytes: reader.size()?,
                hash: reader.hash()?,
            });
        }
        (reader.size()? == self.terms.len()).then_some(())?;
        for _ in 0..reader.size()? {
            let field = Field::from_u8(reader.byte()?)?;
            self.terms.push((field, reader.bytes()?.to_vec()));
        }
        (reader.size()? == self.rows.len()).then_some(())?;
        for _ in 0..reader.size().filter(|n| *n <= MOST_ROWS)? {
            let seq = reader.uint()?;
            let mut entry = Entry {
                kind: Kind::from_u8(reader.byte()?)?,
                time_ms: reader.uint()?,
                id: std::str::from_utf8(reader.bytes()?).ok()?.to_owned(),
                terms: Terms::default(),
                body: Vec::new(),
            };
            for _ in 0..reader.size()? {
                let (field, term) = self.terms.get(reader.size()?)?;
                entry.terms.push(*field, term);
            }
            let whole = reader.byte()? == 1;
            if whole {
                entry.body = reader.bytes()?.to_vec();
            }
            self.rows.push((Placed { seq, entry }, whole));
        }
        self.frames = frames;
        Some(())
    }
}

/// Reads a chunk of format 1.
pub(crate) fn read_chunk_1(packed: &[u8]) -> Option<Vec<Placed>> {
    let raw = unpack(packed)?;
    let mut reader = Reader::new(&raw);
    let count = reader.size().filter(|n| *n <= MOST_ROWS)?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let seq = reader.uint()?;
        let entry = Entry {
            kind: Kind::from_u8(reader.byte()?)?,
            time_ms: reader.uint()?,
            id: std::str::from_utf8(reader.bytes()?).ok()?.to_owned(),
            terms: read_terms(&mut reader)?.into(),
            body: reader.bytes()?.to_vec(),
        };
        rows.push(Placed { seq, entry });
    }
    Some(rows)
}

/// What an amendment changes in its row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) terms: Vec<(Field, Vec<u8>)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Change {
    pub(crate) fn encode(&self, packer: &mut Packer) -> Result<Vec<u8>> {
        let mut raw = Vec::new();
        put_terms(&mut raw, &self.terms);
        raw.push(u8::from(self.body.is_some()));
        raw.extend_from_slice(self.body.as_deref().unwrap_or_default());
        packer.pack(&raw)
    }

    pub(crate) fn read(packed: &[u8]) -> Option<Self> {
        let raw = unpack(packed)?;
        let mut reader = Reader::new(&raw);
        let terms = read_terms(&mut reader)?;
        let body = (reader.byte()? == 1).then(|| reader.rest().to_vec());
        Some(Self { terms, body })
    }
}
