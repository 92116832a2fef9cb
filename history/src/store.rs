//! `Store`: opening, and everything that the other rooms call.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::anchor::{self, Anchor, AnchorCheck};
use crate::area::{Area, Queue};
use crate::entry::{Entry, Kind, Row};
use crate::error::{Dropped, Result, StoreError, Why};
use crate::intake::{Amendment, Command, Intake, lock};
use crate::layout::{self, Share};
use crate::numbers::Numbers;
use crate::query::{Query, QueryStats};
use crate::retention::Retention;
use crate::shared::{Counts, Shared, Subscribers, Subscription};
use crate::stats::{self, Head, Stats};
use crate::tally::{self, Tally, TallyOf};
use crate::ticket::{Ticket, ticket};
use crate::verify::{self, Progress, VerifyReport};
use crate::writer::Writer;
use crate::{find, keys, live, manifest, numbers, recover, scan, snapshot, sync, tail};

/// Most bytes of one entry, body and terms together.
const LARGEST_ENTRY: usize = 8 << 20;
/// Most bytes of an id: it becomes part of a key.
const LARGEST_ID: usize = 512;
/// sled lets go of its file a moment after the last handle; inside one process that is waited for.
const HANDOVER: Duration = Duration::from_secs(5);

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for pages of the tree, in bytes. A wish: sled goes over it for short times.
    pub cache_bytes: u64,
    /// Activities older than this go; `None` keeps them.
    pub max_age: Option<Duration>,
    /// Alerts, decisions, notices, and the activities that raised an alert go after this; `None` keeps them.
    pub max_age_findings: Option<Duration>,
    /// Room on the disk, in bytes; the oldest goes. `None` is no bound.
    pub max_bytes: Option<u64>,
    /// Below so much free room on the disk the oldest goes; below half of it nothing is taken.
    pub min_free_bytes: u64,
    /// Change nothing. The lock is taken all the same: sled knows no readers.
    pub read_only: bool,
    /// Entries in the writer's queue at most.
    pub queue_entries: usize,
    /// Bytes in the writer's queue at most.
    pub queue_bytes: usize,
    /// Rows of a block.
    pub block_rows: usize,
    /// An open block that is older is sealed with the next commit.
    pub seal_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            max_age: None,
            max_age_findings: None,
            max_bytes: None,
            min_free_bytes: 128 << 20,
            read_only: false,
            queue_entries: 65_536,
            queue_bytes: 24 << 20,
            block_rows: 1024,
            seal_after: Duration::from_secs(600),
        }
    }
}

/// The history. Cheap to clone; every clone is the same store. The lock on the folder is free when all clones, queues and areas are gone.
#[derive(Clone, Debug)]
pub struct Store {
    handle: Arc<Handle>,
}

/// What every clone holds; the last one ends the threads.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Handle {
    /// Ends the writer and waits for it. A second call finds nothing to do.
    fn end(&self, seal: bool) {
        // Err is: it has ended already.
        let _ = self.shared.intake.command(Command::Close(seal));
        for thread in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// Opens sled below `dir`, making it when it is not there.
pub(crate) fn open_engine(dir: &Path, cache_bytes: u64) -> Result<sled::Db> {
    let manifest = manifest::open(dir)?;
    let file = sync::db_file(dir);
    let began = Instant::now();
    loop {
        let config = sled::Config::new()
            .path(manifest::engine_dir(dir))
            .segment_size(manifest.segment_size)
            .cache_capacity(cache_bytes)
            .flush_every_ms(Some(200))
            .mode(sled::Mode::HighThroughput);
        // A damaged file makes sled panic in places.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) if error.to_string().contains("could not acquire lock") => {
                let pid = manifest::holder(&file);
                let ours = pid.is_none_or(|pid| pid == std::process::id());
                if !ours
                    || began.elapsed()
                        > if pid.is_some() {
                            HANDOVER
                        } else {
                            Duration::from_millis(300)
                        }
                {
                    return Err(StoreError::Locked {
                        dir: dir.to_owned(),
                        pid,
                    });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(Err(sled::Error::Corruption { .. })) | Err(_) => {
                return Err(StoreError::corrupt(format!(
                    "the storage engine cannot open {}",
                    file.display()
                )));
            }
            Ok(Err(error)) => return Err(StoreError::engine("opening")(error)),
        }
    }
}

impl Store {
    /// Opens the store in a folder, making it when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it, [`StoreError::Version`] for a newer format, [`StoreError::Corrupt`] when
    /// nothing can be read. Damage to single values is no error: [`Stats::problems`] names it.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        let db = open_engine(dir, options.cache_bytes)?;
        let read_only = options.read_only;
        if !read_only && manifest::is_old(dir)? {
            recover::adopt(&db)?;
            manifest::upgrade(dir)?;
        }
        let mut recovered = recover::recover(&db)?;
        match tail::read(dir) {
            Ok(Some((commit, time_ms))) if commit > recovered.commit => {
                recovered.problems.push(format!(
                    "the end of the store is lost: {} commits, the last at {time_ms} ms since the epoch",
                    commit - recovered.commit
                ));
            }
            Ok(_) => {}
            Err(problem) => recovered.problems.push(problem),
        }
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            intake: Intake::new(options.queue_entries, options.queue_bytes),
            options,
            db,
            live: Mutex::default(),
            counts: Counts::default(),
            subscribers: Subscribers::default(),
            counters: Mutex::default(),
            problems: Mutex::new(recovered.problems.clone()),
            failure: Mutex::default(),
            copying: AtomicUsize::new(0),
        });
        for problem in &recovered.problems {
            tracing::warn!(problem, "damage in the history");
        }
        *lock(&shared.live) = std::mem::take(&mut recovered.live);
        if !read_only {
            manifest::mark_running(dir)?;
        }
        let (syncer, sync_thread) = sync::syncer(&shared)?;
        let writer = Writer::new(Arc::clone(&shared), syncer, recovered)?;
        if read_only {
            shared.intake.shut(Why::ReadOnly);
        }
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(StoreError::io("starting a thread for", dir))
        };
        let threads = vec![
            spawn("history-write", Box::new(move || writer.run()))?,
            spawn("history-sync", Box::new(move || sync_thread.run()))?,
        ];
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                threads: Mutex::new(threads),
            }),
        })
    }

    /// As [`Store::open`], but makes nothing: for commands that read what a daemon wrote. With [`Options::read_only`] nothing is changed
    /// either. The lock is taken all the same, and [`StoreError::Locked`] names who has it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is no store, and as [`Store::open`].
    pub fn open_existing(dir: &Path, options: Options) -> Result<Self> {
        if !manifest::exists(dir) {
            return Err(StoreError::Missing {
                dir: dir.to_owned(),
            });
        }
        Self::open(dir, options)
    }

    /// The process that has the store in a folder open, if any.
    pub fn holder(dir: &Path) -> Option<u32> {
        manifest::holder(&sync::db_file(dir))
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Seals what is open, makes everything durable, and ends the writer, for every clone. What is appended afterwards is refused.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when not everything could be made durable.
    pub fn close(self) -> Result<()> {
        self.handle.end(true);
        match &*lock(&self.shared().failure) {
            Some(error) => Err(StoreError::Failed(error.clone())),
            None => Ok(()),
        }
    }

    fn fits(entry: &Entry) -> std::result::Result<(), usize> {
        let weight = entry.weight();
        if weight > LARGEST_ENTRY || entry.id.len() > LARGEST_ID {
            Err(weight)
        } else {
            Ok(())
        }
    }

    /// Hands an entry to the writer. It is durable within 200 ms, and seen by queries within 20. Waits 3 ms for room at most.
    ///
    /// # Errors
    /// [`Dropped`], which is counted.
    pub fn append(&self, entry: Entry) -> std::result::Result<(), Dropped> {
        self.append_all(vec![entry])
    }

    /// Hands entries to the writer, in order. When there is no room, those at the end are dropped and counted.
    ///
    /// # Errors
    /// [`Dropped`] with their number.
    pub fn append_all(&self, mut entries: Vec<Entry>) -> std::result::Result<(), Dropped> {
        let mut large = None;
        let all = entries.len();
        entries.retain(|entry| {
            Self::fits(entry)
                .inspect_err(|size| large = Some(*size))
                .is_ok()
        });
        let large = large.map(|size| Dropped {
            count: all - entries.len(),
            why: Why::TooLarge(size),
        });
        let result = match (self.shared().intake.append(entries.into_iter()), large) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(large)) => Err(large),
            (Err(full), large) => Err(Dropped {
                count: full.count + large.map_or(0, |l| l.count),
                why: full.why,
            }),
        };
        if let Err(dropped) = &result {
            self.shared()
                .counts
                .dropped
                .fetch_add(dropped.count as u64, Ordering::Relaxed);
        }
        result
    }

    /// Hands an entry to the writer and returns when it is durable. Entries of other threads share the flush.
    pub fn append_durable(&self, entry: Entry) -> Result<()> {
        self.append_ticket(entry)?.wait()
    }

    /// Hands an entry to the writer; it is durable when the ticket is kept.
    pub fn append_ticket(&self, entry: Entry) -> Result<Ticket> {
        Self::fits(&entry).map_err(|bytes| StoreError::TooLarge {
            bytes,
            most: LARGEST_ENTRY,
        })?;
        let (promise, ticket) = ticket();
        self.shared()
            .intake
            .command(Command::Append(entry, Some(promise)))?;
        Ok(ticket)
    }

    /// Gives an entry a new body: the count of an alert, a record that came late. `time_ms` is the entry's own time. An entry that is not
    /// there is appended. Durable when the ticket is kept.
    pub fn amend(&self, kind: Kind, id: &str, time_ms: u64, body: Vec<u8>) -> Result<Ticket> {
        self.amend_with(Amendment {
            kind,
            id: id.to_owned(),
            time_ms,
            terms: Vec::new(),
            body: Some(body),
        })
    }

    /// Gives an entry a new body, or more terms to find it by, or both.
    pub fn amend_with(&self, amendment: Amendment) -> Result<Ticket> {
        let bytes = amendment.body.as_ref().map_or(0, Vec::len)
            + amendment.terms.iter().map(|(_, t)| t.len()).sum::<usize>();
        if bytes > LARGEST_ENTRY || amendment.id.len() > LARGEST_ID {
            return Err(StoreError::TooLarge {
                bytes,
                most: LARGEST_ENTRY,
            });
        }
        let (promise, ticket) = ticket();
        self.shared()
            .intake
            .command(Command::Amend(amendment, Some(promise)))?;
        Ok(ticket)
    }

    /// Makes everything durable that was appended before.
    pub fn flush(&self) -> Result<()> {
        self.flush_ticket()?.wait()
    }

    /// As [`Store::flush`], kept later.
    pub fn flush_ticket(&self) -> Result<Ticket> {
        let (promise, ticket) = ticket();
        self.shared().intake.command(Command::Flush(promise))?;
        Ok(ticket)
    }

    /// How many of the entries and amendments that were taken since the store was opened are durable, counted in the order of taking.
    pub fn acknowledged(&self) -> u64 {
        self.shared().counts.acknowledged.load(Ordering::Acquire)
    }

    /// Hands every row that fits to `each`, in order of time and then of arrival.
    ///
    /// # Errors
    /// Only when the engine fails; a damaged block is counted and passed over.
    pub fn query(
        &self,
        query: &Query,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<QueryStats> {
        scan::run(&self.shared().db, &self.shared().live, query, each)
    }

    /// As [`Store::query`], into a vector. For questions with a limit.
    pub fn rows(&self, query: &Query) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.query(query, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// The entry with this id, in its latest state.
    pub fn get(&self, kind: Kind, id: &str) -> Result<Option<Row>> {
        self.get_near(kind, id, None)
    }

    /// The entry with this id, looked for at this time first, milliseconds since the epoch: an audit event's id tells its time.
    pub fn get_near(&self, kind: Kind, id: &str, time_ms: Option<u64>) -> Result<Option<Row>> {
        let (open, mut blocks) = {
            let live = lock(&self.shared().live);
            let open = live.iter().enumerate().find_map(|(lane, view)| {
                let placed = view
                    .open
                    .iter()
                    .rfind(|p| p.entry.kind == kind && p.entry.id == id)?;
                Some((lane, view.open_number, Arc::clone(placed)))
            });
            (
                open,
                live::blocks(&live, |_, info| info.kinds[kind.index()] > 0),
            )
        };
        let tree = &self.shared().db;
        let change = |lane, number| match find::change(tree, lane, number, kind, id) {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            other => other,
        };
        if let Some((lane, number, placed)) = open {
            let body = change(lane, number)?
                .and_then(|c| c.body)
                .unwrap_or_else(|| placed.entry.body.clone());
            return Ok(Some(Row {
                kind,
                time_ms: placed.entry.time_ms,
                id: id.to_owned(),
                body,
                seq: placed.seq,
            }));
        }
        // Newest first, but what covers the time before all others.
        let off = |info: &crate::block::BlockInfo| {
            time_ms.is_some_and(|t| t < info.min_ms || t > info.max_ms)
        };
        blocks.sort_by_key(|seen| (off(&seen.info), std::cmp::Reverse(seen.info.max_ms)));
        let Some(found) = find::locate(tree, blocks, kind, id)? else {
            return Ok(None);
        };
        let (lane, number) = (found.seen.lane, found.seen.info.number);
        let body = match change(lane, number)?.and_then(|c| c.body) {
            Some(body) => body,
            None => {
                let damaged = || {
                    StoreError::corrupt(format!(
                        "the body of {kind} {id} in block {number} of lane {lane} is lost"
                    ))
                };
                let (frame, inside) = found.meta.place(found.row).ok_or_else(damaged)?;
                let frame = find::frame(tree, lane, number, frame)?.ok_or_else(damaged)?;
                frame.body(inside).ok_or_else(damaged)?.to_vec()
            }
        };
        Ok(Some(Row {
            kind,
            time_ms: found.meta.times[found.row],
            id: id.to_owned(),
            body,
            seq: found.meta.seqs[found.row],
        }))
    }

    /// The rows before and behind an entry, in order of time and with the query's kinds and clauses: up to `before` and `after` of them.
    /// The entry itself is in neither.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub fn neighbours(
        &self,
        row: &Row,
        query: &Query,
        before: usize,
        after: usize,
    ) -> Result<(Vec<Row>, Vec<Row>)> {
        let side = |reverse: bool, limit: usize| {
            self.rows(&Query {
                reverse,
                limit: Some(limit),
                after: Some(row.cursor()),
                ..query.clone()
            })
        };
        let mut earlier = side(true, before)?;
        earlier.reverse();
        Ok((earlier, side(false, after)?))
    }

    /// Counts the rows of the query's time, kinds and clauses, and their terms: for statistics and timelines. No body is read, so its
    /// text and tests of bodies are not regarded, nor limit and cursor.
    ///
    /// # Errors
    /// Only when the engine fails; a damaged block is counted and passed over.
    pub fn tally(
        &self,
        query: &Query,
        of: &TallyOf,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Tally> {
        tally::run(self.shared(), query, of, progress)
    }

    /// Where the chains end now, to be kept where this host cannot change it.
    ///
    /// # Errors
    /// When the record of a lane cannot be read.
    pub fn anchor(&self) -> Result<Anchor> {
        Ok(anchor::make(self.heads()?))
    }

    /// Does what is stored fit an anchor that was made earlier? [`Store::verify`] proves what lies before and between.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn check_anchor(&self, anchor: &Anchor) -> Result<AnchorCheck> {
        anchor::check(self.shared(), anchor, &self.heads()?)
    }

    /// Follows what is taken in from now on. A subscriber that is `capacity` rows behind loses rows and is told how many.
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.shared().subscribers.add(capacity)
    }

    /// The durable queue of this name.
    pub fn queue(&self, name: &str) -> Queue {
        Queue {
            handle: Arc::clone(&self.handle),
            name: name.to_owned(),
        }
    }

    /// The key-value area of this name.
    pub fn area(&self, name: &str) -> Area {
        Area {
            handle: Arc::clone(&self.handle),
            name: name.to_owned(),
        }
    }

    /// Next number of this name: 1, 2, 3 and so on, never one twice, also not after a crash, which skips a few. Every sixteenth waits for
    /// a flush.
    pub fn next_number(&self, name: &str) -> Result<u64> {
        numbers::next_number(self.shared(), name)
    }

    /// Numbers of this name that are handed out without waiting: `block` of them are durable on return, and the next ones are asked for
    /// early. They are of the same count as [`Store::next_number`]'s.
    ///
    /// # Errors
    /// When the first block cannot be made durable.
    pub fn lease_numbers(&self, name: &str, block: u64) -> Result<Numbers> {
        Numbers::lease(Arc::clone(&self.handle), name, block)
    }

    /// Sizes, counts and times.
    pub fn stats(&self) -> Stats {
        stats::collect(self.shared())
    }

    /// Where the bytes go, by sort of value. Reads the whole store.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn shares(&self) -> Result<Vec<Share>> {
        layout::shares(&self.shared().db)
    }

    /// Entries and commands that wait for the writer: cheap, for whoever feeds the store.
    pub fn queued(&self) -> usize {
        self.shared().intake.len()
    }

    /// Where the chains end now: what an anchor outside the host holds on to.
    pub fn heads(&self) -> Result<Vec<Head>> {
        let lanes = 0..live::LANES;
        lanes
            .map(|lane| stats::head(self.shared(), lane, &keys::lane(keys::LANE, lane)))
            .collect()
    }

    /// Checks every block, index and value. `progress` may end it.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<VerifyReport> {
        verify::run(self.shared(), progress)
    }

    /// Removes what is older than the options say, or more than they allow. `now_ms` is milliseconds since the epoch.
    pub fn enforce(&self, now_ms: u64) -> Result<Retention> {
        let (promise, ticket) = ticket();
        self.shared()
            .intake
            .command(Command::Enforce(now_ms, promise))?;
        ticket.wait()
    }

    /// Removes blocks whose newest row is older than `before_ms`, milliseconds since the epoch: activities, and with `findings` also alerts
    /// and what belongs to them. What is not in a sealed block yet stays.
    ///
    /// # Errors
    /// When the writer has ended.
    pub fn prune(&self, before_ms: u64, findings: bool) -> Result<Retention> {
        let (promise, ticket) = ticket();
        self.shared()
            .intake
            .command(Command::Prune(before_ms, findings, promise))?;
        ticket.wait()
    }

    /// Copies the store into a new folder while it goes on. What was taken before this call is in the copy.
    pub fn snapshot(&self, dir: &Path) -> Result<()> {
        let (promise, ticket) = ticket();
        self.shared()
            .intake
            .command(Command::Snapshot(dir.to_owned(), promise))?;
        ticket.wait()?;
        snapshot::finish(self.shared(), dir)
    }
}
