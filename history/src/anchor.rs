//! A short proof of everything stored so far, to be kept where the host cannot change it.
//!
//! Whoever rewrites the history on the host has to make a new chain; the anchors that were sent away before then no longer fit it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Result, StoreError};
use crate::keys;
use crate::live::LANES;
use crate::shared::{Shared, now_ms};
use crate::stats::Head;
use crate::value;

/// Where the chains of all lanes ended at one time. As text one line: `1 TIME ENTRIES BLOCKS:HASH BLOCKS:HASH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// When it was made, milliseconds since the epoch.
    pub time_ms: u64,
    /// Entries ever sealed into blocks, over all lanes.
    pub entries: u64,
    /// For each lane the blocks ever sealed, and the hash of the newest, which covers all before it.
    pub heads: Vec<(u64, [u8; 32])>,
}

/// Does what is stored fit an anchor that was made earlier?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorCheck {
    /// Yes: nothing that it covers and that is still held was changed.
    Holds,
    /// Retention has taken everything that it covers.
    Gone,
    /// The block, by lane and number, is not what it was when the anchor was made, or is not there.
    Differs {
        /// Lane.
        lane: usize,
        /// Number of the block.
        block: u64,
    },
}

impl Anchor {
    /// One hash of all of it: short enough to be read aloud.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (blocks, hash) in &self.heads {
            hasher.update(&blocks.to_be_bytes()).update(hash);
        }
        *hasher.finalize().as_bytes()
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 {} {}", self.time_ms, self.entries)?;
        for (blocks, hash) in &self.heads {
            write!(f, " {blocks}:")?;
            hex(hash, f)?;
        }
        Ok(())
    }
}

/// Not an anchor.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is not an anchor; it is one line as the alert or the system log told it")]
pub struct AnchorError(String);

impl FromStr for Anchor {
    type Err = AnchorError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let parse = || {
            let mut words = text.split_ascii_whitespace();
            (words.next()? == "1").then_some(())?;
            let (time_ms, entries) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let heads = words
                .map(|word| {
                    let (blocks, hash) = word.split_once(':')?;
                    (hash.len() == 64 && hash.is_ascii()).then_some(())?;
                    let mut bytes = [0; 32];
                    for (place, byte) in bytes.iter_mut().enumerate() {
                        *byte = u8::from_str_radix(&hash[place * 2..place * 2 + 2], 16).ok()?;
                    }
                    Some((blocks.parse().ok()?, bytes))
                })
                .collect::<Option<Vec<_>>>()?;
            (!heads.is_empty()).then_some(Anchor {
                time_ms,
                entries,
                heads,
            })
        };
        parse().ok_or_else(|| AnchorError(text.chars().take(200).collect()))
    }
}

pub(crate) fn make(heads: Vec<Head>) -> Anchor {
    Anchor {
        time_ms: now_ms(),
        entries: heads.iter().map(|h| h.entries).max().unwrap_or(0),
        heads: heads.iter().map(|h| (h.blocks, h.hash)).collect(),
    }
}

/// The hash of the meta of a block, as the chain has it.
fn hash_of(shared: &Shared, lane: usize, block: u64) -> Result<Option<[u8; 32]>> {
    let key = keys::block(keys::META, lane, block);
    match value::get(&shared.db, &key) {
        Ok(bytes) => Ok(bytes.map(|bytes| value::hash(&key, &bytes))),
        Err(StoreError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn check(shared: &Shared, anchor: &Anchor, now: &[Head]) -> Result<AnchorCheck> {
    let mut held = anchor.heads.is_empty() || anchor.heads.iter().all(|(blocks, _)| *blocks == 0);
    for (lane, (blocks, hash)) in anchor.heads.iter().enumerate() {
        let Some(last) = blocks.checked_sub(1) else {
            continue;
        };
        let differs = AnchorCheck::Differs { lane, block: last };
        let Some(head) = now.get(lane).filter(|_| lane < LANES) else {
            return Ok(differs);
        };
        if head.first > last {
            // Exactly what retention left behind it is still known.
            continue;
        }
        held = true;
        if hash_of(shared, lane, last)?.is_none_or(|now| now != *hash) {
            return Ok(differs);
        }
    }
    Ok(if held {
        AnchorCheck::Holds
    } else {
        AnchorCheck::Gone
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_read_as_it_is_written() {
        let anchor = Anchor {
            time_ms: 5,
            entries: 7,
            heads: vec![(3, [0xab; 32]), (0, [0; 32])],
        };
        assert_eq!(anchor.to_string().parse::<Anchor>().unwrap(), anchor);
        for bad in ["", "1 2", "2 5 7 3:00", "1 5 7 3:zz", "1 5 7"] {
            assert!(bad.parse::<Anchor>().is_err(), "{bad}");
        }
    }
}
