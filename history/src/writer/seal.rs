//! From an open block to a sealed one, and from 64 of these to an index.

use std::sync::Arc;

use super::Writer;
use crate::block;
use crate::error::Result;
use crate::intake::lock;
use crate::{index, keys, recover, value};

impl Writer {
    /// Seals the open block of a lane.
    pub(super) fn seal(&mut self, number: usize) -> Result<()> {
        if self.lanes[number].rows.is_empty() {
            return Ok(());
        }
        self.reserve
            .ahead(&self.shared.db, number, self.lanes[number].state.open)?;
        self.frame(number)?;
        let lane = &mut self.lanes[number];
        let mut state = lane.state;
        let pending: Vec<_> = std::mem::take(&mut lane.pending).into_iter().collect();
        for (key, _) in &pending {
            self.batch
                .remove([&[keys::PENDING, number as u8][..], key].concat());
        }
        let refs = std::mem::take(&mut lane.frames);
        let sealed = block::seal(
            &mut self.packer,
            state.open,
            &state.head,
            &lane.rows,
            &refs,
            &lane.dictionary,
            &pending,
        )?;
        let (hash, bytes) = value::put(
            &mut self.batch,
            &keys::block(keys::META, number, state.open),
            &sealed.meta,
        )?;
        for (what, there) in [(keys::HOT, lane.chunk > 0), (keys::HOT_1, lane.old_log)] {
            if there {
                value::remove_range(
                    &self.shared.db,
                    &mut self.batch,
                    &keys::block(what, number, state.open),
                    &keys::block(what, number, state.open + 1),
                )?;
            }
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
        for frame in 0..refs.len() {
            value::settle(
                &self.shared.db,
                &keys::frame(number, info.number, frame as u16),
            );
        }
        value::settle(
            &self.shared.db,
            &keys::block(keys::META, number, info.number),
        );

        let lane = &mut self.lanes[number];
        (lane.state, lane.bytes, lane.chunk, lane.fresh) = (state, 0, 0, 0);
        (lane.saved, lane.saved_terms, lane.framed) = (0, 0, 0);
        (lane.born, lane.old_log) = (None, false);
        lane.rows.clear();
        lane.dictionary.clear();
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
