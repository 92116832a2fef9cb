//! Where the bytes go: what each sort of value takes.

use sled::Tree;

use crate::error::{Result, StoreError};
use crate::keys;

/// Values of one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What they are.
    pub what: &'static str,
    /// How many keys.
    pub keys: u64,
    /// Bytes of the keys.
    pub key_bytes: u64,
    /// Bytes of the values.
    pub value_bytes: u64,
}

const NAMES: [(u8, &str); 15] = [
    (keys::FRAME, "bodies"),
    (keys::META, "directories of blocks: columns, terms, hashes"),
    (keys::INDEX, "indexes of super-blocks"),
    (keys::SUPER, "summaries of super-blocks"),
    (keys::HOT, "newest rows"),
    (keys::HOT_1, "newest rows, format 1"),
    (keys::AMENDMENT, "amendments"),
    (keys::AMENDED, "which blocks are amended"),
    (keys::PENDING, "amendments that no block names yet"),
    (keys::LANE, "ends of the chains"),
    (keys::COMMIT, "number of the last commit"),
    (keys::COUNTER, "counters"),
    (keys::AREA, "areas"),
    (keys::QUEUE, "queues"),
    (keys::PART, "rest of large values"),
];

/// Reads every key and value: takes as long as reading the store.
pub(crate) fn shares(tree: &Tree) -> Result<Vec<Share>> {
    let mut out = Vec::new();
    for (letter, what) in NAMES {
        let mut share = Share {
            what,
            keys: 0,
            key_bytes: 0,
            value_bytes: 0,
        };
        for item in tree.scan_prefix([letter]) {
            let (key, value) = item.map_err(StoreError::engine("counting bytes"))?;
            crate::value::settle(tree, &key);
            share.keys += 1;
            share.key_bytes += key.len() as u64;
            share.value_bytes += value.len() as u64;
        }
        out.push(share);
    }
    Ok(out)
}
