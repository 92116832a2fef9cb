//! The queue into the writer thread.
//!
//! Threads: any number put in, one (the writer) takes out. Everything is under one mutex that is held for a push or a swap, never during
//! work on the disk. Bounded in entries and bytes; plain entries wait at most [`PATIENCE`] for room and are then refused. The last tenth is
//! kept for what is not an activity, so that a flood of events does not push an alert out. Commands wait for room without limit: they are
//! few and their callers want to know.
//! A plain entry wakes the writer only when it has nothing to do or when many have gathered; otherwise it looks by itself every few
//! milliseconds. A wake-up for each entry would cost more than storing it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::entry::{Entry, Field, Kind};
use crate::error::{Dropped, Result, StoreError, Why};
use crate::retention::Retention;
use crate::ticket::Promise;

/// How long a plain entry waits for room.
const PATIENCE: Duration = Duration::from_millis(3);
/// So many entries wake the writer.
const MANY: usize = 256;
/// How often the writer looks while it is not idle: this long a row can be unseen by queries.
const GLANCE: Duration = Duration::from_millis(20);

/// A later state of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// Kind of the entry.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its time, milliseconds since the epoch: where to look for it.
    pub time_ms: u64,
    /// Terms to find it by from now on, beside those that it has.
    pub terms: Vec<(Field, Vec<u8>)>,
    /// New body; `None` leaves it.
    pub body: Option<Vec<u8>>,
}

/// Keys and values to set (`Some`) or to take out, in one batch.
pub(crate) type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Debug)]
pub(crate) enum Command {
    Append(Entry, Option<Promise>),
    Amend(Amendment, Option<Promise>),
    Put(Changes, Promise),
    Flush(Promise),
    Enforce(u64, Promise<Retention>),
    /// Remove what is older than this; findings too?
    Prune(u64, bool, Promise<Retention>),
    Snapshot(PathBuf, Promise),
    /// End; seal what is open if so wished.
    Close(bool),
}

impl Command {
    fn weight(&self) -> usize {
        match self {
            Self::Append(entry, _) => entry.weight(),
            Self::Amend(amendment, _) => amendment.body.as_ref().map_or(0, Vec::len) + 256,
            Self::Put(changes, _) => changes
                .iter()
                .map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len))
                .sum(),
            _ => 0,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Command>,
    bytes: usize,
    /// Why nothing is taken any more.
    shut: Option<Why>,
    /// Why no entries are taken for now, while commands are.
    paused: Option<Why>,
    /// The writer has nothing to do.
    idle: bool,
}

#[derive(Debug)]
pub(crate) struct Intake {
    state: Mutex<State>,
    filled: Condvar,
    space: Condvar,
    most_entries: usize,
    most_bytes: usize,
}

/// A lock whose data cannot be left half changed: a panic elsewhere does not take the store with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Intake {
    pub(crate) fn new(most_entries: usize, most_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            space: Condvar::new(),
            most_entries: most_entries.max(MANY),
            most_bytes,
        }
    }

    fn has_room(&self, state: &State, urgent: bool) -> bool {
        let tenths = if urgent { 10 } else { 9 };
        state.queue.len() < self.most_entries / 10 * tenths
            && state.bytes < self.most_bytes / 10 * tenths
    }

    /// Hands over plain entries.
    pub(crate) fn append(
        &self,
        entries: impl ExactSizeIterator<Item = Entry>,
    ) -> std::result::Result<(), Dropped> {
        let mut left = entries.len();
        let mut state = lock(&self.state);
        let until = Instant::now() + PATIENCE;
        for entry in entries {
            let urgent = entry.kind != Kind::Activity;
            loop {
                if let Some(why) = state.shut.as_ref().or(state.paused.as_ref()) {
                    return Err(Dropped {
                        count: left,
                        why: why.clone(),
                    });
                }
                if self.has_room(&state, urgent) {
                    break;
                }
                self.filled.notify_one();
                let Some(patience) = until
                    .checked_duration_since(Instant::now())
                    .filter(|d| !d.is_zero())
                else {
                    return Err(Dropped {
                        count: left,
                        why: Why::Full,
                    });
                };
                state = self
                    .space
                    .wait_timeout(state, patience)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            left -= 1;
            state.bytes += entry.weight();
            state.queue.push_back(Command::Append(entry, None));
        }
        if state.idle || state.queue.len() >= MANY {
            state.idle = false;
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Hands over something that its caller waits for.
    pub(crate) fn command(&self, command: Command) -> Result<()> {
        let closing = matches!(command, Command::Close(_));
        let mut state = lock(&self.state);
        loop {
            match (&state.shut, &state.paused, &command) {
                (Some(Why::Closed), ..) => return Err(StoreError::Closed),
                (Some(Why::ReadOnly), ..) if !closing => return Err(StoreError::ReadOnly),
                (Some(why), ..) if !closing => return Err(StoreError::Failed(why.to_string())),
                (_, Some(why), Command::Append(..)) => {
                    return Err(StoreError::Failed(why.to_string()));
                }
                _ => {}
            }
            if closing || self.has_room(&state, true) {
                break;
            }
            self.filled.notify_one();
            state = self
                .space
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if closing {
            state.shut = Some(Why::Closed);
        }
        state.bytes += command.weight();
        state.queue.push_back(command);
        state.idle = false;
        self.filled.notify_one();
        Ok(())
    }

    /// Takes everything that is there; waits for it until `until`, or for as long as nothing comes.
    pub(crate) fn take(&self, into: &mut VecDeque<Command>, until: Option<Instant>) {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            let longest = until.map_or(Duration::from_secs(1), |t| {
                t.saturating_duration_since(Instant::now())
            });
            state.idle = until.is_none();
            let wait = if state.idle {
                longest
            } else {
                longest.min(GLANCE)
            };
            state = self
                .filled
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.idle = false;
        }
        std::mem::swap(into, &mut state.queue);
        state.bytes = 0;
        drop(state);
        self.space.notify_all();
    }

    /// From now on nothing is taken, and everybody who waits is let go.
    pub(crate) fn shut(&self, why: Why) -> VecDeque<Command> {
        let mut state = lock(&self.state);
        state.shut.get_or_insert(why);
        let left = std::mem::take(&mut state.queue);
        drop(state);
        self.space.notify_all();
        left
    }

    /// No entries for now (`Some`), or entries again.
    pub(crate) fn pause(&self, why: Option<Why>) {
        lock(&self.state).paused = why;
        self.space.notify_all();
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.state).queue.len()
    }
}
