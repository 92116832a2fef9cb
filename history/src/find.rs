//! From a term to the blocks that may hold it, and from an id to its row.

use std::collections::HashMap;

use sled::Tree;

use crate::block::{Frame, Meta};
use crate::entry::{Field, Kind};
use crate::error::{Result, StoreError};
use crate::hot::Change;
use crate::live::Seen;
use crate::rowset::RowSet;
use crate::search::Search;
use crate::{index, keys, terms, value};

/// Reads the meta of a block. `None` when it is not there.
pub(crate) fn meta(tree: &Tree, lane: usize, number: u64) -> Result<Option<Meta>> {
    let key = keys::block(keys::META, lane, number);
    let Some(bytes) = value::get(tree, &key)? else {
        return Ok(None);
    };
    value::settle(tree, &key);
    Meta::read(&bytes)
        .filter(|meta| meta.number == number)
        .map(Some)
        .ok_or_else(|| {
            StoreError::corrupt(format!(
                "the directory of block {number} of lane {lane} cannot be read"
            ))
        })
}

/// Reads a frame of a block. `None` when it is not there.
pub(crate) fn frame(tree: &Tree, lane: usize, number: u64, frame: u16) -> Result<Option<Frame>> {
    let key = keys::frame(lane, number, frame);
    let Some(bytes) = value::get(tree, &key)? else {
        return Ok(None);
    };
    value::settle(tree, &key);
    Frame::read(&bytes).map(Some).ok_or_else(|| {
        StoreError::corrupt(format!(
            "frame {frame} of block {number} of lane {lane} cannot be read"
        ))
    })
}

/// Amendments of a block, by kind and id.
pub(crate) type Changes = HashMap<(u8, Vec<u8>), Change>;

/// Reads the amendments of a block. Damaged ones are left out; verify names them.
pub(crate) fn changes(tree: &Tree, lane: usize, number: u64) -> Result<Changes> {
    let prefix = keys::block(keys::AMENDMENT, lane, number);
    let mut changes = HashMap::new();
    for item in value::scan(tree, &prefix) {
        let (key, bytes) = item?;
        let Some((kind, id)) = key.get(prefix.len()..).and_then(|rest| rest.split_first()) else {
            continue;
        };
        if let Some(change) = bytes.ok().and_then(|b| Change::read(&b)) {
            changes.insert((*kind, id.to_vec()), change);
        }
    }
    Ok(changes)
}

/// Rows of a block that have an amendment, with it.
pub(crate) fn changed_rows<'a>(
    meta: &'a Meta,
    changes: &'a Changes,
) -> impl Iterator<Item = (usize, &'a Change)> {
    (0..meta.rows()).filter_map(|row| {
        let key = (meta.kinds[row] as u8, meta.id(row).to_vec());
        Some((row, changes.get(&key)?))
    })
}

/// Rows of a block that have what is searched for in a term, or in their id. `None` when the directory cannot be read.
pub(crate) fn rows_with(meta: &Meta, changes: Option<&Changes>, search: &Search) -> Option<RowSet> {
    let mut found = meta.search_terms(|term| search.is_in(term))?;
    for row in 0..meta.rows() {
        if search.is_in(meta.id(row)) {
            found.insert(row);
        }
    }
    for (row, change) in changes.into_iter().flat_map(|c| changed_rows(meta, c)) {
        if change.terms.iter().any(|(_, term)| search.is_in(term)) {
            found.insert(row);
        }
    }
    Some(found)
}

/// Reads the amendment of one row.
pub(crate) fn change(
    tree: &Tree,
    lane: usize,
    number: u64,
    kind: Kind,
    id: &str,
) -> Result<Option<Change>> {
    Ok(
        value::get(tree, &keys::amendment(lane, number, kind as u8, id))?
            .and_then(|b| Change::read(&b)),
    )
}

/// Answers of the super-block indexes, remembered for one query.
#[derive(Default)]
pub(crate) struct Candidates {
    known: HashMap<(usize, u64, u32), u64>,
}

impl Candidates {
    /// May the block hold a term with this hash? What cannot be read is answered with yes.
    pub(crate) fn may_hold(&mut self, tree: &Tree, seen: &Seen, hash: u32) -> bool {
        if !seen.indexed {
            return seen
                .hashes
                .as_ref()
                .is_none_or(|hashes| hashes.binary_search(&hash).is_ok());
        }
        let super_block = seen.info.number / index::BLOCKS;
        let bits = *self
            .known
            .entry((seen.lane, super_block, hash))
            .or_insert_with(|| {
                value::get(
                    tree,
                    &keys::index(seen.lane, index::part_of(hash), super_block),
                )
                .ok()
                .flatten()
                .and_then(|part| index::lookup(&part, hash))
                .unwrap_or(u64::MAX)
            });
        bits & (1 << (seen.info.number % index::BLOCKS)) != 0
    }
}

/// A row that was found.
pub(crate) struct Found {
    pub(crate) seen: Seen,
    pub(crate) meta: Meta,
    pub(crate) row: usize,
}

/// The row with this id, in the blocks given, looked at in their order. Damaged blocks are passed over.
pub(crate) fn locate(
    tree: &Tree,
    blocks: Vec<Seen>,
    kind: Kind,
    id: &str,
) -> Result<Option<Found>> {
    let hash = terms::hash24(Field::Id as u8, &terms::stored(id.as_bytes()));
    let mut candidates = Candidates::default();
    for seen in blocks {
        if !candidates.may_hold(tree, &seen, hash) {
            continue;
        }
        let meta = match meta(tree, seen.lane, seen.info.number) {
            Ok(Some(meta)) => meta,
            Ok(None) | Err(StoreError::Corrupt { .. }) => continue,
            Err(error) => return Err(error),
        };
        let row =
            (0..meta.rows()).find(|row| meta.kinds[*row] == kind && meta.id(*row) == id.as_bytes());
        if let Some(row) = row {
            return Ok(Some(Found { seen, meta, row }));
        }
    }
    Ok(None)
}
