//! Encodings of single rows: chunks of the hot log, and amendments.

use crate::block::{MOST_ROWS, Packer, Placed, unpack};
use crate::entry::{Entry, Field, Kind};
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

/// Rows that became durable before their block was sealed.
pub(crate) fn chunk(packer: &mut Packer, rows: &[Arc<Placed>]) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    put_uint(&mut raw, rows.len() as u64);
    for Placed { seq, entry } in rows.iter().map(AsRef::as_ref) {
        put_uint(&mut raw, *seq);
        raw.push(entry.kind as u8);
        put_uint(&mut raw, entry.time_ms);
        put_bytes(&mut raw, entry.id.as_bytes());
        put_terms(&mut raw, &entry.terms);
        put_bytes(&mut raw, &entry.body);
    }
    packer.pack(&raw)
}

/// Reads a chunk.
pub(crate) fn read_chunk(packed: &[u8]) -> Option<Vec<Placed>> {
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
            terms: read_terms(&mut reader)?,
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
