//! Messages that wait to be delivered: durable, in order for each destination, at least once.
//!
//! A state machine without a clock and without a network. Its owner asks [`Outbox::next_due`], calls [`Outbox::started`]
//! (durable *before* anything is sent), hands the message to the courier, and gives the answer to [`Outbox::finished`].
//!
//! Invariants. One message of a destination is on its way at a time, the oldest. A message that was started and has no
//! result (a crash, a lost courier, an answer that never came) *may* have arrived: it is sent again and marked as a
//! possible repeat. One that was surely refused is sent again without the mark. Nothing leaves the queue but by acceptance
//! or by a refusal that no repetition heals. When a destination is down for long its newest messages become a digest, so
//! memory and disk grow by an id for each alert and no id is lost. An alert stands once in a lane: to put it in again, after a
//! crash in the middle of it, changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use detector::Severity;
use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, LedgerError};
use crate::message::Message;
use crate::notify::Outcome;

/// Queue of the ledger.
pub const QUEUE: &str = "outbox";
/// Area of the ledger: what a service calls the message of an alert, by `DESTINATION/ALERT`.
pub const SENT: &str = "outbox-sent";
/// Messages of which that is known; older ones are not edited any more.
const EDITABLE: usize = 500;
/// Messages that wait for one destination before further ones go into a digest: nobody reads more than these one by one.
const STORM: usize = 20;
/// The same for critical ones, each of which has a command that somebody must type.
const WAITING: usize = 200;
/// First pause after a failure, milliseconds; doubled each time.
const PAUSE: u64 = 1_000;
/// Longest pause that we choose ourselves.
const LONGEST: u64 = 300_000;

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Name, `discord`.
    pub name: String,
    /// Messages below this severity do not go there.
    pub min_severity: Severity,
    /// Least time between two messages, milliseconds (Telegram wants one a second for a chat).
    pub pace_ms: u64,
}

/// A message that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Number in the queue.
    pub queue_id: u64,
    /// Name of the destination.
    pub destination: String,
    /// What.
    pub message: Message,
    /// It may have arrived before.
    pub repeat: bool,
    /// The service's id of the message that this one takes the place of.
    pub edit: Option<String>,
}

/// What stands in the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    destination: String,
    message: Message,
    /// An attempt was begun and has no result.
    started: bool,
    /// It may have arrived before.
    repeat: bool,
    /// The service's id of the message that this one takes the place of.
    #[serde(default)]
    edit: Option<String>,
}

/// State of a destination for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Name.
    pub name: String,
    /// Messages that wait, one on its way included.
    pub waiting: usize,
    /// Messages that were accepted since the start.
    pub accepted: u64,
    /// Attempts that failed since the start.
    pub failures: u64,
    /// Messages that the service refused for good; each was warned about.
    pub refused: u64,
    /// Messages that were taken into a digest.
    pub digested: u64,
    /// Nothing is sent there, and why.
    pub stopped: Option<String>,
    /// Last failure.
    pub last_error: Option<String>,
    /// Last acceptance, milliseconds since the epoch.
    pub last_accepted_ms: Option<u64>,
    /// No attempt before this time, milliseconds since the epoch.
    pub not_before_ms: u64,
}

struct Lane {
    settings: Destination,
    entries: VecDeque<(u64, Entry)>,
    on_its_way: bool,
    failed_in_row: u32,
    status: ChannelStatus,
}

/// The outbox.
pub struct Outbox {
    ledger: Arc<dyn Ledger>,
    lanes: BTreeMap<String, Lane>,
    random: u64,
    /// Entries for destinations that are not configured any more: kept, counted, not sent.
    orphans: usize,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// Outbox with what an earlier run left: an attempt without a result becomes a possible repeat.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn new(
        ledger: Arc<dyn Ledger>,
        destinations: Vec<Destination>,
    ) -> Result<Self, LedgerError> {
        let mut lanes: BTreeMap<String, Lane> = destinations
            .into_iter()
            .map(|settings| {
                let status = ChannelStatus {
                    name: settings.name.clone(),
                    ..ChannelStatus::default()
                };
                (
                    settings.name.clone(),
                    Lane {
                        settings,
                        entries: VecDeque::new(),
                        on_its_way: false,
                        failed_in_row: 0,
                        status,
                    },
                )
            })
            .collect();
        let mut orphans = 0;
        for (id, value) in ledger.queue_list(QUEUE)? {
            let entry = match serde_json::from_slice::<Entry>(&value) {
                Ok(entry) => entry,
                Err(error) => {
                    tracing::error!(id, %error, "a message in the outbox cannot be read and stays unsent");
                    orphans += 1;
                    continue;
                }
            };
            match lanes.get_mut(&entry.destination) {
                Some(lane) => {
                    let repeat = entry.repeat || entry.started;
                    lane.entries.push_back((
                        id,
                        Entry {
                            repeat,
                            started: false,
                            ..entry
                        },
                    ));
                }
                None => orphans += 1,
            }
        }
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        Ok(Self {
            ledger,
            lanes,
            random: seed | 1,
            orphans,
        })
    }

    /// Puts a message into the queue of every destination that its severity reaches; durable when it returns. A destination
    /// that has a message of the same alert already does not get it twice. Gives the number of destinations.
    ///
    /// # Errors
    /// [`LedgerError`]; destinations before the failed one have it.
    pub fn enqueue(&mut self, message: &Message) -> Result<usize, LedgerError> {
        let mut reached = 0;
        for (name, lane) in &mut self.lanes {
            if message.severity < lane.settings.min_severity {
                continue;
            }
            reached += 1;
            if let Some(alert) = &message.alert
                && lane.entries.iter().any(|(_, e)| e.message.names(alert))
            {
                continue;
            }
            if let Some((id, last)) = lane.digest_for(message) {
                let mut digest = last.clone();
                digest.message.absorb(message);
                self.ledger.queue_update(QUEUE, *id, &encode(&digest)?)?;
                *last = digest;
                lane.status.digested += 1;
                continue;
            }
            let entry = Entry {
                destination: name.clone(),
                message: message.clone(),
                started: false,
                repeat: false,
                edit: None,
            };
            let id = self.ledger.queue_push(QUEUE, &encode(&entry)?)?;
            lane.entries.push_back((id, entry));
        }
        Ok(reached)
    }

    /// One incident is one message: what is known now of an alert takes the place of what was told. A message that waits is changed, one
    /// that was taken is edited where the service can; where it cannot, nothing more is told.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn edit(&mut self, message: &Message) -> Result<(), LedgerError> {
        let Some(alert) = &message.alert else {
            return Ok(());
        };
        for (name, lane) in &mut self.lanes {
            if message.severity < lane.settings.min_severity {
                continue;
            }
            let busy = lane.on_its_way;
            let waiting = lane
                .entries
                .iter_mut()
                .enumerate()
                .rev()
                .find(|(at, (_, e))| {
                    e.message.alert.as_ref() == Some(alert) && !(busy && *at == 0)
                });
            if let Some((_, (id, entry))) = waiting {
                let changed = Entry {
                    message: Message {
                        more: entry.message.more.clone(),
                        severity: entry.message.severity.max(message.severity),
                        ..message.clone()
                    },
                    ..entry.clone()
                };
                self.ledger.queue_update(QUEUE, *id, &encode(&changed)?)?;
                *entry = changed;
                continue;
            }
            // In a storm nobody reads edits.
            if lane.entries.len() >= STORM {
                continue;
            }
            let Some(remote) = self.ledger.get(SENT, &format!("{name}/{alert}"))? else {
                continue;
            };
            let entry = Entry {
                destination: name.clone(),
                message: message.clone(),
                started: false,
                repeat: false,
                edit: Some(String::from_utf8_lossy(&remote).into_owned()),
            };
            let id = self.ledger.queue_push(QUEUE, &encode(&entry)?)?;
            lane.entries.push_back((id, entry));
        }
        Ok(())
    }

    /// Does a message of this alert wait anywhere?
    pub fn has(&self, alert: &str) -> bool {
        self.lanes
            .values()
            .any(|l| l.entries.iter().any(|(_, e)| e.message.names(alert)))
    }

    /// The next message that may be sent now: the oldest of a destination that is neither stopped, nor pausing, nor busy.
    pub fn next_due(&self, now_ms: u64) -> Option<Due> {
        self.lanes.values().find_map(|lane| {
            let ready = lane.status.stopped.is_none()
                && !lane.on_its_way
                && lane.status.not_before_ms <= now_ms;
            let (id, entry) = lane.entries.front().filter(|_| ready)?;
            Some(Due {
                queue_id: *id,
                destination: entry.destination.clone(),
                message: entry.message.clone(),
                // An edit is the same however often it is made.
                repeat: entry.repeat && entry.edit.is_none(),
                edit: entry.edit.clone(),
            })
        })
    }

    /// When [`Outbox::next_due`] may have something without anything else happening, milliseconds since the epoch.
    pub fn next_wake(&self) -> Option<u64> {
        self.lanes
            .values()
            .filter(|l| l.status.stopped.is_none() && !l.on_its_way && !l.entries.is_empty())
            .map(|l| l.status.not_before_ms)
            .min()
    }

    fn lane_of(&mut self, id: u64) -> Option<&mut Lane> {
        self.lanes
            .values_mut()
            .find(|l| l.entries.front().is_some_and(|(head, _)| *head == id))
    }

    /// An attempt begins: durable when it returns, and only then may it be sent.
    ///
    /// # Errors
    /// [`LedgerError`]: do not send it; the destination pauses.
    pub fn started(&mut self, id: u64, now_ms: u64) -> Result<(), LedgerError> {
        let ledger = self.ledger.clone();
        let jitter = self.jitter(PAUSE);
        let Some(lane) = self.lane_of(id) else {
            return Ok(());
        };
        let Some((_, entry)) = lane.entries.front_mut() else {
            return Ok(());
        };
        let marked = Entry {
            started: true,
            ..entry.clone()
        };
        if let Err(error) = encode(&marked).and_then(|v| ledger.queue_update(QUEUE, id, &v)) {
            lane.status.last_error = Some(error.to_string());
            lane.status.not_before_ms = now_ms + PAUSE + jitter;
            return Err(error);
        }
        *entry = marked;
        lane.on_its_way = true;
        Ok(())
    }

    /// An attempt ended.
    ///
    /// # Errors
    /// [`LedgerError`]; what stands in the ledger then is an attempt without result, which errs towards a marked repeat.
    pub fn finished(&mut self, id: u64, outcome: &Outcome, now_ms: u64) -> Result<(), LedgerError> {
        let ledger = self.ledger.clone();
        let random = self.jitter(u64::MAX);
        let Some(lane) = self.lane_of(id) else {
            return Ok(());
        };
        lane.on_its_way = false;
        match outcome {
            Outcome::Accepted {
                quiet_ms,
                remote_id,
            } => {
                lane.status.accepted += 1;
                lane.status.last_accepted_ms = Some(now_ms);
                lane.status.last_error = None;
                lane.failed_in_row = 0;
                lane.status.not_before_ms =
                    now_ms + lane.settings.pace_ms.max(quiet_ms.unwrap_or(0));
                let entry = lane.entries.pop_front();
                if let (Some(remote), Some((_, entry))) = (remote_id, entry)
                    && entry.edit.is_none()
                    && let Some(alert) = &entry.message.alert
                {
                    remember(&*ledger, &format!("{}/{alert}", entry.destination), remote)?;
                }
                ledger.queue_remove(QUEUE, id)
            }
            Outcome::Refused {
                permanent: true,
                channel: true,
                why,
                ..
            } => {
                lane.status.failures += 1;
                lane.status.last_error = Some(why.clone());
                lane.status.stopped = Some(why.clone());
                tracing::error!(channel = %lane.settings.name, %why, "the channel is stopped: nobody is told through it");
                lane.unstart(&*ledger, id, false)
            }
            Outcome::Refused {
                permanent: true,
                channel: false,
                why,
                ..
            } => {
                lane.status.failures += 1;
                lane.status.refused += 1;
                lane.status.last_error = Some(why.clone());
                let alert = lane
                    .entries
                    .front()
                    .and_then(|(_, e)| e.message.alert.clone());
                tracing::error!(channel = %lane.settings.name, ?alert, %why, "the service refuses a message for good; it is in the history");
                lane.failed_in_row = 0;
                lane.status.not_before_ms = now_ms + lane.settings.pace_ms;
                lane.entries.pop_front();
                ledger.queue_remove(QUEUE, id)
            }
            Outcome::Refused {
                permanent: false,
                why,
                retry_after_ms,
                ..
            } => {
                lane.fail(why, *retry_after_ms, now_ms, random);
                lane.unstart(&*ledger, id, false)
            }
            Outcome::Unknown { why } => {
                lane.fail(why, None, now_ms, random);
                lane.unstart(&*ledger, id, true)
            }
        }
    }

    /// The courier is gone: whatever was on its way may have arrived.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn courier_lost(&mut self, now_ms: u64) -> Result<(), LedgerError> {
        let open: Vec<u64> = self
            .lanes
            .values()
            .filter(|l| l.on_its_way)
            .filter_map(|l| l.entries.front().map(|(id, _)| *id))
            .collect();
        let outcome = Outcome::Unknown {
            why: "the courier ended before it answered".into(),
        };
        open.into_iter()
            .try_for_each(|id| self.finished(id, &outcome, now_ms))
    }

    /// A person repaired a stopped channel.
    pub fn resume(&mut self, destination: &str) {
        if let Some(lane) = self.lanes.get_mut(destination) {
            lane.status.stopped = None;
            lane.status.not_before_ms = 0;
            lane.failed_in_row = 0;
        }
    }

    /// State of each destination.
    pub fn status(&self) -> Vec<ChannelStatus> {
        self.lanes
            .values()
            .map(|l| ChannelStatus {
                waiting: l.entries.len(),
                ..l.status.clone()
            })
            .collect()
    }

    /// Messages in the ledger whose destination is not configured any more, or that cannot be read.
    pub fn orphans(&self) -> usize {
        self.orphans
    }

    /// Does nothing wait anywhere but in stopped channels?
    pub fn is_idle(&self) -> bool {
        self.lanes
            .values()
            .all(|l| l.entries.is_empty() || l.status.stopped.is_some())
    }

    /// A number below `below`: xorshift (Marsaglia 2003); nothing but the spread of retries hangs on it.
    fn jitter(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }
}

impl Lane {
    /// The waiting message that takes this one in, in a storm. Never the one at the head, which may be on its way, nor one
    /// that may have arrived already.
    fn digest_for(&mut self, message: &Message) -> Option<&mut (u64, Entry)> {
        let waiting = self.entries.len();
        let critical = message.severity == Severity::Critical;
        let (_, last) = self.entries.back().filter(|_| waiting > 1)?;
        let wanted = match (critical, last.message.severity == Severity::Critical) {
            (false, false) => waiting >= STORM,
            _ => waiting >= WAITING,
        };
        let fits = wanted && !last.started && !last.repeat && last.message.has_room_for(message);
        self.entries.back_mut().filter(|_| fits)
    }

    /// Sets the pause: what the service asked for and a little more, or doubled each time, between half and all of it.
    fn fail(&mut self, why: &str, retry_after_ms: Option<u64>, now_ms: u64, random: u64) {
        self.status.failures += 1;
        self.status.last_error = Some(why.to_owned());
        let pause = match retry_after_ms {
            Some(asked) => asked + random % 250,
            None => {
                let full = (PAUSE << self.failed_in_row.min(20)).min(LONGEST);
                full / 2 + random % (full / 2 + 1)
            }
        };
        self.failed_in_row = self.failed_in_row.saturating_add(1);
        self.status.not_before_ms = now_ms + pause.max(self.settings.pace_ms);
    }

    /// The head has no attempt on its way any more.
    fn unstart(
        &mut self,
        ledger: &dyn Ledger,
        id: u64,
        maybe_arrived: bool,
    ) -> Result<(), LedgerError> {
        let Some((_, entry)) = self.entries.front_mut() else {
            return Ok(());
        };
        entry.started = false;
        entry.repeat |= maybe_arrived;
        ledger.queue_update(QUEUE, id, &encode(entry)?)
    }
}

/// Keeps the service's id of a message; the oldest ones go.
fn remember(ledger: &dyn Ledger, key: &str, remote: &str) -> Result<(), LedgerError> {
    ledger.put(SENT, key, remote.as_bytes())?;
    let number = |key: &str| -> u64 {
        let (_, alert) = key.split_once('/').unwrap_or_default();
        let digits = alert.strip_prefix("A-").unwrap_or_default();
        digits.parse().unwrap_or(0)
    };
    // Looked at now and then: the area is read whole.
    if !number(key).is_multiple_of(64) {
        return Ok(());
    }
    let mut all: Vec<String> = ledger.scan(SENT)?.into_iter().map(|(k, _)| k).collect();
    all.sort_by_key(|k| number(k));
    let too_many = all.len().saturating_sub(EDITABLE);
    all.iter()
        .take(too_many)
        .try_for_each(|key| ledger.delete(SENT, key))
}

fn encode(entry: &Entry) -> Result<Vec<u8>, LedgerError> {
    serde_json::to_vec(entry).map_err(|e| LedgerError {
        tried: "write down a message for",
        on: QUEUE.into(),
        why: e.to_string(),
    })
}

#[cfg(test)]
mod tests;
