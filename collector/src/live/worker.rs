//! What the thread `audit-reader` does.

use std::collections::{VecDeque, vec_deque::Drain};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};
use std::{io, mem};

use rustix::event::{EventfdFlags, eventfd};
use smallvec::SmallVec;

use super::audit_socket::AuditSocket;
use super::batch::Batch;
use super::counters::{Counters, add};
use super::sink::{Offer, Sink};
use super::{TURN, wait_readable};
use crate::proc_events::{Connector, MAX_DRAIN};
use crate::realtime::Held;

/// Bytes of records that are held for a next stage that does not take them. What is more stays in the socket until that is
/// half full.
pub const HELD_BYTES: usize = 16 << 20;
/// Held batches grow to this before the next one is begun.
const MERGED_BYTES: usize = 512 << 10;
/// How often the socket is looked at while no more can be held.
const FULL_TURN: Duration = Duration::from_millis(10);
/// How full the socket may become before records are dropped. The kernel waits for us at 1.
const PRESSURE: f64 = 0.5;
/// Process events that one batch may hold: all that was queued when a reader that was not run for a second comes back.
const MAX_PROC_EVENTS: usize = MAX_DRAIN as usize;
/// Silence after which the stream that was left has nothing more to say.
const SILENCE: Duration = Duration::from_millis(20);
/// How long the kernel's thread is waited for in a change of mode.
const CHANGE: Duration = Duration::from_millis(1500);
/// How long the end may take.
const END: Duration = Duration::from_millis(400);

/// What the thread is told from outside.
pub(super) enum Order {
    /// Read this socket too, from now on the first one; `first` was read from it already.
    Join {
        audit: Box<AuditSocket>,
        first: Batch,
        done: SyncSender<()>,
    },
    /// Read the former socket empty and close it.
    Leave { done: SyncSender<()> },
}

/// The thread's bell: it rings when the next stage has room, when there are orders, and at the end.
#[derive(Debug)]
pub(super) struct Line {
    bell: OwnedFd,
    stop: AtomicBool,
    ordered: AtomicBool,
    orders: Mutex<Vec<Order>>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Join { .. } => "Join",
            Self::Leave { .. } => "Leave",
        })
    }
}

impl Line {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stop: AtomicBool::new(false),
            ordered: AtomicBool::new(false),
            orders: Mutex::default(),
        }))
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn order(&self, order: Order) {
        self.orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(order);
        self.ordered.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }
}

impl Wake for Line {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

pub(super) struct Worker {
    audit: AuditSocket,
    /// During a change of mode, the socket that is about to be left.
    former: Option<Box<AuditSocket>>,
    /// Who waits for that, and since when.
    leaving: Option<Leaving>,
    connector: Option<Connector>,
    sink: Box<dyn Sink>,
    counters: Arc<Counters>,
    heartbeat: Option<OwnedFd>,
    line: Arc<Line>,
    waker: Waker,
    /// What is being read.
    open: Batch,
    /// What the next stage did not take yet, oldest first.
    held: VecDeque<Batch>,
    held_bytes: usize,
    realtime: Option<Held>,
}

impl Worker {
    pub(super) fn new(
        audit: AuditSocket,
        connector: Option<Connector>,
        sink: Box<dyn Sink>,
        counters: Arc<Counters>,
        heartbeat: Option<OwnedFd>,
        line: Arc<Line>,
        first: Batch,
    ) -> Self {
        Self {
            audit,
            former: None,
            leaving: None,
            connector,
            sink,
            counters,
            heartbeat,
            waker: Waker::from(line.clone()),
            line,
            open: first,
            held: VecDeque::new(),
            held_bytes: 0,
            realtime: None,
        }
    }

    /// Gives the calling thread, which is the one that will run this, a real-time priority.
    pub(super) fn take_priority(&mut self, priority: u8) -> io::Result<()> {
        let counters = Arc::clone(&self.counters.realtime);
        self.realtime = Some(Held::take("audit-reader", priority, counters)?);
        Ok(())
    }

    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut wanted = true;
        while wanted && !self.line.stop.load(Ordering::Acquire) {
            self.obey()?;
            self.leave_when_ready()?;
            self.read()?;
            wanted = self.hand_on();
            self.beat();
            if let Some(held) = &self.realtime {
                held.look();
            }
        }
        if wanted { self.finish() } else { Ok(()) }
    }

    /// Waits for something to read, a turn at most, and reads it.
    fn read(&mut self) -> io::Result<()> {
        let began_empty = self.open.is_empty();
        if self.held.is_empty() && self.former.is_none() {
            self.audit.read_waiting(&mut self.open, &self.counters)?;
        } else {
            let full = self.is_full();
            let mut fds: SmallVec<[BorrowedFd<'_>; 3]> = SmallVec::new();
            fds.push(self.line.bell.as_fd());
            if !full {
                fds.push(self.audit.as_fd());
                fds.extend(self.former.as_ref().map(|former| former.as_fd()));
            }
            wait_readable(&fds, if full { FULL_TURN } else { TURN })?;
            drop(fds);
            self.line.silence();
            self.read_now()?;
        }
        if began_empty {
            self.open.received = Instant::now();
        }
        self.read_connector()
    }

    /// Reads what is queued, without waiting. When nothing more can be held it stays in the socket until that is half full.
    fn read_now(&mut self) -> io::Result<()> {
        let full = self.is_full();
        if full && self.audit.fill().max(self.former_fill()) < PRESSURE {
            return Ok(());
        }
        if let Some(former) = &mut self.former {
            former.read(&mut self.open, &self.counters)?;
        }
        self.audit.read(&mut self.open, &self.counters)?;
        if full {
            self.drop_open();
        }
        Ok(())
    }

    fn former_fill(&self) -> f64 {
        self.former.as_ref().map_or(0.0, |former| former.fill())
    }

    fn read_connector(&mut self) -> io::Result<()> {
        let Some(connector) = &mut self.connector else {
            return Ok(());
        };
        let drained = connector.drain(&mut self.open.proc_events, MAX_PROC_EVENTS)?;
        self.open.connector_overrun |= drained.overrun;
        add(&self.counters.connector_messages, drained.messages);
        add(&self.counters.connector_missing, drained.missing);
        add(&self.counters.connector_overruns, drained.overrun.into());
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.held_bytes >= HELD_BYTES
    }

    /// Offers what is there to the next stage and holds what that does not take. `false`: nobody wants any more.
    fn hand_on(&mut self) -> bool {
        while let Some(oldest) = self.held.front_mut() {
            let weight = oldest.weight();
            match self.sink.offer(oldest, &self.waker) {
                Offer::Taken => {
                    add(&self.counters.batches, 1);
                    self.held.pop_front();
                    self.held_bytes -= weight;
                }
                Offer::Full => break,
                Offer::Closed => return false,
            }
        }
        if self.open.is_empty() {
            return true;
        }
        if self.held.is_empty() {
            match self.sink.offer(&mut self.open, &self.waker) {
                Offer::Taken => {
                    add(&self.counters.batches, 1);
                    return true;
                }
                Offer::Full => {}
                Offer::Closed => return false,
            }
        }
        add(&self.counters.held_turns, 1);
        // What cannot be held keeps its process events and the mark of what was dropped, for the next turn.
        if !self.is_full() {
            self.hold();
        }
        true
    }

    fn hold(&mut self) {
        self.held_bytes += self.open.weight();
        if let Some(newest) = self.held.back_mut()
            && newest.byte_len() + self.open.byte_len() <= MERGED_BYTES
            && newest.append(&mut self.open)
        {
            return;
        }
        self.held.push_back(self.open.take());
    }

    fn obey(&mut self) -> io::Result<()> {
        if !self.line.ordered.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let orders = mem::take(
            &mut *self
                .line
                .orders
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for order in orders {
            let done = match order {
                Order::Join { audit, first, done } => {
                    self.former = Some(Box::new(mem::replace(&mut self.audit, *audit)));
                    // A batch of its own: it may hold again what comes through the other socket.
                    if !self.open.is_empty() {
                        self.hold();
                    }
                    self.open = first;
                    done
                }
                Order::Leave { done } => {
                    let now = Instant::now();
                    self.leaving = Some(Leaving {
                        done,
                        until: now + CHANGE,
                        quiet_since: now,
                        records: self.counters.records.load(Ordering::Relaxed),
                    });
                    continue;
                }
            };
            let _ = done.try_send(());
        }
        Ok(())
    }

    /// The kernel's thread looks for the owner only before it begins with its queue, and until that was empty once it goes on as before:
    /// what is in there comes through the former socket alone. So that is left when records come through the new one, or none come at all.
    fn leave_when_ready(&mut self) -> io::Result<()> {
        let Some(leaving) = &mut self.leaving else {
            return Ok(());
        };
        let (now, records) = (
            Instant::now(),
            self.counters.records.load(Ordering::Relaxed),
        );
        if records != leaving.records {
            (leaving.records, leaving.quiet_since) = (records, now);
        }
        let quiet = now.duration_since(leaving.quiet_since) >= 2 * TURN;
        if !(self.audit.flows() || quiet || now >= leaving.until) {
            return Ok(());
        }
        if let Some(former) = self.former.take() {
            self.leave(*former)?;
        }
        if let Some(leaving) = self.leaving.take() {
            let _ = leaving.done.try_send(());
        }
        Ok(())
    }

    /// Reads what is queued in a socket that nothing more is sent to, or nothing that the other socket does not get as well, and
    /// closes it.
    fn leave(&mut self, mut former: AuditSocket) -> io::Result<()> {
        for _ in 0..former.leave_group()? {
            let before = self.counters.records.load(Ordering::Relaxed);
            former.read(&mut self.open, &self.counters)?;
            if self.counters.records.load(Ordering::Relaxed) == before {
                break;
            }
            if self.is_full() {
                self.drop_open();
            }
            if !self.hand_on() {
                break;
            }
            self.beat();
        }
        Ok(())
    }

    fn drop_open(&mut self) {
        let records = self.open.drop_records();
        add(&self.counters.queue_dropped_batches, (records > 0).into());
        add(&self.counters.queue_dropped_records, records);
    }

    /// The stream was left: what is still on its way is read, and everything is handed on, within [`END`].
    fn finish(&mut self) -> io::Result<()> {
        let until = Instant::now() + END;
        loop {
            let before = self.counters.records.load(Ordering::Relaxed);
            self.read_now()?;
            self.read_connector()?;
            if !self.hand_on() {
                return Ok(());
            }
            self.beat();
            if Instant::now() >= until {
                break;
            }
            if self.counters.records.load(Ordering::Relaxed) == before {
                if self.held.is_empty() && self.open.is_empty() && !self.more_comes()? {
                    break;
                }
                if !self.held.is_empty() {
                    wait_readable(&[self.line.bell.as_fd()], FULL_TURN)?;
                    self.line.silence();
                }
            }
        }
        self.give_up_held();
        Ok(())
    }

    /// Is there something to read within [`SILENCE`]?
    fn more_comes(&self) -> io::Result<bool> {
        let before = Instant::now();
        wait_readable(&[self.audit.as_fd()], SILENCE)?;
        Ok(before.elapsed() < SILENCE)
    }

    fn give_up_held(&mut self) {
        let mut lost = self.open.drop_records();
        let held: Drain<'_, Batch> = self.held.drain(..);
        lost += held.map(|batch| batch.len() as u64).sum::<u64>();
        self.held_bytes = 0;
        add(&self.counters.queue_dropped_batches, (lost > 0).into());
        add(&self.counters.queue_dropped_records, lost);
    }

    /// A full pipe means that the watchdog has bytes enough, a broken one that it is gone.
    fn beat(&self) {
        if let Some(fd) = &self.heartbeat {
            let _ = rustix::io::write(fd, b".");
        }
    }
}

/// A change of mode that is nearly done.
struct Leaving {
    done: SyncSender<()>,
    until: Instant,
    quiet_since: Instant,
    records: u64,
}
