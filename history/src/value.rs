//! How one value lies in the tree: a checksum in front, and cut into parts where it is large.
//!
//! sled puts up to sixteen neighbours into one page, and a page beyond a quarter of a segment (4 MiB of our 16) into a file of its own
//! that is never fsynced and whose damage loses keys without an error. So no value in the tree is larger than [`PART`].
//! The checksum covers the key too: a value moved to another key is found. It finds damage; the chain of hashes in the blocks finds intent.

use std::ops::{Bound, Deref};

use sled::{Batch, IVec, Tree};

use crate::error::{Result, StoreError};
use crate::keys;

/// Most bytes of one value in the tree.
pub(crate) const PART: usize = 192 << 10;
/// Most bytes of one value of ours.
pub(crate) const LARGEST: usize = 32 << 20;
/// Layout byte, number of parts, checksum.
const HEAD: usize = 1 + 2 + 8;
const LAYOUT: u8 = 1;

/// blake3 over key and payload.
pub(crate) type Hash = [u8; 32];

pub(crate) fn hash(key: &[u8], payload: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u32).to_be_bytes());
    hasher.update(key);
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

/// Bytes of a value, without a copy where it is in one part.
#[derive(Debug)]
pub(crate) enum Bytes {
    One(IVec),
    Joined(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::One(value) => value.get(HEAD..).unwrap_or_default(),
            Self::Joined(bytes) => bytes,
        }
    }
}

/// Bytes that a payload takes in the tree.
pub(crate) fn stored_len(payload: &[u8]) -> usize {
    HEAD + payload.len()
}

fn part_key(key: &[u8], part: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 3);
    out.push(keys::PART);
    out.extend_from_slice(key);
    out.extend_from_slice(&part.to_be_bytes());
    out
}

/// Adds a value to the batch. A shorter value over a longer one leaves parts behind; [`remove`] or [`remove_range`] first where that can be.
/// Returns its hash and the bytes that it takes in the tree.
pub(crate) fn put(batch: &mut Batch, key: &[u8], payload: &[u8]) -> Result<(Hash, usize)> {
    if payload.len() > LARGEST {
        return Err(StoreError::TooLarge {
            bytes: payload.len(),
            most: LARGEST,
        });
    }
    let hash = hash(key, payload);
    let first = payload.len().min(PART);
    let more = (payload.len() - first).div_ceil(PART) as u16;
    let mut value = Vec::with_capacity(HEAD + first);
    value.push(LAYOUT);
    value.extend_from_slice(&more.to_be_bytes());
    value.extend_from_slice(&hash[..8]);
    value.extend_from_slice(&payload[..first]);
    batch.insert(key, value);
    for (number, chunk) in payload[first..].chunks(PART).enumerate() {
        batch.insert(part_key(key, number as u16), chunk);
    }
    Ok((hash, stored_len(payload)))
}

fn damaged(key: &[u8], why: &str) -> StoreError {
    let what = key.first().map_or('?', |b| char::from(*b));
    let hex: String = key
        .iter()
        .skip(1)
        .take(40)
        .map(|b| format!("{b:02x}"))
        .collect();
    StoreError::corrupt(format!("value {what}:{hex} {why}"))
}

/// Checks a value that was read and joins its parts.
pub(crate) fn check(tree: &Tree, key: &[u8], value: IVec) -> Result<Bytes> {
    let head: [u8; HEAD] = value
        .get(..HEAD)
        .and_then(|h| h.try_into().ok())
        .ok_or_else(|| damaged(key, "is cut short"))?;
    if head[0] != LAYOUT {
        return Err(damaged(key, "has an unknown layout"));
    }
    let more = u16::from_be_bytes([head[1], head[2]]);
    if usize::from(more) * PART > LARGEST {
        return Err(damaged(key, "says that it is larger than values can be"));
    }
    let bytes = if more == 0 {
        Bytes::One(value)
    } else {
        let mut joined = value.get(HEAD..).unwrap_or_default().to_vec();
        for number in 0..more {
            let part = tree
                .get(part_key(key, number))
                .map_err(StoreError::engine("reading a part of a value"))?;
            joined.extend_from_slice(&part.ok_or_else(|| damaged(key, "has lost a part"))?);
        }
        Bytes::Joined(joined)
    };
    if hash(key, &bytes)[..8] != head[3..HEAD] {
        return Err(damaged(key, "does not have its checksum"));
    }
    Ok(bytes)
}

/// Reads a value. A key that is only held ready ([`crate::reserve`]) has none.
pub(crate) fn get(tree: &Tree, key: &[u8]) -> Result<Option<Bytes>> {
    match tree
        .get(key)
        .map_err(StoreError::engine("reading a value"))?
    {
        Some(value) if !value.is_empty() => check(tree, key, value).map(Some),
        _ => Ok(None),
    }
}

/// Lookups that follow the reading or writing of a large value.
const TOUCHES: usize = 8;

/// Lets sled find out that its cache is full.
///
/// sled 0.34 cuts its cache into 256 parts and looks at the size of one only when 64 accesses to its pages have gathered. Where a page is a
/// quarter of a megabyte and is looked at a few times, that is gigabytes. A page has some nine values of ours, so eight more lookups for
/// each of them, half a microsecond each, make that number full with every page.
pub(crate) fn settle(tree: &Tree, key: &[u8]) {
    for _ in 0..TOUCHES {
        // Only the lookup counts; who reads or wrote the value hears of errors.
        let _ = tree.contains_key(key);
    }
}

/// Takes a value and its parts out.
pub(crate) fn remove(tree: &Tree, batch: &mut Batch, key: &[u8]) -> Result<()> {
    if let Some(value) = tree
        .get(key)
        .map_err(StoreError::engine("reading a value"))?
    {
        let more = value
            .get(1..3)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u16::from_be_bytes);
        for number in 0..more.min((LARGEST / PART) as u16 + 1) {
            batch.remove(part_key(key, number));
        }
        batch.remove(key);
    }
    Ok(())
}

/// Takes out every value from one key up to, and without, another, with all parts, whole or not. Returns how many keys.
pub(crate) fn remove_range(
    tree: &Tree,
    batch: &mut Batch,
    from: &[u8],
    to: &[u8],
) -> Result<usize> {
    let mut count = 0;
    let parts = |key: &[u8]| [&[keys::PART][..], key].concat();
    for (from, to) in [(from.to_vec(), to.to_vec()), (parts(from), parts(to))] {
        for key in tree.range(from..to).keys() {
            batch.remove(key.map_err(StoreError::engine("looking for what to remove"))?);
            count += 1;
        }
    }
    Ok(count)
}

/// First key behind all keys with this prefix.
pub(crate) fn behind(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

/// Every value whose key begins with `prefix`, in order; keys without a value are passed over. A damaged value is an error in its place; the scan goes on behind it.
pub(crate) fn scan<'a>(
    tree: &'a Tree,
    prefix: &[u8],
) -> impl Iterator<Item = Result<(IVec, Result<Bytes>)>> + 'a {
    tree.range((Bound::Included(prefix.to_vec()), behind(prefix)))
        .filter(|item| item.as_ref().map_or(true, |(_, value)| !value.is_empty()))
        .map(move |item| {
            let (key, value) = item.map_err(StoreError::engine("scanning values"))?;
            let bytes = check(tree, &key, value);
            Ok((key, bytes))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> sled::Db {
        sled::Config::new().temporary(true).open().unwrap()
    }

    #[test]
    fn a_large_value_comes_back_whole_and_goes_wholly() {
        let db = tree();
        let payload: Vec<u8> = (0..PART * 2 + 17).map(|i| (i * 31 % 251) as u8).collect();
        let mut batch = Batch::default();
        put(&mut batch, b"k", &payload).unwrap();
        db.apply_batch(batch).unwrap();
        assert_eq!(&get(&db, b"k").unwrap().unwrap()[..], &payload[..]);
        assert!(db.iter().values().all(|v| v.unwrap().len() <= PART + HEAD));
        let mut batch = Batch::default();
        remove(&db, &mut batch, b"k").unwrap();
        db.apply_batch(batch).unwrap();
        assert_eq!(db.iter().count(), 0);
    }

    #[test]
    fn every_changed_byte_and_every_moved_value_is_found() {
        let db = tree();
        let mut batch = Batch::default();
        put(&mut batch, b"k", b"some text").unwrap();
        db.apply_batch(batch).unwrap();
        let good = db.get(b"k").unwrap().unwrap();
        for place in 0..good.len() {
            let mut bad = good.to_vec();
            bad[place] ^= 0x10;
            db.insert(b"k", bad).unwrap();
            assert!(get(&db, b"k").is_err(), "byte {place}");
        }
        db.insert(b"other", good).unwrap();
        assert!(get(&db, b"other").is_err());
    }
}
