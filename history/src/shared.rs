//! What the threads of a store have in common.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use crate::entry::Row;
use crate::error::{StoreError, Why};
use crate::intake::{Command, Intake, lock};
use crate::live::Live;
use crate::numbers::Counter;
use crate::store::Options;

/// Counters, all since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Entries and amendments durable.
    pub(crate) acknowledged: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) superseded: AtomicU64,
    pub(crate) terms_cut: AtomicU64,
    /// Epoch milliseconds when the last flush returned, and how long it took, in microseconds.
    pub(crate) last_flush_ms: AtomicU64,
    pub(crate) flush_us: AtomicU64,
    pub(crate) last_sync_ms: AtomicU64,
}

#[derive(Debug)]
struct Subscriber {
    sender: mpsc::Sender<Arc<Row>>,
    lagged: Arc<AtomicU64>,
}

/// Everybody who follows the live stream.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    list: Mutex<Vec<Subscriber>>,
    count: AtomicUsize,
}

/// Rows as they are taken in, from the moment of subscribing.
#[derive(Debug)]
pub struct Subscription {
    rows: mpsc::Receiver<Arc<Row>>,
    lagged: Arc<AtomicU64>,
}

impl Subscription {
    /// Next row; `None` when the store is closed.
    pub async fn next(&mut self) -> Option<Arc<Row>> {
        self.rows.recv().await
    }

    /// A row, if one is there.
    pub fn try_next(&mut self) -> Option<Arc<Row>> {
        self.rows.try_recv().ok()
    }

    /// Rows that were passed over because this subscriber was too slow, since it was last asked.
    pub fn lagged(&self) -> u64 {
        self.lagged.swap(0, Ordering::Relaxed)
    }
}

impl Subscribers {
    pub(crate) fn add(&self, capacity: usize) -> Subscription {
        let (sender, rows) = mpsc::channel(capacity.max(1));
        let lagged = Arc::new(AtomicU64::new(0));
        let mut list = lock(&self.list);
        list.push(Subscriber {
            sender,
            lagged: Arc::clone(&lagged),
        });
        self.count.store(list.len(), Ordering::Relaxed);
        Subscription { rows, lagged }
    }

    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn send(&self, row: &Arc<Row>) {
        let mut list = lock(&self.list);
        list.retain(
            |subscriber| match subscriber.sender.try_send(Arc::clone(row)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    subscriber.lagged.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            },
        );
        self.count.store(list.len(), Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        lock(&self.list).clear();
        self.count.store(0, Ordering::Relaxed);
    }
}

/// Everything that more than one thread touches.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) db: sled::Db,
    pub(crate) live: Mutex<Live>,
    pub(crate) intake: Intake,
    pub(crate) counts: Counts,
    pub(crate) subscribers: Subscribers,
    /// By name.
    pub(crate) counters: Mutex<HashMap<String, Arc<Mutex<Counter>>>>,
    /// What was found damaged at open.
    pub(crate) problems: Mutex<Vec<String>>,
    /// Why the writer stopped.
    pub(crate) failure: Mutex<Option<String>>,
    /// Copies being made; retention waits meanwhile.
    pub(crate) copying: AtomicUsize,
}

impl Shared {
    /// Stops taking anything. Everybody who waits hears why.
    pub(crate) fn fail(&self, error: &str) {
        tracing::error!(error, "the history takes nothing more");
        lock(&self.failure).get_or_insert_with(|| error.to_owned());
        self.end(
            Why::Failed(error.to_owned()),
            &StoreError::Failed(error.to_owned()),
        );
    }

    pub(crate) fn end(&self, why: Why, error: &StoreError) {
        for command in self.intake.shut(why) {
            self.refuse(command, error);
        }
        self.subscribers.end();
    }

    /// Answers a command that will not be done.
    pub(crate) fn refuse(&self, command: Command, error: &StoreError) {
        match command {
            Command::Append(_, promise) | Command::Amend(_, promise) => {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                if let Some(promise) = promise {
                    promise.keep(Err(error.clone()));
                }
            }
            Command::Put(_, promise) | Command::Flush(promise) | Command::Snapshot(_, promise) => {
                promise.keep(Err(error.clone()))
            }
            Command::Enforce(_, promise) | Command::Prune(_, _, promise) => {
                promise.keep(Err(error.clone()))
            }
            Command::Close(_) => {}
        }
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}
