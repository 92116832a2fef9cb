//! What goes, and when: whole blocks, oldest first, those of one super-block in one batch.
//!
//! Activities go by age and for room; alerts, decisions, notices, and activities that raised an alert lie in a lane of their own and go by
//! their own age, and for room only when no other block is left. The chain of the lane then begins at the first block that stays, and
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

/// Blocks that go at once when room is needed.
const STEP: u64 = 16;

/// Newest time of a block. A time that has not come yet says only that a clock was wrong.
fn newest(info: &BlockInfo, now: u64) -> Option<u64> {
    [info.max_ms, info.min_ms].into_iter().find(|t| *t <= now)
}

/// First block of the lane that stays when everything whose newest row is older than `limit` goes; `None` when nothing does. At most as
/// far as the end of a super-block: one batch should not grow without bound.
pub(crate) fn older(shared: &Shared, lane: usize, limit: u64, now: u64) -> Option<u64> {
    if shared.copying.load(Ordering::Acquire) > 0 {
        return None;
    }
    let live = lock(&shared.live);
    let blocks = &live[lane].blocks;
    let end = behind_super(blocks.front()?.number);
    let mut to = None;
    for info in blocks.iter().take_while(|info| info.number < end) {
        match newest(info, now) {
            Some(time) if time < limit => to = Some(info.number + 1),
            Some(_) => break,
            // Goes if the one behind it does.
            None => {}
        }
    }
    to
}

fn behind_super(number: u64) -> u64 {
    (number / index::BLOCKS + 1) * index::BLOCKS
}

/// Lane, and first block that stays, of what has to go now.
pub(crate) fn next(shared: &Shared, now: u64) -> Option<(usize, u64)> {
    let options = &shared.options;
    for (lane, age) in [
        (EVENTS, options.max_age),
        (FINDINGS, options.max_age_findings),
    ] {
        let Some(limit) = age.map(|age| now.saturating_sub(age.as_millis() as u64)) else {
            continue;
        };
        if let Some(to) = older(shared, lane, limit, now) {
            return Some((lane, to));
        }
    }
    let bytes: u64 = lock(&shared.live).iter().map(LaneView::bytes).sum();
    let over = options
        .max_bytes
        .is_some_and(|most| bytes as f64 * FILE_FACTOR > most as f64);
    if over { oldest(shared) } else { None }
}

/// What goes first when room is needed: lane, and first block that stays.
pub(crate) fn oldest(shared: &Shared) -> Option<(usize, u64)> {
    if shared.copying.load(Ordering::Acquire) > 0 {
        return None;
    }
    let live = lock(&shared.live);
    [EVENTS, FINDINGS].into_iter().find_map(|lane| {
        let view = &live[lane];
        let first = view.blocks.front()?.number;
        Some((
            lane,
            (first + STEP)
                .min(behind_super(first))
                .min(view.open_number),
        ))
    })
}

/// Takes the blocks before `to` out, in one batch. They are of one super-block.
pub(crate) fn drop_before(
    shared: &Shared,
    lane: usize,
    to: u64,
    state: &mut LaneState,
) -> Result<Retention> {
    let tree = &shared.db;
    let from = state.base;
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
    // Super-blocks of which nothing is left.
    let supers = from / index::BLOCKS..to / index::BLOCKS;
    value::remove_range(
        tree,
        &mut batch,
        &keys::block(keys::SUPER, lane, supers.start),
        &keys::block(keys::SUPER, lane, supers.end),
    )?;
    for part in 0..index::PARTS {
        value::remove_range(
            tree,
            &mut batch,
            &keys::index(lane, part, supers.start),
            &keys::index(lane, part, supers.end),
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
        view.hashes = view.hashes.split_off(&to);
        for number in supers {
            done.bytes += view.index_bytes.remove(&number).unwrap_or(0);
        }
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
