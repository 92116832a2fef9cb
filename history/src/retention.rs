//! What goes, and when: whole super-blocks, oldest first, each in one batch.
//!
//! Activities go by age and for room; alerts, decisions, notices, and activities that raised an alert lie in a lane of their own and go by
//! their own age, and for room only when no other super-block is left. The chain of the lane then begins at the first block that stays, and
//! the lane's record says with which hash.

use std::path::Path;
use std::sync::atomic::Ordering;

use sled::Batch;

use crate::block::BlockInfo;
use crate::error::{Result, StoreError};
use crate::intake::lock;
use crate::lane::LaneState;
use crate::live::{EVENTS, FINDINGS, LaneView};
use crate::shared::Shared;
use crate::{find, index, keys, value};

/// Bytes of file that a byte of value takes, about; sled keeps room for rewriting.
pub(crate) const FILE_FACTOR: f64 = 2.0;

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Blocks.
    pub blocks: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of values.
    pub bytes: u64,
    /// Newest time that was removed, milliseconds since the epoch; zero when nothing was.
    pub until_ms: u64,
}

impl Retention {
    pub(crate) fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.until_ms = self.until_ms.max(other.until_ms);
    }
}

/// Oldest complete super-block of a lane, with its blocks.
fn first(view: &LaneView) -> Option<(u64, impl Iterator<Item = &BlockInfo> + Clone)> {
    let number = view.blocks.front()?.number / index::BLOCKS;
    let blocks = view
        .blocks
        .iter()
        .take_while(move |b| b.number / index::BLOCKS == number);
    (number < view.open_number / index::BLOCKS).then_some((number, blocks))
}

/// Newest time of these blocks. A time that has not come yet says only that a clock was wrong.
fn newest<'a>(blocks: impl Iterator<Item = &'a BlockInfo>, now: u64) -> Option<u64> {
    blocks
        .filter_map(|b| [b.max_ms, b.min_ms].into_iter().find(|t| *t <= now))
        .max()
}

/// Super-block that has to go now.
pub(crate) fn next(shared: &Shared, now: u64) -> Option<(usize, u64)> {
    if shared.copying.load(Ordering::Acquire) > 0 {
        return None;
    }
    let options = &shared.options;
    let live = lock(&shared.live);
    for (lane, age) in [
        (EVENTS, options.max_age),
        (FINDINGS, options.max_age_findings),
    ] {
        let Some(limit) = age.map(|age| now.saturating_sub(age.as_millis() as u64)) else {
            continue;
        };
        if let Some((number, blocks)) = first(&live[lane])
            && newest(blocks, now).is_some_and(|time| time < limit)
        {
            return Some((lane, number));
        }
    }
    let bytes: u64 = live.iter().map(LaneView::bytes).sum();
    let over = options
        .max_bytes
        .is_some_and(|most| bytes as f64 * FILE_FACTOR > most as f64);
    drop(live);
    if over { oldest(shared) } else { None }
}

/// Super-block that goes first when room is needed.
pub(crate) fn oldest(shared: &Shared) -> Option<(usize, u64)> {
    if shared.copying.load(Ordering::Acquire) > 0 {
        return None;
    }
    let live = lock(&shared.live);
    [EVENTS, FINDINGS]
        .into_iter()
        .find_map(|lane| Some((lane, first(&live[lane])?.0)))
}

/// Takes a super-block out, in one batch.
pub(crate) fn drop_super(
    shared: &Shared,
    lane: usize,
    number: u64,
    state: &mut LaneState,
) -> Result<Retention> {
    let tree = &shared.db;
    let (from, to) = (state.base, (number + 1) * index::BLOCKS);
    let mut new = LaneState { base: to, ..*state };
    new.base_previous = if to >= state.open {
        state.head
    } else {
        // Damage here leaves zeros; verify then says that the beginning does not fit.
        find::meta(tree, lane, to)
            .ok()
            .flatten()
            .map(|meta| meta.previous)
            .unwrap_or_default()
    };
    let mut batch = Batch::default();
    for what in [keys::FRAME, keys::META, keys::AMENDMENT, keys::AMENDED] {
        value::remove_range(
            tree,
            &mut batch,
            &keys::block(what, lane, from),
            &keys::block(what, lane, to),
        )?;
    }
    let summary = keys::block(keys::SUPER, lane, number);
    value::remove_range(
        tree,
        &mut batch,
        &summary,
        &keys::block(keys::SUPER, lane, number + 1),
    )?;
    for part in 0..index::PARTS {
        value::remove_range(
            tree,
            &mut batch,
            &keys::index(lane, part, number),
            &keys::index(lane, part, number + 1),
        )?;
    }
    value::put(&mut batch, &keys::lane(keys::LANE, lane), &new.encode())?;

    // Readers first: a block that they do not hear of is not missed.
    let mut done = Retention::default();
    {
        let view = &mut lock(&shared.live)[lane];
        while let Some(info) = view.blocks.pop_front_if(|info| info.number < to) {
            done.add(Retention {
                blocks: 1,
                entries: info.rows(),
                bytes: info.bytes,
                until_ms: info.max_ms,
            });
        }
        view.amended = view.amended.split_off(&to);
        done.bytes += view.index_bytes.remove(&number).unwrap_or(0);
    }
    tree.apply_batch(batch)
        .map_err(StoreError::engine("removing the oldest"))?;
    *state = new;
    Ok(done)
}

/// Room on the disk for us, in bytes.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    let fs = rustix::fs::statvfs(dir).ok()?;
    Some(fs.f_bavail.saturating_mul(fs.f_frsize))
}
