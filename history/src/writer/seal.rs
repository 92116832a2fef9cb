//! From an open block to a sealed one, and from 64 of these to an index.

use std::sync::Arc;

use super::Writer;
use crate::block::{self, FrameRef};
use crate::error::Result;
use crate::intake::lock;
use crate::{index, keys, recover, value};

impl Writer {
    /// Seals the open block of a lane.
    pub(super) fn seal(&mut self, number: usize) -> Result<()> {
        let lane = &mut self.lanes[number];
        if lane.rows.is_empty() {
            return Ok(());
        }
        let mut state = lane.state;
        let mut refs = Vec::new();
        for (place, (frame, rows)) in block::frames(&mut self.packer, &lane.rows)?
            .into_iter()
            .enumerate()
        {
            let key = keys::frame(number, state.open, place as u16);
            let (hash, bytes) = value::put(&mut self.batch, &key, &frame)?;
            refs.push(FrameRef { rows, bytes, hash });
        }
        let sealed = block::seal(&mut self.packer, state.open, &state.head, &lane.rows, &refs)?;
        let (hash, bytes) = value::put(
            &mut self.batch,
            &keys::block(keys::META, number, state.open),
            &sealed.meta,
        )?;
        for chunk in 0..lane.chunk {
            value::remove(
                &self.shared.db,
                &mut self.batch,
                &keys::hot(number, state.open, chunk),
            )?;
        }
        let info = block::BlockInfo {
            number: state.open,
            min_ms: sealed.min_ms,
            max_ms: sealed.max_ms,
            kinds: sealed.kinds,
            bytes: (bytes + refs.iter().map(|frame| frame.bytes).sum::<usize>()) as u64,
        };
        let hashes: Arc<[u32]> = sealed.hashes.into();
        state.open += 1;
        state.head = hash;
        state.next_seq = self.next_seq;
        value::put(
            &mut self.batch,
            &keys::lane(keys::LANE, number),
            &state.encode(),
        )?;

        let complete = state
            .open
            .is_multiple_of(index::BLOCKS)
            .then_some(info.number / index::BLOCKS);
        let mut index_bytes = 0;
        if let Some(super_block) = complete {
            let (mut blocks, mut all): (Vec<_>, _) = {
                let live = lock(&self.shared.live);
                let mine = live[number]
                    .blocks
                    .iter()
                    .filter(|b| b.number / index::BLOCKS == super_block);
                (mine.copied().collect(), live[number].hashes.clone())
            };
            blocks.push(info);
            all.insert(info.number, Arc::clone(&hashes));
            index_bytes = recover::put_super(&mut self.batch, number, super_block, &blocks, &all)?;
        }
        self.apply()?;

        let lane = &mut self.lanes[number];
        (
            lane.state, lane.bytes, lane.saved, lane.chunk, lane.born, lane.fresh,
        ) = (state, 0, 0, 0, None, 0);
        lane.rows.clear();
        let view = &mut lock(&self.shared.live)[number];
        view.blocks.push_back(info);
        view.open.clear();
        view.open_number = state.open;
        match complete {
            Some(super_block) => {
                view.hashes.clear();
                view.index_bytes.insert(super_block, index_bytes);
            }
            None => {
                view.hashes.insert(info.number, hashes);
            }
        }
        Ok(())
    }
}
