//! Reads a store at open: directory, open blocks from the hot log, newest ids. What is damaged is named and passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use sled::{Batch, Tree};

use crate::block::{BlockInfo, FrameRef, Meta, Placed};
use crate::entry::Kind;
use crate::error::{Result, StoreError};
use crate::lane::LaneState;
use crate::live::{LANES, Live};
use crate::recent::Recent;
use crate::value::{self, Hash};
use crate::wire::Reader;
use crate::{find, hot, index, keys};

/// Ids of activities, and of everything else, that are kept in memory.
const ACTIVITIES: usize = 65_536;
const OTHERS: usize = 16_384;
/// Newest blocks of a lane whose ids are read at open.
const BLOCKS: u64 = 64;

/// One lane as the writer needs it.
pub(crate) struct RecoveredLane {
    pub(crate) state: LaneState,
    pub(crate) rows: Vec<Arc<Placed>>,
    /// Number of the next chunk of the hot log.
    pub(crate) chunk: u32,
    /// Frames of the open block, and how many of the rows are in them.
    pub(crate) frames: Vec<FrameRef>,
    pub(crate) framed: usize,
    /// Rows lie in the hot log of format 1.
    pub(crate) old_log: bool,
    /// Amendments that no sealed block names yet.
    pub(crate) pending: BTreeMap<Vec<u8>, Hash>,
}

/// Everything that was found.
pub(crate) struct Recovered {
    pub(crate) live: Live,
    pub(crate) lanes: [RecoveredLane; LANES],
    pub(crate) next_seq: u64,
    pub(crate) activities: Recent,
    pub(crate) others: Recent,
    pub(crate) problems: Vec<String>,
    /// Number of the last commit.
    pub(crate) commit: u64,
}

/// Reads it all.
pub(crate) fn recover(tree: &Tree) -> Result<Recovered> {
    let mut live = Live::default();
    let mut problems = Vec::new();
    let mut lanes = Vec::with_capacity(LANES);
    let (mut activities, mut others) = (Recent::new(ACTIVITIES), Recent::new(OTHERS));
    let mut next_seq = 0;
    for lane in 0..LANES {
        let state = recover_lane(tree, lane, &mut live, &mut problems)?;
        let mut open = open_block(tree, lane, state, &mut problems)?;
        open.pending = pending(tree, lane)?;
        remember(tree, lane, &live, &mut activities, &mut others)?;
        for row in &open.rows {
            let recent = if row.entry.kind == Kind::Activity {
                &mut activities
            } else {
                &mut others
            };
            recent.insert(row.entry.kind, row.entry.id.as_bytes(), (lane, state.open));
        }
        next_seq = open
            .rows
            .iter()
            .map(|row| row.seq + 1)
            .fold(state.next_seq.max(next_seq), u64::max);
        live[lane].open = open.rows.clone();
        live[lane].open_number = state.open;
        lanes.push(open);
    }
    let lanes = lanes
        .try_into()
        .map_err(|_| StoreError::Failed("a lane is missing".to_owned()))?;
    let commit = match value::get(tree, &[keys::COMMIT]) {
        Ok(bytes) => bytes
            .and_then(|b| b[..].try_into().ok())
            .map_or(0, u64::from_be_bytes),
        Err(StoreError::Corrupt { what, .. }) => {
            problems.push(what);
            0
        }
        Err(error) => return Err(error),
    };
    Ok(Recovered {
        commit,
        live,
        lanes,
        next_seq,
        activities,
        others,
        problems,
    })
}

fn recover_lane(
    tree: &Tree,
    lane: usize,
    live: &mut Live,
    problems: &mut Vec<String>,
) -> Result<LaneState> {
    let mut state = match value::get(tree, &keys::lane(keys::LANE, lane)) {
        Ok(Some(bytes)) => LaneState::read(&bytes),
        Ok(None) => None,
        Err(StoreError::Corrupt { what, .. }) => {
            problems.push(what);
            None
        }
        Err(error) => return Err(error),
    };
    let newest = edge(tree, lane, true)?;
    if state.is_none_or(|s| newest.is_some_and(|n| n >= s.open)) && newest.is_some() {
        problems.push(format!("the record of where lane {lane} begins and ends is lost; it was made anew from the blocks"));
        state = Some(rebuild(tree, lane)?);
    }
    let state = state.unwrap_or_default();
    let view = &mut live[lane];

    let first_open = state.open / index::BLOCKS;
    for super_block in state.base / index::BLOCKS..first_open {
        let numbers =
            (super_block * index::BLOCKS).max(state.base)..(super_block + 1) * index::BLOCKS;
        match value::get(tree, &keys::block(keys::SUPER, lane, super_block)) {
            Ok(Some(bytes))
                if read_super(
                    &bytes,
                    &mut view.blocks,
                    &mut view.index_bytes,
                    super_block,
                    state.base,
                )
                .is_some() => {}
            Ok(_) | Err(StoreError::Corrupt { .. }) => {
                problems.push(format!(
                    "the summary of blocks {numbers:?} of lane {lane} is lost; it was made anew"
                ));
                numbers.for_each(|number| {
                    read_block(tree, lane, number, &mut view.blocks, None, problems)
                });
            }
            Err(error) => return Err(error),
        }
    }
    for number in (first_open * index::BLOCKS).max(state.base)..state.open {
        read_block(
            tree,
            lane,
            number,
            &mut view.blocks,
            Some(&mut view.hashes),
            problems,
        );
    }

    for item in tree.scan_prefix(keys::lane(keys::AMENDED, lane)) {
        let (key, flag) = item.map_err(StoreError::engine("reading which blocks were amended"))?;
        if let Some(number) = keys::block_of(&key) {
            // Empty is no; nothing that happens to a byte makes a yes a no.
            view.amended.insert(number, !flag.is_empty());
        }
    }

    Ok(state)
}

/// Rows of the open block, from the hot log and the frames that are written already.
fn open_block(
    tree: &Tree,
    lane: usize,
    state: LaneState,
    problems: &mut Vec<String>,
) -> Result<RecoveredLane> {
    let mut open = RecoveredLane {
        state,
        rows: Vec::new(),
        chunk: 0,
        frames: Vec::new(),
        framed: 0,
        old_log: false,
        pending: BTreeMap::new(),
    };
    let lost =
        || format!("a chunk of the newest rows of lane {lane} is damaged; its rows are lost");
    for item in value::scan(tree, &keys::block(keys::HOT_1, lane, state.open)) {
        let (_, bytes) = item?;
        open.old_log = true;
        match bytes.ok().and_then(|b| hot::read_chunk_1(&b)) {
            Some(placed) => open.rows.extend(placed.into_iter().map(Arc::new)),
            None => problems.push(lost()),
        }
    }
    let mut unsaved = hot::Unsaved::default();
    for item in value::scan(tree, &keys::block(keys::HOT, lane, state.open)) {
        let (_, bytes) = item?;
        open.chunk += 1;
        if bytes.ok().and_then(|b| unsaved.read(&b)).is_none() {
            problems.push(lost());
        }
    }
    let mut row = unsaved.rows.into_iter();
    let mut whole = open.rows.is_empty();
    for (place, frame) in unsaved.frames.iter().enumerate() {
        let read = find::frame(tree, lane, state.open, place as u16)
            .ok()
            .flatten()
            .filter(|read| read.rows() == frame.rows);
        if read.is_none() {
            whole = false;
            problems.push(format!(
                "a frame of the newest rows of lane {lane} is damaged; bodies of up to {} rows are lost",
                frame.rows
            ));
        }
        for (inside, (mut placed, with_body)) in row.by_ref().take(frame.rows).enumerate() {
            if !with_body {
                let Some(body) = read.as_ref().and_then(|f| f.body(inside)) else {
                    continue;
                };
                placed.entry.body = body.to_vec();
            }
            open.rows.push(Arc::new(placed));
        }
    }
    let framed = open.rows.len();
    for (placed, with_body) in row {
        whole &= with_body;
        if with_body {
            open.rows.push(Arc::new(placed));
        }
    }
    if whole {
        (open.frames, open.framed) = (unsaved.frames, framed);
    }
    Ok(open)
}

/// What a store of format 1 lacks: its amendments are named by the next block.
pub(crate) fn adopt(tree: &Tree) -> Result<()> {
    let mut batch = Batch::default();
    for key in tree.scan_prefix([keys::AMENDMENT]).keys() {
        let key = key.map_err(StoreError::engine("reading amendments"))?;
        let rest = key.get(1..).unwrap_or_default();
        batch.insert([&[keys::PENDING][..], rest].concat(), sled::IVec::default());
    }
    tree.apply_batch(batch)
        .and_then(|()| tree.flush())
        .map(drop)
        .map_err(StoreError::engine("taking over amendments"))
}

/// Amendments that no sealed block names yet.
fn pending(tree: &Tree, lane: usize) -> Result<BTreeMap<Vec<u8>, Hash>> {
    let mut out = BTreeMap::new();
    for key in tree.scan_prefix(keys::lane(keys::PENDING, lane)).keys() {
        let key = key.map_err(StoreError::engine("reading which amendments are new"))?;
        let name = key.get(2..).unwrap_or_default();
        let of = [&keys::lane(keys::AMENDMENT, lane)[..], name].concat();
        if let Ok(Some(bytes)) = value::get(tree, &of) {
            out.insert(name.to_vec(), value::hash(&of, &bytes));
        }
    }
    Ok(out)
}

/// First or last block with a meta.
fn edge(tree: &Tree, lane: usize, last: bool) -> Result<Option<u64>> {
    let mut items = tree.scan_prefix(keys::lane(keys::META, lane));
    while let Some(item) = if last {
        items.next_back()
    } else {
        items.next()
    } {
        let (key, value) = item.map_err(StoreError::engine("looking for blocks"))?;
        // Keys of blocks to come have no value.
        if !value.is_empty() {
            return Ok(keys::block_of(&key));
        }
    }
    Ok(None)
}

/// The state of a lane from its blocks, when the record of it is lost.
fn rebuild(tree: &Tree, lane: usize) -> Result<LaneState> {
    let (base, last) = (
        edge(tree, lane, false)?.unwrap_or(0),
        edge(tree, lane, true)?.unwrap_or(0),
    );
    let mut state = LaneState {
        base,
        open: last + 1,
        ..LaneState::default()
    };
    if let Ok(Some(meta)) = find::meta(tree, lane, base) {
        state.base_previous = meta.previous;
    }
    let key = keys::block(keys::META, lane, last);
    if let Ok(Some(bytes)) = value::get(tree, &key) {
        state.head = value::hash(&key, &bytes);
    }
    for number in (base..=last).rev().take(4) {
        if let Ok(Some(meta)) = find::meta(tree, lane, number) {
            state.next_seq = meta
                .seqs
                .iter()
                .map(|s| s + 1)
                .fold(state.next_seq, u64::max);
        }
    }
    Ok(state)
}

/// Summaries of a super-block: size of its indexes, then its blocks.
fn read_super(
    bytes: &[u8],
    into: &mut std::collections::VecDeque<BlockInfo>,
    sizes: &mut BTreeMap<u64, u64>,
    number: u64,
    base: u64,
) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let size = reader.uint()?;
    let mut infos = Vec::new();
    while !reader.is_empty() {
        infos.push(BlockInfo::read(&mut reader)?);
    }
    sizes.insert(number, size);
    // Retention may have taken the first of them.
    into.extend(infos.into_iter().filter(|info| info.number >= base));
    Some(())
}

fn read_block(
    tree: &Tree,
    lane: usize,
    number: u64,
    into: &mut std::collections::VecDeque<BlockInfo>,
    hashes: Option<&mut BTreeMap<u64, Arc<[u32]>>>,
    problems: &mut Vec<String>,
) {
    let bytes = value::get(tree, &keys::block(keys::META, lane, number))
        .ok()
        .flatten();
    let Some((meta, size)) = bytes.and_then(|b| {
        Some((
            Meta::read(&b).filter(|m| m.number == number)?,
            value::stored_len(&b),
        ))
    }) else {
        problems.push(format!("block {number} of lane {lane} cannot be read"));
        return;
    };
    into.push_back(meta.info(size));
    if let (Some(all), Some(mine)) = (hashes, meta.hashes()) {
        all.insert(number, mine.into());
    }
}

/// Ids of the newest blocks.
fn remember(
    tree: &Tree,
    lane: usize,
    live: &Live,
    activities: &mut Recent,
    others: &mut Recent,
) -> Result<()> {
    let blocks = &live[lane].blocks;
    let from = blocks.len().saturating_sub(BLOCKS as usize);
    let floor = if from == 0 {
        0
    } else {
        blocks.get(from).map_or(0, |info| info.number)
    };
    activities.raise(lane, floor);
    others.raise(lane, floor);
    for info in blocks.iter().skip(from) {
        let Ok(Some(meta)) = find::meta(tree, lane, info.number) else {
            continue;
        };
        for row in 0..meta.rows() {
            let recent = if meta.kinds[row] == Kind::Activity {
                &mut *activities
            } else {
                &mut *others
            };
            recent.insert(meta.kinds[row], meta.id(row), (lane, info.number));
        }
    }
    Ok(())
}

/// Makes the summary of a super-block, as [`recover`] reads it.
pub(crate) fn super_value(index_bytes: u64, blocks: impl Iterator<Item = BlockInfo>) -> Vec<u8> {
    let mut out = Vec::new();
    crate::wire::put_uint(&mut out, index_bytes);
    blocks.for_each(|info| info.put(&mut out));
    out
}

/// Writes summary and indexes of a super-block into the batch; returns the bytes of the indexes.
pub(crate) fn put_super(
    batch: &mut Batch,
    lane: usize,
    number: u64,
    blocks: &[BlockInfo],
    hashes: &BTreeMap<u64, Arc<[u32]>>,
) -> Result<u64> {
    let parts = index::build(
        hashes
            .iter()
            .map(|(block, hashes)| ((block % index::BLOCKS) as u8, &hashes[..])),
    );
    let mut bytes = 0;
    for (part, value) in parts.iter().enumerate() {
        bytes += value::put(batch, &keys::index(lane, part as u8, number), value)?.1;
    }
    let summary = super_value(bytes as u64, blocks.iter().copied());
    value::put(batch, &keys::block(keys::SUPER, lane, number), &summary)?;
    Ok(bytes as u64)
}
