//! `Assembler`: records in, events out.
//!
//! In: records in the order in which the socket or the log gives them, of several CPUs and several machines mixed. Out:
//! [`Assembled`] events and amendments. One thread owns an assembler; nothing here blocks or reads a clock.
//!
//! Invariants
//! - A record goes into exactly one event, keyed by (node, time, serial), or comes out as an amendment, or is an exact
//!   duplicate, which is counted.
//! - A late record is known as late while its event is among the last 131,072 of its machine (nearly three seconds of all that a
//!   kernel can make). What comes later still is taken for the start of an event: in a log it may well be one, when
//!   an older file is read after a newer one.
//! - An event leaves when EOE came, at once when its type stands alone, by [`Assembler::tick`] when its time is up,
//!   when it is the oldest and memory is short (counted), or in [`Assembler::finish`]. None waits for another.
//! - Memory is bounded: by [`Limits`] for what is open, by fixed tables for what is remembered of the closed.

mod closed;
mod nodes;
mod open;
mod serials;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventId};
use crate::record::RecordType;
use closed::Closed;
use nodes::Nodes;
use open::{List, Open};
use serials::Serials;

/// What makes an event unique, with the node as a number of [`Nodes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    millis: u64,
    serial: u32,
    node: u32,
}

/// How much may be open, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events that are open at a time, at least 1. The oldest makes room for one more.
    pub max_events: usize,
    /// Bytes of the open events together. The oldest makes room; one event larger than all of this leaves in parts: what
    /// comes after is an amendment.
    pub max_bytes: usize,
    /// How long an event waits for its end.
    pub timeout: Duration,
}

impl Default for Limits {
    /// 4,096 events, 16 MiB, 2 seconds.
    fn default() -> Self {
        Self {
            max_events: 4096,
            max_bytes: 16 << 20,
            timeout: Duration::from_secs(2),
        }
    }
}

/// What the assembler hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assembled {
    /// An event, for the first and only time.
    Event(Event),
    /// A record that came after its event had left.
    Amendment {
        /// The event that it belongs to.
        id: EventId,
        /// Type of the record.
        kind: RecordType,
        /// Its body.
        body: Vec<u8>,
    },
}

/// What an assembler has seen since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssembleCounters {
    /// Records that were pushed.
    pub records: u64,
    /// Events that left.
    pub events: u64,
    /// Records that came after their event had left.
    pub amendments: u64,
    /// Records that were there already, byte for byte.
    pub duplicates: u64,
    /// Events that left before their end because memory was short.
    pub evicted: u64,
    /// Events that left without an end because their time was up.
    pub timed_out: u64,
    /// Events that were still open when the input ended.
    pub unfinished: u64,
    /// EOE of events of which nothing else was seen.
    pub stray_ends: u64,
    /// Serial numbers that never came, a lower bound for lost events. Always 0 for logs. See [`Assembler::new`].
    pub serial_gaps: u64,
    /// Times that the serial number went somewhere else altogether (the kernel was booted again).
    pub serial_restarts: u64,
}

/// How long an event waits for a SYSCALL record when it has only records that can also stand alone.
const LINGER: Duration = Duration::from_millis(200);

/// Puts events together. See the module's head for what it promises.
#[derive(Debug)]
pub struct Assembler {
    limits: Limits,
    title_completes: bool,
    now: Option<Instant>,
    nodes: Nodes,
    open: Open,
    closed: Closed,
    serials: Option<Serials>,
    counters: AssembleCounters,
}

impl Assembler {
    /// For the live stream of this kernel.
    ///
    /// Gaps between serial numbers are counted: the kernel takes a number when it starts the first record of an event and
    /// never gives it back, and what rules, exclude filters and a full backlog suppress is dropped before that. So
    /// a number that stays away for the whole timeout is an event of which every record was lost afterwards (rate limit, full
    /// buffer of the socket). It is a lower bound: an event that the backlog refused left no number. Records that the
    /// reader drops itself must be told by [`Self::skip`].
    pub fn new(limits: Limits) -> Self {
        Self {
            serials: Some(Serials::new()),
            ..Self::for_logs(limits)
        }
        .title_completes(false)
    }

    /// For logs: they are filtered and put together from pieces, so that gaps mean nothing, and auditd does not write EOE, so
    /// that PROCTITLE, the last record of a system call, completes. The instants given are log time made monotonic,
    /// as [`crate::logs::LogClock`] does it.
    pub fn for_logs(limits: Limits) -> Self {
        let limits = Limits {
            max_events: limits.max_events.max(1),
            max_bytes: limits.max_bytes.min(1 << 31),
            ..limits
        };
        Self {
            limits,
            title_completes: true,
            now: None,
            nodes: Nodes::default(),
            open: Open::default(),
            closed: Closed::new(),
            serials: None,
            counters: AssembleCounters::default(),
        }
    }

    fn title_completes(mut self, yes: bool) -> Self {
        self.title_completes = yes;
        self
    }

    /// What was seen so far.
    pub fn counters(&self) -> AssembleCounters {
        AssembleCounters {
            serial_gaps: self.serials.as_ref().map_or(0, Serials::missing),
            serial_restarts: self.serials.as_ref().map_or(0, Serials::restarts),
            ..self.counters
        }
    }

    /// Takes one record. Whatever left because of it is added to `out`, in order.
    #[allow(clippy::too_many_arguments)]
    pub fn push(
        &mut self,
        node: Option<&[u8]>,
        kind: RecordType,
        millis: u64,
        serial: u32,
        body: &[u8],
        now: Instant,
        out: &mut Vec<Assembled>,
    ) {
        self.counters.records += 1;
        let now = self.advance(now);
        let node = node.map_or(0, |name| self.nodes.id(name));
        if let Some(serials) = &mut self.serials
            && node == 0
        {
            serials.observe(serial, now + self.limits.timeout);
        }
        let key = Key {
            millis,
            serial,
            node,
        };
        match self.open.find(key) {
            Some(slot) if kind == RecordType::EOE => self.close(slot, true, out),
            Some(slot) => self.add(slot, kind, body, now, out),
            None if self.closed.contains(key) => self.late(key, kind, body, out),
            None if kind == RecordType::EOE => self.counters.stray_ends += 1,
            None if kind.stands_alone() => {
                let mut event = Event::new(self.nodes.event_id(key));
                event.push(kind, body);
                self.emit(key, event, true, out);
            }
            None => self.start(key, kind, body, now, out),
        }
    }

    /// Notes the serial number of a record of this machine that the reader drops on purpose, so that it is not taken for lost.
    pub fn skip(&mut self, serial: u32, now: Instant) {
        let now = self.advance(now);
        if let Some(serials) = &mut self.serials {
            serials.observe(serial, now + self.limits.timeout);
        }
    }

    /// Forgets the last serial number: after this the next one may be any, without a gap. For a new socket.
    pub fn forget_serial(&mut self) {
        if let Some(serials) = &mut self.serials {
            serials.forget();
        }
    }

    /// Closes what has waited long enough. To be called at [`Self::next_deadline`], and after the input was read empty, so
    /// that records which are there already still reach their events.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Assembled>) {
        let now = self.advance(now);
        for list in [List::Brief, List::Full] {
            while let Some((slot, deadline)) = self.open.oldest(list)
                && deadline <= now
            {
                if list == List::Full {
                    self.counters.timed_out += 1;
                }
                self.close(slot, list == List::Brief, out);
            }
        }
        if let Some(serials) = &mut self.serials {
            serials.expire(now);
        }
    }

    /// When [`Self::tick`] has something to do; `None` while nothing is open.
    pub fn next_deadline(&self) -> Option<Instant> {
        let open = [List::Brief, List::Full]
            .into_iter()
            .filter_map(|list| self.open.oldest(list));
        open.map(|(_, deadline)| deadline)
            .chain(self.serials.as_ref().and_then(Serials::next_deadline))
            .min()
    }

    /// Hands out what is open, oldest first: the input has ended.
    pub fn finish(&mut self, out: &mut Vec<Assembled>) {
        while let Some((slot, list)) = self.open.oldest_of_all() {
            if list == List::Full {
                self.counters.unfinished += 1;
            }
            self.close(slot, list == List::Brief, out);
        }
    }

    /// Events that are open, and their bytes.
    pub fn open(&self) -> (usize, usize) {
        (self.open.len(), self.open.bytes())
    }

    /// Time never goes back, whatever the caller's clock does.
    fn advance(&mut self, now: Instant) -> Instant {
        let now = self.now.map_or(now, |before| before.max(now));
        self.now = Some(now);
        now
    }

    fn start(
        &mut self,
        key: Key,
        kind: RecordType,
        body: &[u8],
        now: Instant,
        out: &mut Vec<Assembled>,
    ) {
        while self.open.len() >= self.limits.max_events {
            self.evict(out);
        }
        let (list, wait) = match kind.may_stand_alone() {
            true => (List::Brief, self.limits.timeout.min(LINGER)),
            false => (List::Full, self.limits.timeout),
        };
        let mut event = Event::new(self.nodes.event_id(key));
        event.push(kind, body);
        self.open.insert(key, event, list, now + wait);
        self.shrink(out);
        if self.title_completes
            && kind == RecordType::PROCTITLE
            && let Some(slot) = self.open.find(key)
        {
            self.close(slot, true, out);
        }
    }

    fn add(
        &mut self,
        slot: u32,
        kind: RecordType,
        body: &[u8],
        now: Instant,
        out: &mut Vec<Assembled>,
    ) {
        if !self.open.push(slot, kind, body) {
            self.counters.duplicates += 1;
            return;
        }
        if self.title_completes && kind == RecordType::PROCTITLE {
            self.close(slot, true, out);
        } else {
            if !kind.may_stand_alone() {
                self.open.wait_longer(slot, now + self.limits.timeout);
            }
            self.shrink(out);
        }
    }

    /// A record of an event that has left.
    fn late(&mut self, key: Key, kind: RecordType, body: &[u8], out: &mut Vec<Assembled>) {
        if kind == RecordType::EOE {
            return;
        }
        if self.closed.note(key, kind, body) {
            self.counters.amendments += 1;
            out.push(Assembled::Amendment {
                id: self.nodes.event_id(key),
                kind,
                body: body.to_vec(),
            });
        } else {
            self.counters.duplicates += 1;
        }
    }

    fn shrink(&mut self, out: &mut Vec<Assembled>) {
        while self.open.bytes() > self.limits.max_bytes {
            self.evict(out);
        }
    }

    fn evict(&mut self, out: &mut Vec<Assembled>) {
        if let Some((slot, _)) = self.open.oldest_of_all() {
            self.counters.evicted += 1;
            self.close(slot, false, out);
        }
    }

    fn close(&mut self, slot: u32, complete: bool, out: &mut Vec<Assembled>) {
        if let Some((key, event)) = self.open.remove(slot) {
            self.emit(key, event, complete, out);
        }
    }

    fn emit(&mut self, key: Key, mut event: Event, complete: bool, out: &mut Vec<Assembled>) {
        event.complete = complete;
        self.closed.insert(key, &event);
        self.counters.events += 1;
        out.push(Assembled::Event(event));
    }
}

#[cfg(test)]
mod tests;
