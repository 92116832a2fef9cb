//! A consistent copy of a running store.
//!
//! Sealed blocks never change, so only the small rest has to be copied while the writer stands still; the blocks follow while it goes on.
//! Retention waits until the copy is made. The copy is written anew, so it is also as compact as a store can be.

use std::path::Path;
use std::sync::atomic::Ordering;

use sled::{Batch, Tree};

use crate::error::{Result, StoreError};
use crate::intake::lock;
use crate::lane::LaneState;
use crate::live::LANES;
use crate::shared::Shared;
use crate::{keys, manifest, store, sync, value};

/// Bytes of a batch.
const BATCH: usize = 2 << 20;

/// By the writer: makes the new store and copies what changes.
pub(crate) fn begin(shared: &Shared, dir: &Path) -> Result<()> {
    if dir.join("manifest").exists() || manifest::engine_dir(dir).exists() {
        return Err(StoreError::Io {
            what: "making a copy in",
            path: dir.to_owned(),
            error: std::sync::Arc::new(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "there is a store already; name a new folder",
            )),
        });
    }
    let target = store::open_engine(dir, 8 << 20)?;
    for what in [
        keys::LANE,
        keys::COMMIT,
        keys::HOT_1,
        keys::HOT,
        keys::COUNTER,
        keys::AREA,
        keys::QUEUE,
    ] {
        copy(&shared.db, &target, &[what], |_| true)?;
    }
    for lane in 0..LANES {
        // Frames of the open block, which is sealed perhaps when the others are copied.
        let open = lock(&shared.live)[lane].open_number;
        copy(
            &shared.db,
            &target,
            &keys::block(keys::FRAME, lane, open),
            |_| true,
        )?;
        copy(
            &shared.db,
            &target,
            &keys::lane(keys::AMENDMENT, lane),
            |_| true,
        )?;
        for what in [keys::AMENDED, keys::PENDING] {
            for item in shared.db.scan_prefix(keys::lane(what, lane)) {
                let (key, flag) = item.map_err(StoreError::engine("copying"))?;
                target
                    .insert(key, flag)
                    .map_err(StoreError::engine("copying"))?;
            }
        }
    }
    target
        .flush()
        .map_err(StoreError::engine("flushing the copy"))?;
    shared.copying.fetch_add(1, Ordering::AcqRel);
    Ok(())
}

/// By the caller, after [`begin`]: copies the sealed blocks.
pub(crate) fn finish(shared: &Shared, dir: &Path) -> Result<()> {
    let result = copy_blocks(shared, dir);
    shared.copying.fetch_sub(1, Ordering::AcqRel);
    result
}

fn copy_blocks(shared: &Shared, dir: &Path) -> Result<()> {
    let target = store::open_engine(dir, 8 << 20)?;
    for lane in 0..LANES {
        let state = value::get(&target, &keys::lane(keys::LANE, lane))?
            .and_then(|b| LaneState::read(&b))
            .unwrap_or_default();
        let complete = state.open / crate::index::BLOCKS;
        for what in [keys::FRAME, keys::META] {
            copy(&shared.db, &target, &keys::lane(what, lane), |key| {
                keys::block_of(key).is_some_and(|n| n < state.open)
            })?;
        }
        copy(&shared.db, &target, &keys::lane(keys::SUPER, lane), |key| {
            keys::block_of(key).is_some_and(|n| n < complete)
        })?;
        copy(&shared.db, &target, &keys::lane(keys::INDEX, lane), |key| {
            key.get(3..11)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_be_bytes)
                .is_some_and(|n| n < complete)
        })?;
    }
    target
        .flush()
        .map_err(StoreError::engine("flushing the copy"))?;
    let file = sync::db_file(dir);
    std::fs::File::open(&file)
        .and_then(|f| f.sync_all())
        .map_err(StoreError::io("waiting for the disk to have", &file))
}

/// Copies values whole. A damaged one is left out: the copy then shows a gap in the same place.
fn copy(from: &Tree, to: &Tree, prefix: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
    let (mut batch, mut size) = (Batch::default(), 0);
    for item in value::scan(from, prefix) {
        let (key, bytes) = item?;
        let Some(bytes) = bytes.ok().filter(|_| wanted(&key)) else {
            continue;
        };
        size += value::put(&mut batch, &key, &bytes)?.1;
        if size >= BATCH {
            to.apply_batch(std::mem::take(&mut batch))
                .map_err(StoreError::engine("copying"))?;
            size = 0;
        }
    }
    to.apply_batch(batch).map_err(StoreError::engine("copying"))
}
