//! The index of a super-block: which of its 64 blocks hold which term.
//!
//! Every pair of term and block is one number, 24 bits of hash over 6 bits of block, kept sorted and as differences: a term in one block
//! costs two bytes, a term in all blocks one byte a block. So ids, pids and container names live in the same structure. The first four
//! bits of the hash choose one of 16 parts, each its own value; the next six a bucket in it, so that a lookup reads about a hundred pairs.

use crate::wire::{Reader, put_uint};

/// Blocks of a super-block.
pub(crate) const BLOCKS: u64 = 64;
/// Values that an index is cut into.
pub(crate) const PARTS: u8 = 16;
const BUCKETS: u32 = 64;
/// Hash bits below part and bucket.
const LOW: u32 = 14;

/// Which part a hash is in.
pub(crate) fn part_of(hash: u32) -> u8 {
    (hash >> 20) as u8 & 0xf
}

/// Builds the 16 parts. `blocks` holds, for each block of the super-block by its place, the hashes of its terms.
pub(crate) fn build<'a>(blocks: impl Iterator<Item = (u8, &'a [u32])>) -> Vec<Vec<u8>> {
    let mut pairs: Vec<u32> = blocks
        .flat_map(|(place, hashes)| {
            hashes
                .iter()
                .map(move |hash| ((hash & 0xff_ffff) << 6) | u32::from(place & 63))
        })
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut rest = &pairs[..];
    let mut parts = Vec::with_capacity(usize::from(PARTS));
    for part in 0..u32::from(PARTS) {
        let (mut sizes, mut body) = (Vec::new(), Vec::new());
        for bucket in 0..BUCKETS {
            let behind = ((part * BUCKETS + bucket + 1) << (LOW + 6)) as u64;
            let (mine, others) =
                rest.split_at(rest.partition_point(|pair| u64::from(*pair) < behind));
            rest = others;
            let start = body.len();
            let mut last = (part * BUCKETS + bucket) << (LOW + 6);
            for pair in mine {
                put_uint(&mut body, u64::from(pair - last));
                last = *pair;
            }
            put_uint(&mut sizes, (body.len() - start) as u64);
        }
        sizes.extend_from_slice(&body);
        parts.push(sizes);
    }
    parts
}

/// Blocks that may hold the term with this hash, bit 0 the first. `None` when the part cannot be read.
pub(crate) fn lookup(part: &[u8], hash: u32) -> Option<u64> {
    let bucket = (hash >> LOW) & (BUCKETS - 1);
    let mut reader = Reader::new(part);
    let (mut skip, mut size) = (0usize, 0usize);
    for number in 0..BUCKETS {
        let bytes = reader.size()?;
        if number < bucket {
            skip = skip.checked_add(bytes)?;
        } else if number == bucket {
            size = bytes;
        }
    }
    reader.take(skip)?;
    let mut pairs = Reader::new(reader.take(size)?);
    let wanted = u64::from(hash & ((1 << LOW) - 1));
    let (mut pair, mut found) = (0u64, 0u64);
    while !pairs.is_empty() {
        pair = pair.checked_add(pairs.uint()?)?;
        match (pair >> 6).cmp(&wanted) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => found |= 1 << (pair & 63),
            std::cmp::Ordering::Greater => break,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_term_is_found_in_its_blocks_and_no_other(blocks in proptest::collection::vec(proptest::collection::vec(0u32..1 << 24, 0..40), 1..64), probe in 0u32..1 << 24) {
            let parts = build(blocks.iter().enumerate().map(|(i, h)| (i as u8, &h[..])));
            prop_assert_eq!(parts.len(), 16);
            for hash in blocks.iter().flatten().copied().chain([probe]) {
                let expected = blocks.iter().enumerate().fold(0u64, |bits, (i, h)| if h.contains(&hash) { bits | 1 << i } else { bits });
                prop_assert_eq!(lookup(&parts[usize::from(part_of(hash))], hash), Some(expected));
            }
        }

        #[test]
        fn damaged_parts_do_not_panic(bytes: Vec<u8>, hash in 0u32..1 << 24) {
            let _ = lookup(&bytes, hash);
        }
    }
}
