//! What readers see without a look at the disk: the directory of sealed blocks, and the rows of the open ones.
//!
//! Written by the writer thread alone, always after the tree has it, so a reader never hears of a block that it cannot read. Readers take
//! what they need under the lock and work on it afterwards. A block that retention removes meanwhile is simply not found any more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::block::{BlockInfo, Placed};
use crate::entry::{Entry, Field, Kind};
use crate::index;

/// Two lanes, each with its own blocks, chain and retention: alerts and what belongs to them are few and live long, events are many.
pub(crate) const LANES: usize = 2;
/// Lane of activities.
pub(crate) const EVENTS: usize = 0;
/// Lane of alerts, decisions, notices, and of activities that raised an alert.
pub(crate) const FINDINGS: usize = 1;

/// Lane that an entry goes into.
pub(crate) fn lane_of(entry: &Entry) -> usize {
    if entry.kind != Kind::Activity || entry.terms.iter().any(|(field, _)| field == Field::Alert) {
        FINDINGS
    } else {
        EVENTS
    }
}

/// One lane.
#[derive(Debug, Default)]
pub(crate) struct LaneView {
    /// Sealed blocks, by number.
    pub(crate) blocks: VecDeque<BlockInfo>,
    /// Rows of the open block.
    pub(crate) open: Vec<Arc<Placed>>,
    /// Its number.
    pub(crate) open_number: u64,
    /// Terms of the sealed blocks of the super-block that is not complete, so not indexed on disk.
    pub(crate) hashes: BTreeMap<u64, Arc<[u32]>>,
    /// Blocks with amendments; do any of these bring terms?
    pub(crate) amended: BTreeMap<u64, bool>,
    /// Bytes of indexes of super-blocks, by super-block.
    pub(crate) index_bytes: BTreeMap<u64, u64>,
}

impl LaneView {
    /// Is this block in a super-block whose index is on disk?
    pub(crate) fn is_indexed(&self, number: u64) -> bool {
        number / index::BLOCKS < self.open_number / index::BLOCKS
    }

    /// Bytes of values.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|b| b.bytes).sum::<u64>() + self.index_bytes.values().sum::<u64>()
    }
}

/// All lanes.
pub(crate) type Live = [LaneView; LANES];

/// A sealed block as a reader holds on to it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) lane: usize,
    pub(crate) info: BlockInfo,
    pub(crate) indexed: bool,
    /// Its terms, while it is not indexed.
    pub(crate) hashes: Option<Arc<[u32]>>,
    /// Has it amendments, and do these bring terms?
    pub(crate) amended: Option<bool>,
}

/// Sealed blocks that the filter wants.
pub(crate) fn blocks(live: &Live, mut wanted: impl FnMut(usize, &BlockInfo) -> bool) -> Vec<Seen> {
    let mut out = Vec::new();
    for (lane, view) in live.iter().enumerate() {
        out.extend(
            view.blocks
                .iter()
                .filter(|info| wanted(lane, info))
                .map(|info| Seen {
                    lane,
                    info: *info,
                    indexed: view.is_indexed(info.number),
                    hashes: view.hashes.get(&info.number).cloned(),
                    amended: view.amended.get(&info.number).copied(),
                }),
        );
    }
    out
}
