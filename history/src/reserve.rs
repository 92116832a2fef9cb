//! Keys that are held ready for the blocks to come.
//!
//! A leaf of sled's tree takes 16 keys. When a 17th comes it is split, and both halves are written anew with all their values; keys that
//! grow and bring large values at once have each value written three times, and the file twice as large as what is in it. So the keys of
//! the next super-block are made before, while they have no values: the splits happen then. Each key is set once later on, and as a leaf
//! that grew in this way has nine keys, none is changed ten times, which would have sled write it anew.

use sled::{Batch, Tree};

use crate::error::{Result, StoreError};
use crate::index;
use crate::keys;
use crate::live::LANES;

/// Frames of a block that are held ready. A block that fills at once has six; more are taken as they come.
const FRAMES: u16 = 8;
/// Blocks that are held ready at once.
const BLOCKS: u64 = 64;
/// When only so many are left, the next are made: the last leaf still has no values then.
const LEFT: u64 = 32;
/// Super-blocks whose indexes are held ready at once.
const SUPERS: u64 = 16;

/// Behind what is held ready, for each lane.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    blocks: [u64; LANES],
    supers: [u64; LANES],
}

impl Reserve {
    /// Finds out what is ready, and fences off what changes often.
    pub(crate) fn find(tree: &Tree) -> Result<Self> {
        let mut batch = Batch::default();
        for key in keys::fences() {
            ready(tree, &mut batch, key)?;
        }
        tree.apply_batch(batch)
            .map_err(StoreError::engine("making room"))?;
        let mut found = Self::default();
        for lane in 0..LANES {
            let last = |prefix: &[u8]| {
                let key = tree.scan_prefix(prefix).keys().next_back().transpose();
                key.map_err(StoreError::engine("looking for room"))
            };
            if let Some(block) =
                last(&keys::lane(keys::META, lane))?.and_then(|k| keys::block_of(&k))
            {
                found.blocks[lane] = block + 1;
            }
            let index = last(&[keys::INDEX, lane as u8, 0])?;
            if let Some(number) = index.and_then(|k| k.get(3..11)?.try_into().ok()) {
                found.supers[lane] = u64::from_be_bytes(number) + 1;
            }
        }
        Ok(found)
    }

    /// Makes keys when few are left before block `open`.
    pub(crate) fn ahead(&mut self, tree: &Tree, lane: usize, open: u64) -> Result<()> {
        if open + LEFT < self.blocks[lane] {
            return Ok(());
        }
        let mut batch = Batch::default();
        let from = self.blocks[lane].max(open);
        for number in from..from + BLOCKS {
            for frame in 0..FRAMES {
                ready(tree, &mut batch, keys::frame(lane, number, frame))?;
            }
            ready(tree, &mut batch, keys::block(keys::META, lane, number))?;
        }
        self.blocks[lane] = from + BLOCKS;
        let last = (from + BLOCKS) / index::BLOCKS + 1;
        if self.supers[lane] <= last {
            let from = self.supers[lane].max(open / index::BLOCKS);
            for part in 0..index::PARTS {
                for number in from..from + SUPERS {
                    ready(tree, &mut batch, keys::index(lane, part, number))?;
                }
            }
            self.supers[lane] = from + SUPERS;
        }
        tree.apply_batch(batch)
            .map_err(StoreError::engine("making room"))
    }
}

fn ready(tree: &Tree, batch: &mut Batch, key: Vec<u8>) -> Result<()> {
    let there = tree
        .contains_key(&key)
        .map_err(StoreError::engine("making room"))?;
    if !there {
        batch.insert(key, sled::IVec::default());
    }
    Ok(())
}
