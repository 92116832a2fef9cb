//! How large, how old, how healthy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::error::{Result, StoreError};
use crate::intake::lock;
use crate::lane::LaneState;
use crate::live::LaneView;
use crate::shared::Shared;
use crate::value;

/// The state of a store. Counters run since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries held, by [`crate::Kind::index`].
    pub entries: [u64; 4],
    /// Sealed blocks.
    pub blocks: u64,
    /// Entries of open blocks.
    pub open_entries: u64,
    /// Bytes that the files take on the disk.
    pub bytes_on_disk: u64,
    /// Bytes of sealed blocks and their indexes in the tree.
    pub value_bytes: u64,
    /// Oldest and newest time held, milliseconds since the epoch.
    pub oldest_ms: Option<u64>,
    /// See `oldest_ms`.
    pub newest_ms: Option<u64>,
    /// Entries and amendments that are durable.
    pub acknowledged: u64,
    /// Entries that were refused.
    pub dropped: u64,
    /// Activities that came again and were not stored again.
    pub duplicates: u64,
    /// Alerts, decisions and notices that took the place of an earlier one.
    pub superseded: u64,
    /// Terms beyond the most that an entry may have.
    pub terms_cut: u64,
    /// Entries and commands that wait for the writer.
    pub queued: u64,
    /// When the last flush returned, milliseconds since the epoch, and how long it took, microseconds.
    pub last_flush_ms: u64,
    /// See `last_flush_ms`.
    pub flush_us: u64,
    /// When the disk last confirmed, milliseconds since the epoch.
    pub last_sync_ms: u64,
    /// Damage that was found at open.
    pub problems: Vec<String>,
    /// Why the store takes nothing more; `None` is good.
    pub failure: Option<String>,
}

/// Where the chain of a lane ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// 0 activities, 1 alerts and what belongs to them.
    pub lane: usize,
    /// Blocks ever sealed in it.
    pub blocks: u64,
    /// First block that is still held.
    pub first: u64,
    /// Entries ever taken when the newest was sealed, over all lanes.
    pub entries: u64,
    /// Hash of the newest block, which covers all before it.
    pub hash: [u8; 32],
}

pub(crate) fn head(shared: &Shared, lane: usize, key: &[u8]) -> Result<Head> {
    let state = match value::get(&shared.db, key)? {
        Some(bytes) => LaneState::read(&bytes).ok_or_else(|| {
            StoreError::corrupt(format!("the record of lane {lane} cannot be read"))
        })?,
        None => LaneState::default(),
    };
    Ok(Head {
        lane,
        blocks: state.open,
        first: state.base,
        entries: state.next_seq,
        hash: state.head,
    })
}

/// Bytes of all files below a folder.
pub(crate) fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
            // What it takes on the disk: sled makes its file longer before it writes.
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

pub(crate) fn collect(shared: &Shared) -> Stats {
    let counts = &shared.counts;
    let mut stats = Stats {
        bytes_on_disk: folder_bytes(&shared.dir),
        acknowledged: counts.acknowledged.load(Ordering::Relaxed),
        dropped: counts.dropped.load(Ordering::Relaxed),
        duplicates: counts.duplicates.load(Ordering::Relaxed),
        superseded: counts.superseded.load(Ordering::Relaxed),
        terms_cut: counts.terms_cut.load(Ordering::Relaxed),
        queued: shared.intake.len() as u64,
        last_flush_ms: counts.last_flush_ms.load(Ordering::Relaxed),
        flush_us: counts.flush_us.load(Ordering::Relaxed),
        last_sync_ms: counts.last_sync_ms.load(Ordering::Relaxed),
        problems: lock(&shared.problems).clone(),
        failure: lock(&shared.failure).clone(),
        ..Stats::default()
    };
    let live = lock(&shared.live);
    for view in live.iter() {
        stats.blocks += view.blocks.len() as u64;
        stats.open_entries += view.open.len() as u64;
        let (mut oldest, mut newest) = (u64::MAX, None);
        for info in &view.blocks {
            for (total, more) in stats.entries.iter_mut().zip(info.kinds) {
                *total += u64::from(more);
            }
            (oldest, newest) = (oldest.min(info.min_ms), newest.max(Some(info.max_ms)));
        }
        for row in &view.open {
            stats.entries[row.entry.kind.index()] += 1;
            (oldest, newest) = (
                oldest.min(row.entry.time_ms),
                newest.max(Some(row.entry.time_ms)),
            );
        }
        if newest.is_some() {
            stats.oldest_ms = Some(stats.oldest_ms.map_or(oldest, |o| o.min(oldest)));
            stats.newest_ms = stats.newest_ms.max(newest);
        }
    }
    stats.value_bytes = live.iter().map(LaneView::bytes).sum();
    stats
}
