//! The writer thread: the only one that changes the tree.
//!
//! It takes everything from the intake, tells repeats from what is new, puts rows into the open block of their lane and seals it when it is
//! full. Within [`COMMIT`] of the oldest row that is not durable, the rows of the open blocks go into the hot log, everything is flushed,
//! and only then is it acknowledged. A block that fills within that time never touches the hot log. One batch for everything that belongs
//! together: a sealed block, the removal of its hot log, the lane's new end, and the super-block that it completes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sled::Batch;

use crate::block::{self, FrameRef, MOST_ROWS, Packer, Placed};
use crate::entry::{Entry, Kind, Row};
use crate::error::{Result, StoreError, Why};
use crate::find;
use crate::hot::{self, Change};
use crate::intake::{Amendment, Command, lock};
use crate::lane::LaneState;
use crate::live::{self, FINDINGS, LANES};
use crate::recent::{Recent, Spot};
use crate::recover::{self, Recovered};
use crate::shared::{Shared, now_ms};
use crate::sync::Syncer;
use crate::ticket::Promise;
use crate::{index, keys, retention, snapshot, terms, value};

/// A row is durable at most this long after it was taken in, and the time of a flush.
const COMMIT: Duration = Duration::from_millis(180);
/// A block is sealed when its rows take this much memory.
const BLOCK_BYTES: usize = 3 << 20;
/// How often room on the disk is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The open block of a lane.
struct Lane {
    state: LaneState,
    rows: Vec<Arc<Placed>>,
    bytes: usize,
    /// Rows that are in the hot log already.
    saved: usize,
    chunk: u32,
    /// When its first row came.
    born: Option<Instant>,
    /// Rows that readers do not see yet.
    fresh: usize,
    /// Up to which block, and how late, the blocks go whose ids are not in memory.
    older: (u64, u64),
}

/// State of the thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    syncer: Syncer,
    packer: Packer,
    batch: Batch,
    /// Amendments in the batch, so that a second one of the same row builds on the first.
    amended: std::collections::HashMap<Vec<u8>, Change>,
    lanes: [Lane; LANES],
    next_seq: u64,
    activities: Recent,
    others: Recent,
    promises: Vec<Promise>,
    processed: u64,
    dirty: Option<Instant>,
    looked: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, syncer: Syncer, recovered: Recovered) -> Result<Self> {
        let lanes = recovered.lanes.map(|lane| Lane {
            state: lane.state,
            bytes: lane.rows.iter().map(|row| row.entry.weight()).sum(),
            saved: lane.rows.len(),
            chunk: lane.chunk,
            born: (!lane.rows.is_empty()).then(Instant::now),
            fresh: 0,
            rows: lane.rows,
            older: (0, 0),
        });
        Ok(Self {
            shared,
            syncer,
            packer: Packer::new()?,
            batch: Batch::default(),
            amended: Default::default(),
            lanes,
            next_seq: recovered.next_seq,
            activities: recovered.activities,
            others: recovered.others,
            promises: Vec::new(),
            processed: 0,
            dirty: None,
            looked: None,
        })
    }

    /// Runs until closed. An error ends it: what was acknowledged is safe, and nothing more is taken.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work()));
        // What was promised and not kept is refused when the promises fall with `self`.
        match result {
            Ok(Ok(())) => shared.end(Why::Closed, &StoreError::Closed),
            Ok(Err(error)) => shared.fail(&error.to_string()),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let text = text
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                shared.fail(&format!("the storage engine panicked: {text}"));
            }
        }
    }

    fn work(&mut self) -> Result<()> {
        let mut commands = VecDeque::new();
        loop {
            self.shared
                .intake
                .take(&mut commands, self.dirty.map(|since| since + COMMIT));
            let mut urgent = false;
            while let Some(command) = commands.pop_front() {
                self.dirty.get_or_insert_with(Instant::now);
                match command {
                    Command::Append(entry, promise) => {
                        self.admit(entry)?;
                        self.processed += 1;
                        urgent |= promise.is_some();
                        self.promises.extend(promise);
                    }
                    Command::Amend(amendment, promise) => {
                        self.amend(amendment)?;
                        self.processed += 1;
                        urgent |= promise.is_some();
                        self.promises.extend(promise);
                    }
                    Command::Put(changes, promise) => {
                        for (key, change) in changes {
                            value::remove(&self.shared.db, &mut self.batch, &key)?;
                            if let Some(bytes) = change {
                                value::put(&mut self.batch, &key, &bytes)?;
                            }
                        }
                        urgent = true;
                        self.promises.push(promise);
                    }
                    Command::Flush(promise) => {
                        urgent = true;
                        self.promises.push(promise);
                    }
                    Command::Enforce(now, promise) => {
                        self.commit()?;
                        promise.keep(Ok(self.enforce(now)?));
                    }
                    Command::Snapshot(dir, promise) => {
                        self.commit()?;
                        // A copy that fails is the caller's trouble, not the store's.
                        promise.keep(snapshot::begin(&self.shared, &dir));
                    }
                    Command::Close(seal) => return self.close(seal),
                }
            }
            self.show();
            if urgent || self.dirty.is_some_and(|since| since.elapsed() >= COMMIT) {
                self.commit()?;
            }
            if !self.shared.options.read_only && self.looked.is_none_or(|at| at.elapsed() >= LOOK) {
                self.looked = Some(Instant::now());
                self.look()?;
            }
        }
    }

    /// Takes in one entry: a repeat is counted, a later state amends, anything else is a new row.
    fn admit(&mut self, entry: Entry) -> Result<()> {
        if let Some(spot) = self.spot_of(entry.kind, &entry.id, Some(entry.time_ms))? {
            if entry.kind == Kind::Activity {
                self.shared
                    .counts
                    .duplicates
                    .fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            self.shared
                .counts
                .superseded
                .fetch_add(1, Ordering::Relaxed);
            return self.put_change(
                spot,
                entry.kind,
                &entry.id,
                Change {
                    terms: entry.terms,
                    body: Some(entry.body),
                },
            );
        }
        if entry.terms.len() > terms::MOST {
            let cut = (entry.terms.len() - terms::MOST) as u64;
            self.shared
                .counts
                .terms_cut
                .fetch_add(cut, Ordering::Relaxed);
        }
        let lane = live::lane_of(&entry);
        let number = self.lanes[lane].state.open;
        let recent = if entry.kind == Kind::Activity {
            &mut self.activities
        } else {
            &mut self.others
        };
        recent.insert(entry.kind, entry.id.as_bytes(), (lane, number));
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.shared.subscribers.any() {
            self.shared.subscribers.send(&Arc::new(Row {
                kind: entry.kind,
                time_ms: entry.time_ms,
                id: entry.id.clone(),
                body: entry.body.clone(),
                seq,
            }));
        }
        let open = &mut self.lanes[lane];
        open.born.get_or_insert_with(Instant::now);
        open.bytes += entry.weight();
        open.rows.push(Arc::new(Placed { seq, entry }));
        open.fresh += 1;
        if open.rows.len() >= self.shared.options.block_rows.clamp(1, MOST_ROWS)
            || open.bytes >= BLOCK_BYTES
        {
            self.seal(lane)?;
        }
        Ok(())
    }

    /// Where the row with this id is. The newest ids are in memory; older blocks are asked only if one of them can have it.
    fn spot_of(&mut self, kind: Kind, id: &str, time_ms: Option<u64>) -> Result<Option<Spot>> {
        let recent = if kind == Kind::Activity {
            &self.activities
        } else {
            &self.others
        };
        if let Some(spot) = recent.get(kind, id.as_bytes()) {
            return Ok(Some(spot));
        }
        // Only an activity is sure to come with its own time again.
        let time_ms = time_ms.filter(|_| kind == Kind::Activity);
        let mut blocks = Vec::new();
        for lane in if kind == Kind::Activity {
            0..LANES
        } else {
            FINDINGS..LANES
        } {
            let floor = recent.floor(lane);
            if floor <= self.lanes[lane].state.base {
                continue;
            }
            let live = lock(&self.shared.live);
            let (until, latest) = &mut self.lanes[lane].older;
            if *until < floor {
                let new = live[lane]
                    .blocks
                    .iter()
                    .filter(|b| b.number >= *until && b.number < floor);
                *latest = new.map(|b| b.max_ms).fold(*latest, u64::max);
                *until = floor;
            }
            if time_ms.is_some_and(|time| time > *latest) {
                continue;
            }
            blocks.extend(live::blocks(&live, |of, info| {
                of == lane
                    && info.number < floor
                    && info.kinds[kind.index()] > 0
                    && time_ms.is_none_or(|time| info.min_ms <= time && time <= info.max_ms)
            }));
        }
        let found = find::locate(
            &self.shared.db,
            blocks.into_iter().rev().collect(),
            kind,
            id,
        )?;
        Ok(found.map(|found| (found.seen.lane, found.seen.info.number)))
    }

    fn amend(&mut self, amendment: Amendment) -> Result<()> {
        let Amendment {
            kind,
            id,
            time_ms,
            terms,
            body,
        } = amendment;
        let mut spot = self.spot_of(kind, &id, Some(time_ms))?;
        if spot.is_none() && kind == Kind::Activity {
            // The time given was not the entry's own.
            spot = self.spot_of(kind, &id, None)?;
        }
        match spot {
            Some(spot) => self.put_change(spot, kind, &id, Change { terms, body }),
            // Nothing to amend: better kept than lost.
            None => self.admit(Entry {
                kind,
                time_ms,
                id,
                terms,
                body: body.unwrap_or_default(),
            }),
        }
    }

    /// Puts a later state beside its row. Terms gather, the body is the latest.
    fn put_change(
        &mut self,
        (lane, number): Spot,
        kind: Kind,
        id: &str,
        mut change: Change,
    ) -> Result<()> {
        let key = keys::amendment(lane, number, kind as u8, id);
        let before = match self.amended.remove(&key) {
            Some(before) => Some(before),
            None => find::change(&self.shared.db, lane, number, kind, id).unwrap_or_default(),
        };
        if let Some(before) = before {
            let new = std::mem::replace(&mut change.terms, before.terms);
            for term in new {
                if !change.terms.contains(&term) {
                    change.terms.push(term);
                }
            }
            change.body = change.body.or(before.body);
        }
        change.terms.truncate(terms::MOST);
        value::remove(&self.shared.db, &mut self.batch, &key)?;
        value::put(&mut self.batch, &key, &change.encode(&mut self.packer)?)?;
        let flag = lock(&self.shared.live)[lane].amended.get(&number).copied();
        let brings = flag == Some(true) || !change.terms.is_empty();
        if flag != Some(brings) {
            let flag: &[u8] = if brings { b"terms" } else { b"" };
            self.batch
                .insert(keys::block(keys::AMENDED, lane, number), flag);
        }
        self.amended.insert(key, change);
        // The tree first: a reader that hears of an amendment finds it.
        self.apply()?;
        lock(&self.shared.live)[lane].amended.insert(number, brings);
        Ok(())
    }

    /// Puts the batch into the tree, where readers see it. It is not durable yet.
    fn apply(&mut self) -> Result<()> {
        self.amended.clear();
        let batch = std::mem::take(&mut self.batch);
        self.shared
            .db
            .apply_batch(batch)
            .map_err(StoreError::engine("writing"))
    }

    /// Lets readers see the new rows of the open blocks.
    fn show(&mut self) {
        if self.lanes.iter().all(|lane| lane.fresh == 0) {
            return;
        }
        let mut live = lock(&self.shared.live);
        for (lane, view) in self.lanes.iter_mut().zip(live.iter_mut()) {
            view.open
                .extend(lane.rows[lane.rows.len() - lane.fresh..].iter().cloned());
            lane.fresh = 0;
        }
    }

    /// Makes everything durable that was taken in, and says so.
    fn commit(&mut self) -> Result<()> {
        self.show();
        for number in 0..LANES {
            let lane = &mut self.lanes[number];
            if lane.saved == lane.rows.len() {
                continue;
            }
            if lane
                .born
                .is_some_and(|born| born.elapsed() >= self.shared.options.seal_after)
            {
                self.seal(number)?;
                continue;
            }
            let chunk = hot::chunk(&mut self.packer, &lane.rows[lane.saved..])?;
            value::put(
                &mut self.batch,
                &keys::hot(number, lane.state.open, lane.chunk),
                &chunk,
            )?;
            lane.chunk += 1;
            lane.saved = lane.rows.len();
        }
        self.apply()?;
        let began = Instant::now();
        self.shared
            .db
            .flush()
            .map_err(StoreError::engine("flushing"))?;
        let counts = &self.shared.counts;
        counts
            .flush_us
            .store(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        counts.last_flush_ms.store(now_ms(), Ordering::Relaxed);
        counts.acknowledged.store(self.processed, Ordering::Release);
        self.promises
            .drain(..)
            .for_each(|promise| promise.keep(Ok(())));
        self.dirty = None;
        self.syncer.dirty();
        Ok(())
    }

    /// Seals the open block of a lane.
    fn seal(&mut self, number: usize) -> Result<()> {
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

    fn enforce(&mut self, now: u64) -> Result<retention::Retention> {
        let mut done = retention::Retention::default();
        while let Some((lane, super_block)) = retention::next(&self.shared, now) {
            let state = &mut self.lanes[lane].state;
            let dropped = retention::drop_super(&self.shared, lane, super_block, state)?;
            self.lanes[lane].older = (0, 0);
            done.add(dropped);
        }
        if done.blocks > 0 {
            self.dirty.get_or_insert_with(Instant::now);
            self.commit()?;
        }
        Ok(done)
    }

    /// Looks at the room on the disk. The file does not shrink, but what is taken out of it is written over; so the oldest goes first, and
    /// when that is not enough nothing is taken until there is room.
    fn look(&mut self) -> Result<()> {
        let Some(free) = retention::free_bytes(&self.shared.dir) else {
            return Ok(());
        };
        let least = self.shared.options.min_free_bytes;
        if free < least
            && let Some((lane, super_block)) = retention::oldest(&self.shared)
        {
            let dropped = retention::drop_super(
                &self.shared,
                lane,
                super_block,
                &mut self.lanes[lane].state,
            )?;
            tracing::warn!(
                free,
                blocks = dropped.blocks,
                "the disk is nearly full: the oldest history was dropped"
            );
            self.lanes[lane].older = (0, 0);
            self.dirty.get_or_insert_with(Instant::now);
        }
        self.shared
            .intake
            .pause((free < least / 2).then_some(Why::DiskFull));
        Ok(())
    }

    fn close(&mut self, seal: bool) -> Result<()> {
        if self.shared.options.read_only {
            return Ok(());
        }
        if seal {
            (0..LANES).try_for_each(|lane| self.seal(lane))?;
        }
        // First let go whoever holds the counters while it waits for a lease.
        self.commit()?;
        for (name, (next, limit)) in lock(&self.shared.counters).iter_mut() {
            value::put(
                &mut self.batch,
                &keys::named(keys::COUNTER, name, &[]),
                &next.to_be_bytes(),
            )?;
            // The lease ends here: what is written is what the next open begins with.
            *limit = *next;
        }
        self.commit()?;
        self.syncer.sync_now()
    }
}
