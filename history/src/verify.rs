//! Proves a store: every block there, in order, unchanged, and its indexes what they should be.
//!
//! Each meta holds the hash of the meta before it and of its own frames, and the lane's record the hash of the newest, so a block that was
//! changed, taken out or put elsewhere breaks the chain at its place. Indexes and summaries are made anew from the blocks and compared;
//! everything else carries a checksum of its own.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use sled::Tree;

use crate::block::{BlockInfo, Frame, Meta};
use crate::error::{Result, StoreError};
use crate::intake::lock;
use crate::lane::LaneState;
use crate::live::LANES;
use crate::shared::Shared;
use crate::value::{self, Hash};
use crate::{hot, index, keys, recover};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of the block, with its lane (0 activities, 1 alerts and theirs); `None` when it is no block's.
    pub block: Option<(usize, u64)>,
    /// Times that may be concerned, milliseconds since the epoch; `None` when not known.
    pub times: Option<(u64, u64)>,
    /// What is wrong.
    pub what: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blocks looked at.
    pub blocks: u64,
    /// Entries in them that are whole.
    pub entries: u64,
    /// What is wrong. Empty is good.
    pub problems: Vec<Problem>,
    /// The receiver of the progress ended it early.
    pub stopped: bool,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Blocks done.
    pub done: u64,
    /// Blocks in all.
    pub total: u64,
}

struct Check<'a> {
    shared: &'a Shared,
    tree: &'a Tree,
    report: VerifyReport,
    /// Amendments of the lane as the blocks name them, the newest.
    named: HashMap<Vec<u8>, Hash>,
}

/// Checks everything that is stored when it begins.
pub(crate) fn run(
    shared: &Shared,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<VerifyReport> {
    let mut check = Check {
        shared,
        tree: &shared.db,
        report: VerifyReport::default(),
        named: HashMap::new(),
    };
    for problem in lock(&shared.problems).iter() {
        check.report.problems.push(Problem {
            block: None,
            times: None,
            what: format!("at open: {problem}"),
        });
    }
    let states: Vec<LaneState> = (0..LANES)
        .map(|lane| check.state(lane))
        .collect::<Result<_>>()?;
    let total = states.iter().map(|s| s.open - s.base).sum();
    for (lane, state) in states.iter().enumerate() {
        check.chain(lane, state, &mut |done| progress(Progress { done, total }))?;
        if check.report.stopped {
            return Ok(check.report);
        }
        check.strays(lane, state)?;
        check.amendments(lane, state)?;
    }
    check.values()?;
    Ok(check.report)
}

impl Check<'_> {
    fn problem(
        &mut self,
        lane: usize,
        number: u64,
        times: Option<(u64, u64)>,
        what: impl Into<String>,
    ) {
        self.report.problems.push(Problem {
            block: Some((lane, number)),
            times,
            what: what.into(),
        });
    }

    fn state(&mut self, lane: usize) -> Result<LaneState> {
        let (blocks, open) = {
            let live = lock(&self.shared.live);
            (
                live[lane].blocks.front().map(|b| b.number),
                live[lane].open_number,
            )
        };
        let stored = match value::get(self.tree, &keys::lane(keys::LANE, lane)) {
            Ok(stored) => stored.and_then(|b| LaneState::read(&b)),
            Err(StoreError::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        match stored {
            // The writer may have sealed one more since we looked.
            Some(state) if state.open >= open && state.base <= state.open => Ok(state),
            Some(_) | None if open == 0 => Ok(LaneState::default()),
            _ => {
                self.problem(
                    lane,
                    open,
                    None,
                    "the record of where the lane begins and ends is damaged",
                );
                Ok(LaneState {
                    base: blocks.unwrap_or(open),
                    open,
                    ..LaneState::default()
                })
            }
        }
    }

    /// Is it gone because retention took it meanwhile?
    fn retired(&self, lane: usize, number: u64) -> bool {
        lock(&self.shared.live)[lane]
            .blocks
            .front()
            .is_none_or(|first| number < first.number)
    }

    fn known(&self, lane: usize, number: u64) -> Option<BlockInfo> {
        let live = lock(&self.shared.live);
        let place = live[lane]
            .blocks
            .binary_search_by_key(&number, |b| b.number)
            .ok()?;
        live[lane].blocks.get(place).copied()
    }

    fn chain(
        &mut self,
        lane: usize,
        state: &LaneState,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<()> {
        // `None` behind a block that cannot be read: the link to the next is unknown then, and was reported.
        let mut expected = Some(state.base_previous);
        let mut last_ms = None;
        let (mut infos, mut hashes): (Vec<BlockInfo>, BTreeMap<u64, Arc<[u32]>>) =
            Default::default();
        for number in state.base..state.open {
            let read = self.meta(lane, number)?;
            let whole = match read {
                Ok((meta, hash, info)) => {
                    let times = Some((info.min_ms, info.max_ms));
                    if expected.is_some_and(|hash| hash != meta.previous)
                        && !self.retired(lane, number)
                    {
                        self.problem(
                            lane,
                            number,
                            times,
                            "the block before it is not the one that was there when it was written",
                        );
                    }
                    expected = Some(hash);
                    last_ms = Some(info.max_ms);
                    self.frames(lane, &meta, times)?;
                    self.named.extend(meta.amendments.iter().cloned());
                    infos.push(info);
                    meta.hashes()
                        .map(|mine| hashes.insert(number, mine.into()))
                        .is_some()
                }
                Err(what) => {
                    expected = None;
                    if !self.retired(lane, number) {
                        let known = self.known(lane, number).map(|b| (b.min_ms, b.max_ms));
                        let until = || self.known(lane, number + 1).map(|b| b.min_ms);
                        let times = known.or_else(|| last_ms.zip(until()));
                        self.problem(lane, number, times, what);
                    }
                    false
                }
            };
            self.report.blocks += 1;
            if number % index::BLOCKS == index::BLOCKS - 1 {
                // A super-block with a damaged block was reported already, and its index cannot be made anew.
                let complete =
                    infos.len() as u64 == index::BLOCKS.min(number + 1 - state.base) && whole;
                if complete && infos.len() as u64 == index::BLOCKS {
                    self.index(lane, number / index::BLOCKS, &infos, &hashes)?;
                }
                infos.clear();
                hashes.clear();
            }
            if progress(self.report.blocks).is_break() {
                self.report.stopped = true;
                return Ok(());
            }
        }
        if state.open > state.base && expected.is_some_and(|hash| hash != state.head) {
            self.problem(
                lane,
                state.open - 1,
                None,
                "the newest block is not the one that was written",
            );
        }
        Ok(())
    }

    #[allow(clippy::type_complexity)]
    fn meta(
        &self,
        lane: usize,
        number: u64,
    ) -> Result<std::result::Result<(Meta, Hash, BlockInfo), String>> {
        let key = keys::block(keys::META, lane, number);
        Ok(match value::get(self.tree, &key) {
            Ok(None) => Err("the block is missing".to_owned()),
            Ok(Some(bytes)) => match Meta::read(&bytes).filter(|meta| meta.number == number) {
                Some(meta) => {
                    let info = meta.info(value::stored_len(&bytes));
                    Ok((meta, value::hash(&key, &bytes), info))
                }
                None => Err("the block's directory cannot be read".to_owned()),
            },
            Err(StoreError::Corrupt { what, .. }) => {
                Err(format!("the block's directory is damaged: {what}"))
            }
            Err(error) => return Err(error),
        })
    }

    fn frames(&mut self, lane: usize, meta: &Meta, times: Option<(u64, u64)>) -> Result<()> {
        for (place, frame) in meta.frames.iter().enumerate() {
            let key = keys::frame(lane, meta.number, place as u16);
            value::settle(self.tree, &key);
            let what = match value::get(self.tree, &key) {
                Ok(Some(bytes)) if value::hash(&key, &bytes) != frame.hash => "was changed",
                Ok(Some(bytes)) => match Frame::read(&bytes) {
                    Some(read) if read.rows() == frame.rows => {
                        self.report.entries += frame.rows as u64;
                        continue;
                    }
                    _ => "cannot be read",
                },
                Ok(None) if self.retired(lane, meta.number) => return Ok(()),
                Ok(None) => "is missing",
                Err(StoreError::Corrupt { .. }) => "is damaged",
                Err(error) => return Err(error),
            };
            self.problem(
                lane,
                meta.number,
                times,
                format!("frame {place} of the block {what}"),
            );
        }
        Ok(())
    }

    fn index(
        &mut self,
        lane: usize,
        number: u64,
        infos: &[BlockInfo],
        hashes: &BTreeMap<u64, Arc<[u32]>>,
    ) -> Result<()> {
        if self.retired(lane, infos.first().map_or(0, |b| b.number)) {
            return Ok(());
        }
        let times = infos
            .iter()
            .map(|b| b.min_ms)
            .min()
            .zip(infos.iter().map(|b| b.max_ms).max());
        let first = number * index::BLOCKS;
        let parts = index::build(
            hashes
                .iter()
                .map(|(block, hashes)| ((block % index::BLOCKS) as u8, &hashes[..])),
        );
        let mut bytes = 0;
        for (part, expected) in parts.iter().enumerate() {
            bytes += value::stored_len(expected) as u64;
            let stored = value::get(self.tree, &keys::index(lane, part as u8, number))
                .ok()
                .flatten();
            if stored.as_deref() != Some(&expected[..]) {
                self.problem(
                    lane,
                    first,
                    times,
                    format!("part {part} of the index of 64 blocks is not what their terms say"),
                );
            }
        }
        let stored = value::get(self.tree, &keys::block(keys::SUPER, lane, number))
            .ok()
            .flatten();
        if stored.as_deref() != Some(&recover::super_value(bytes, infos.iter().copied())[..]) {
            self.problem(
                lane,
                first,
                times,
                "the summary of 64 blocks is not what they say",
            );
        }
        Ok(())
    }

    /// Every amendment must be what the newest block that names it says, or be too new to be named.
    fn amendments(&mut self, lane: usize, state: &LaneState) -> Result<()> {
        let mut named = std::mem::take(&mut self.named);
        let prefix = keys::lane(keys::AMENDMENT, lane);
        let mut stored = HashMap::new();
        for item in value::scan(self.tree, &prefix) {
            let (key, bytes) = item?;
            // Damage is reported with the values.
            let hash = bytes.ok().map(|bytes| value::hash(&key, &bytes));
            stored.insert(key.get(2..).unwrap_or_default().to_vec(), hash);
        }
        // What came since we began.
        let open = lock(&self.shared.live)[lane].open_number;
        for number in state.open..open {
            if let Ok((meta, _, _)) = self.meta(lane, number)? {
                named.extend(meta.amendments);
            }
        }
        // A store of format 1 named none: those are only as sure as their own checksums.
        let old = |key: &[u8]| !named.contains_key(key) && !self.names_amendments(lane, state);
        let mut wrong: Vec<(Vec<u8>, &str)> = Vec::new();
        for (key, hash) in &stored {
            let differs = hash.is_some_and(|hash| named.get(key) != Some(&hash));
            if differs && !old(key) && !self.is_new(lane, key, &named)? {
                wrong.push((key.clone(), "an amendment is not what was written"));
            }
        }
        for key in named.keys().filter(|key| !stored.contains_key(*key)) {
            let number = key.get(..8).and_then(|b| b.try_into().ok());
            let number = number.map_or(0, u64::from_be_bytes);
            let kept = number >= state.base && !self.retired(lane, number);
            if kept && !self.is_new(lane, key, &named)? {
                wrong.push((key.clone(), "an amendment is missing"));
            }
        }
        for (key, what) in wrong {
            let number = key.get(..8).and_then(|b| b.try_into().ok());
            let number = number.map_or(0, u64::from_be_bytes);
            let times = self.known(lane, number).map(|b| (b.min_ms, b.max_ms));
            self.problem(lane, number, times, what);
        }
        Ok(())
    }

    /// Does no block of the lane name amendments, because all are of format 1?
    fn names_amendments(&self, lane: usize, state: &LaneState) -> bool {
        let last = state.open.checked_sub(1).filter(|n| *n >= state.base);
        last.is_some_and(|number| {
            value::get(self.tree, &keys::block(keys::META, lane, number))
                .ok()
                .flatten()
                .is_some_and(|bytes| bytes.first().is_some_and(|layout| *layout > 1))
        })
    }

    /// Was the amendment written after the newest block that was looked at, or again while we looked?
    fn is_new(&self, lane: usize, key: &[u8], named: &HashMap<Vec<u8>, Hash>) -> Result<bool> {
        let of = |what: u8| [&keys::lane(what, lane)[..], key].concat();
        let pending = self
            .tree
            .contains_key(of(keys::PENDING))
            .map_err(StoreError::engine("reading which amendments are new"))?;
        let key = of(keys::AMENDMENT);
        let now = match value::get(self.tree, &key) {
            Ok(bytes) => bytes.map(|bytes| value::hash(&key, &bytes)),
            Err(_) => None,
        };
        let key = key.get(2..).unwrap_or_default();
        Ok((pending && now.is_some()) || (now.is_some() && now.as_ref() == named.get(key)))
    }

    /// Blocks where none should be, and hot rows of blocks that are sealed.
    fn strays(&mut self, lane: usize, state: &LaneState) -> Result<()> {
        let ranges = [
            (
                keys::HOT_1,
                state.open,
                "rows of a sealed block lie in the old hot log, too",
            ),
            (keys::META, state.base, "a block lies before the first one"),
            (keys::FRAME, state.base, "rows lie before the first block"),
            (
                keys::HOT,
                state.open,
                "rows of a sealed block lie in the hot log, too",
            ),
        ];
        for (what, behind, problem) in ranges {
            let range = keys::lane(what, lane)..keys::block(what, lane, behind);
            let stray = self
                .tree
                .range(range)
                .find(|item| item.as_ref().map_or(true, |(_, value)| !value.is_empty()))
                .transpose();
            if let Some((key, _)) = stray.map_err(StoreError::engine("looking for stray blocks"))? {
                let number = keys::block_of(&key).unwrap_or(0);
                if [keys::HOT, keys::HOT_1].contains(&what) || !self.retired(lane, number) {
                    self.problem(lane, number, None, problem);
                }
            }
        }
        Ok(())
    }

    /// Values with nothing but their own checksum, and parts that belong to nothing are left to these.
    fn values(&mut self) -> Result<()> {
        let names = [
            (keys::HOT_1, "a chunk of the newest rows"),
            (keys::HOT, "a chunk of the newest rows"),
            (keys::AMENDMENT, "an amendment"),
            (keys::COMMIT, "the number of the last commit"),
            (keys::COUNTER, "a counter"),
            (keys::AREA, "a value of an area"),
            (keys::QUEUE, "an item of a queue"),
        ];
        for (what, name) in names {
            for item in value::scan(self.tree, &[what]) {
                let (key, bytes) = item?;
                let good = match bytes {
                    Ok(bytes) if what == keys::HOT_1 => hot::read_chunk_1(&bytes).is_some(),
                    Ok(bytes) if what == keys::AMENDMENT => hot::Change::read(&bytes).is_some(),
                    Ok(_) => true,
                    // The writer may have taken it out between key and parts.
                    Err(_) => value::get(self.tree, &key).is_ok_and(|v| v.is_none()),
                };
                if !good {
                    let block = [keys::HOT_1, keys::HOT, keys::AMENDMENT]
                        .contains(&what)
                        .then(|| keys::block_of(&key))
                        .flatten();
                    let lane = key.get(1).map_or(0, |lane| usize::from(*lane));
                    let what = format!("{name} is damaged");
                    self.report.problems.push(Problem {
                        block: block.map(|n| (lane, n)),
                        times: None,
                        what,
                    });
                }
            }
        }
        Ok(())
    }
}
