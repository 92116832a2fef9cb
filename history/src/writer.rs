//! The writer thread: the only one that changes the tree.
//!
//! It takes everything from the intake, tells repeats from what is new, puts rows into the open block of their lane and seals it when it is
//! full. Within [`COMMIT`] of the oldest row that is not durable, the rows of the open blocks go into the hot log, everything is flushed,
//! and only then is it acknowledged. A block that fills within that time never touches the hot log. One batch for everything that belongs
//! together: a sealed block, the removal of its hot log, the lane's new end, and the super-block that it completes.

mod admit;
mod seal;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sled::Batch;

use crate::block::{self, FrameRef, Packer, Placed};
use crate::dictionary::Dictionary;
use crate::error::{Result, StoreError, Why};
use crate::hot::{self, Change};
use crate::intake::{Command, lock};
use crate::lane::LaneState;
use crate::live::{EVENTS, LANES, LaneView};
use crate::recent::Recent;
use crate::recover::Recovered;
use crate::reserve::Reserve;
use crate::shared::{Shared, now_ms};
use crate::sync::Syncer;
use crate::tail::Tail;
use crate::ticket::Promise;
use crate::value::Hash;
use crate::{keys, manifest, retention, snapshot, value};

/// A row is durable at most this long after it was taken in, and the time of a flush.
const COMMIT: Duration = Duration::from_millis(180);
/// Rows from which on a commit makes a frame of them; fewer would compress badly.
const FRAME_LEAST: usize = 64;
/// How often the room on the disk is looked at: what is written between two looks must fit into what was left at the first.
const LOOK: Duration = Duration::from_millis(50);

/// The open block of a lane.
struct Lane {
    state: LaneState,
    rows: Vec<Arc<Placed>>,
    bytes: usize,
    /// Terms of the rows.
    dictionary: Dictionary,
    /// Rows, and terms of the dictionary, that are in the hot log already.
    saved: usize,
    saved_terms: usize,
    chunk: u32,
    /// Frames that are written already, and how many rows are in them.
    frames: Vec<FrameRef>,
    framed: usize,
    /// Rows lie in the hot log of format 1, too.
    old_log: bool,
    /// Amendments that no sealed block names yet: key behind letter and lane, and hash.
    pending: BTreeMap<Vec<u8>, Hash>,
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
    amended: HashMap<Vec<u8>, Change>,
    reserve: Reserve,
    lanes: [Lane; LANES],
    next_seq: u64,
    activities: Recent,
    others: Recent,
    promises: Vec<Promise>,
    processed: u64,
    /// Number of the last commit, and where it is noted.
    commit: u64,
    tail: Option<Tail>,
    dirty: Option<Instant>,
    looked: Option<Instant>,
    /// While the disk is nearly full: bytes of values at which the next super-block goes.
    recycle_at: u64,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, syncer: Syncer, recovered: Recovered) -> Result<Self> {
        let lanes = recovered.lanes.map(|lane| {
            let mut dictionary = Dictionary::new();
            lane.rows
                .iter()
                .for_each(|row| dictionary.add(&row.entry.terms));
            Lane {
                state: lane.state,
                bytes: lane.rows.iter().map(|row| row.entry.weight()).sum(),
                // They are saved anew: the numbers of the terms may be others where something was damaged.
                saved: 0,
                saved_terms: 0,
                dictionary,
                chunk: lane.chunk,
                frames: lane.frames,
                framed: lane.framed,
                old_log: lane.old_log,
                pending: lane.pending,
                born: (!lane.rows.is_empty()).then(Instant::now),
                fresh: 0,
                rows: lane.rows,
                older: (0, 0),
            }
        });
        let reserve = if shared.options.read_only {
            Reserve::default()
        } else {
            Reserve::find(&shared.db)?
        };
        let tail = if shared.options.read_only {
            None
        } else {
            Some(Tail::open(&shared.dir)?)
        };
        Ok(Self {
            commit: recovered.commit,
            tail,
            shared,
            syncer,
            packer: Packer::new()?,
            batch: Batch::default(),
            amended: HashMap::new(),
            reserve,
            lanes,
            next_seq: recovered.next_seq,
            activities: recovered.activities,
            others: recovered.others,
            promises: Vec::new(),
            processed: 0,
            dirty: None,
            looked: None,
            recycle_at: 0,
        })
    }

    /// Runs until closed. An error ends it: what was acknowledged is safe, and nothing more is taken.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work()));
        let error = match result {
            Ok(Ok(())) => return shared.end(Why::Closed, &StoreError::Closed),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                format!("the storage engine panicked: {}", text.unwrap_or_default())
            }
        };
        shared.fail(&error);
        for promise in self.promises {
            promise.keep(Err(StoreError::Failed(error.clone())));
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
                let since = *self.dirty.get_or_insert_with(Instant::now);
                // A long queue does not put off what stands at its front.
                if commands.len().is_multiple_of(256) && since.elapsed() >= COMMIT {
                    self.commit()?;
                    self.dirty = Some(Instant::now());
                }
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
                        // A change of the same key behind it must find the parts of this one, to take them out.
                        self.apply()?;
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
                    Command::Prune(before, findings, promise) => {
                        self.commit()?;
                        promise.keep(Ok(self.prune(before, findings)?));
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
            self.save(number)?;
        }
        self.commit += 1;
        let number = self.commit.to_be_bytes();
        value::put(&mut self.batch, &[keys::COMMIT], &number)?;
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
        if let Some(tail) = &self.tail {
            tail.note(self.commit, now_ms())?;
        }
        counts.acknowledged.store(self.processed, Ordering::Release);
        self.promises
            .drain(..)
            .for_each(|promise| promise.keep(Ok(())));
        self.dirty = None;
        self.syncer.dirty();
        Ok(())
    }

    /// Puts the rows of an open block that are not in the hot log into it, and their bodies into frames where they are enough.
    fn save(&mut self, number: usize) -> Result<()> {
        if self.lanes[number].rows.len() - self.lanes[number].framed >= FRAME_LEAST {
            self.frame(number)?;
        }
        let lane = &mut self.lanes[number];
        if std::mem::take(&mut lane.old_log) {
            let (from, to) = (lane.state.open, lane.state.open + 1);
            value::remove_range(
                &self.shared.db,
                &mut self.batch,
                &keys::block(keys::HOT_1, number, from),
                &keys::block(keys::HOT_1, number, to),
            )?;
        }
        if lane.saved == 0 && lane.chunk > 0 {
            value::remove_range(
                &self.shared.db,
                &mut self.batch,
                &keys::block(keys::HOT, number, lane.state.open),
                &keys::block(keys::HOT, number, lane.state.open + 1),
            )?;
            lane.chunk = 0;
        }
        let chunk = hot::chunk(
            &mut self.packer,
            &hot::Saved {
                rows: &lane.rows,
                dictionary: &lane.dictionary,
                from: lane.saved,
                terms: lane.saved_terms,
                frames: &lane.frames,
                framed: lane.framed,
            },
        )?;
        let key = keys::hot(number, lane.state.open, lane.chunk);
        value::put(&mut self.batch, &key, &chunk)?;
        lane.chunk += 1;
        (lane.saved, lane.saved_terms) = (lane.rows.len(), lane.dictionary.len());
        Ok(())
    }

    /// Puts the rows of an open block that are in no frame yet into frames.
    fn frame(&mut self, number: usize) -> Result<()> {
        let lane = &mut self.lanes[number];
        for (frame, rows) in block::frames(&mut self.packer, &lane.rows[lane.framed..])? {
            let key = keys::frame(number, lane.state.open, lane.frames.len() as u16);
            let (hash, bytes) = value::put(&mut self.batch, &key, &frame)?;
            lane.frames.push(FrameRef { rows, bytes, hash });
        }
        lane.framed = lane.rows.len();
        Ok(())
    }

    fn enforce(&mut self, now: u64) -> Result<retention::Retention> {
        let mut done = retention::Retention::default();
        while let Some((lane, to)) = retention::next(&self.shared, now) {
            done.add(self.drop_before(lane, to)?);
        }
        self.dropped(done)
    }

    fn prune(&mut self, before: u64, findings: bool) -> Result<retention::Retention> {
        let mut done = retention::Retention::default();
        for lane in 0..if findings { LANES } else { EVENTS + 1 } {
            while let Some(to) = retention::older(&self.shared, lane, before, u64::MAX) {
                done.add(self.drop_before(lane, to)?);
            }
        }
        self.dropped(done)
    }

    fn drop_before(&mut self, lane: usize, to: u64) -> Result<retention::Retention> {
        let state = &mut self.lanes[lane].state;
        let dropped = retention::drop_before(&self.shared, lane, to, state)?;
        self.lanes[lane].older = (0, 0);
        Ok(dropped)
    }

    fn dropped(&mut self, done: retention::Retention) -> Result<retention::Retention> {
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
        if free >= least {
            self.recycle_at = 0;
        }
        let shared = Arc::clone(&self.shared);
        let bytes = || lock(&shared.live).iter().map(LaneView::bytes).sum::<u64>();
        if free < least
            && bytes() >= self.recycle_at
            && let Some((lane, to)) = retention::oldest(&self.shared)
        {
            let dropped = self.drop_before(lane, to)?;
            tracing::warn!(
                free,
                blocks = dropped.blocks,
                "the disk is nearly full: the oldest history was dropped"
            );
            // Only as much goes as is written: an empty history would not make the disk any less full.
            self.recycle_at = bytes() + dropped.bytes / 2;
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
        // First let go whoever holds a counter while it waits for a lease.
        self.commit()?;
        for (name, counter) in lock(&self.shared.counters).iter() {
            let mut counter = lock(counter);
            // Nobody has read it yet: what is stored holds.
            if counter.next == 0 {
                continue;
            }
            value::put(
                &mut self.batch,
                &keys::named(keys::COUNTER, name, &[]),
                &counter.next.to_be_bytes(),
            )?;
            // The lease ends here: what is written is what the next open begins with.
            counter.limit = counter.next;
        }
        self.commit()?;
        self.syncer.sync_now()?;
        manifest::mark_closed(&self.shared.dir)
    }
}
