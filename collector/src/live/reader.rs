//! The thread `audit-reader`.

use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use std::{io, mem};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc::{Permit, Sender};

use super::audit_socket::AuditSocket;
use super::batch::Batch;
use super::counters::{Counters, add};
use super::wait_readable;
use crate::control::{Control, ControlError};
use crate::proc_events::{Connector, ConnectorError};
use crate::status::Change;

/// How to get the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As the owner when there is none, else shared.
    #[default]
    Auto,
    /// As the owner: the kernel waits for us (back-pressure), nobody else may be the owner.
    Exclusive,
    /// From the multicast group, beside the owner: what we do not read in time is gone, and counted.
    Shared,
}

/// What [`Mode`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveMode {
    /// We own the stream.
    Exclusive,
    /// We listen beside an owner, or without one.
    Shared,
}

/// How the reader is to run.
#[derive(Debug)]
pub struct ReaderOptions {
    /// How to get the records.
    pub mode: Mode,
    /// Receive buffer of the audit socket, in bytes; the kernel doubles it.
    pub receive_buffer: usize,
    /// Listen to the proc connector too?
    pub proc_events: bool,
    /// Write end of a non-blocking pipe. It gets a byte at least every 50 ms while the thread makes progress.
    pub heartbeat: Option<OwnedFd>,
    /// Real-time priority of the thread, 1 to 10. Refused without harm where the system forbids it.
    pub realtime: Option<u8>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            receive_buffer: 32 << 20,
            proc_events: true,
            heartbeat: None,
            realtime: None,
        }
    }
}

/// Why there is no live stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The kernel has no audit.
    #[error("this kernel has no audit; boot one with CONFIG_AUDIT=y and CONFIG_AUDITSYSCALL=y")]
    NoAudit,
    /// Rights are missing.
    #[error(
        "may not read the audit stream as {0}; run as root in the initial namespaces, \
         with CAP_AUDIT_CONTROL to own it or CAP_AUDIT_READ to listen"
    )]
    NotPermitted(&'static str),
    /// Somebody else owns the stream.
    #[error(
        "process {pid} owns the audit stream already (auditd?); stop it, or listen beside it with mode \"shared\""
    )]
    OwnerExists {
        /// The owner, 0 when it could not be asked.
        pid: u32,
    },
    /// The kernel did not answer.
    #[error("the kernel did not answer within {0:?} when asked for the audit stream; try again")]
    NoAnswer(Duration),
    /// No process events.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// Anything else.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The stream was left, but not in order.
    #[error("left the audit stream, but the kernel still names us as its owner: {0}")]
    Unregister(ControlError),
    /// The thread ended by itself before it was asked to.
    #[error("the reader of the audit stream ended with an error: {0}")]
    Died(String),
}

const ANSWER: Duration = Duration::from_secs(2);
/// Longest wait in poll: a heartbeat is due every 50 ms.
const TURN: Duration = Duration::from_millis(40);
/// How long a full channel is waited for.
const QUEUE_WAIT: Duration = Duration::from_millis(100);
/// Process events that one batch may hold.
const MAX_PROC_EVENTS: usize = 1 << 16;

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> LiveError {
    move |source| match source.raw_os_error() {
        Some(libc::EPROTONOSUPPORT) => LiveError::NoAudit,
        Some(libc::EPERM | libc::EACCES | libc::ECONNREFUSED) => LiveError::NotPermitted(what),
        _ if source.kind() == io::ErrorKind::TimedOut => LiveError::NoAnswer(ANSWER),
        _ => LiveError::Io { what, source },
    }
}

/// The running thread. Dropping it stops it like [`Reader::stop`], which tells about errors.
#[derive(Debug)]
pub struct Reader {
    mode: ActiveMode,
    counters: Arc<Counters>,
    realtime_refused: Option<String>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

#[derive(Debug)]
struct Stop {
    asked: AtomicBool,
    wake: OwnedFd,
}

impl Reader {
    /// Opens the sockets, becomes owner or listener, and starts the thread. Records may have arrived when it returns.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is left behind then.
    pub fn start(options: ReaderOptions, tx: Sender<Batch>) -> Result<Self, LiveError> {
        let counters = Arc::new(Counters::default());
        // First the processes, then their records.
        let connector = match options.proc_events {
            true => Some(Connector::open(options.receive_buffer / 4)?),
            false => None,
        };
        let mut first = Batch::new();
        let (audit, mode) = open_audit(&options, &mut first, &counters)?;
        let stop = Arc::new(Stop {
            asked: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|e| io_error("make an eventfd")(e.into()))?,
        });
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let worker = {
            let (counters, stop) = (counters.clone(), stop.clone());
            move || {
                let refused = options
                    .realtime
                    .and_then(|p| collector_sys::set_realtime(0, Some(p)).err())
                    .map(|e| e.to_string());
                let _ = ready.send(refused);
                let mut worker = Worker {
                    audit,
                    connector,
                    tx,
                    counters,
                    heartbeat: options.heartbeat,
                    stop,
                    stalled: false,
                    carried: first,
                };
                let result = worker.run();
                if let Err(e) = &result {
                    tracing::error!("the reader of the audit stream ends: {e}");
                }
                result.map_err(|e| e.to_string())
            }
        };
        let thread = thread::Builder::new()
            .name("audit-reader".into())
            .spawn(worker)
            .map_err(io_error("start the reader's thread"))?;
        Ok(Self {
            mode,
            counters,
            realtime_refused: is_ready.recv().ok().flatten(),
            stop,
            thread: Some(thread),
        })
    }

    /// Owner or listener?
    pub fn mode(&self) -> ActiveMode {
        self.mode
    }

    /// The counters; they live on after the reader.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Why the real-time priority was refused, if it was asked for and refused.
    pub fn realtime_refused(&self) -> Option<&str> {
        self.realtime_refused.as_deref()
    }

    /// Did the thread end by itself (a broken socket, or the receiver is gone)?
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Leaves the stream, hands on what is still queued, and ends the thread. Blocks for some milliseconds, two seconds
    /// at most; the receiver should still take batches meanwhile.
    ///
    /// # Errors
    /// [`LiveError::Unregister`] and [`LiveError::Died`]; the thread has ended in any case.
    pub fn stop(mut self) -> Result<(), LiveError> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), LiveError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        // The command goes through a socket of its own while the thread still drains: the kernel may have to write
        // records before it can answer, and the answer must not queue behind records.
        let unregistered = match self.mode {
            ActiveMode::Exclusive => Control::open().and_then(|mut control| {
                control.set(&Change {
                    pid: Some(0),
                    ..Change::default()
                })
            }),
            ActiveMode::Shared => Ok(()),
        };
        self.stop.asked.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.stop.wake, &1u64.to_ne_bytes());
        match thread.join() {
            Ok(Ok(())) => unregistered.map_err(LiveError::Unregister),
            Ok(Err(why)) => Err(LiveError::Died(why)),
            Err(_) => Err(LiveError::Died("it panicked".into())),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Err(e) = self.shut_down() {
            tracing::warn!("{e}");
        }
    }
}

fn open_audit(
    options: &ReaderOptions,
    first: &mut Batch,
    counters: &Counters,
) -> Result<(AuditSocket, ActiveMode), LiveError> {
    let open =
        || AuditSocket::open(options.receive_buffer).map_err(io_error("open the audit socket"));
    if options.mode != Mode::Shared {
        let mut audit = open()?;
        match audit.register(ANSWER, first, counters) {
            Ok(()) => return Ok((audit, ActiveMode::Exclusive)),
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {
                if options.mode == Mode::Exclusive {
                    let pid = Control::open()
                        .and_then(|mut c| c.status())
                        .map_or(0, |s| s.pid);
                    return Err(LiveError::OwnerExists { pid });
                }
            }
            Err(e) => return Err(io_error("become the owner of the audit stream")(e)),
        }
    }
    let audit = open()?;
    audit
        .join()
        .map_err(io_error("join the audit multicast group"))?;
    Ok((audit, ActiveMode::Shared))
}

struct Worker {
    audit: AuditSocket,
    connector: Option<Connector>,
    tx: Sender<Batch>,
    counters: Arc<Counters>,
    heartbeat: Option<OwnedFd>,
    stop: Arc<Stop>,
    /// The channel was full for the whole wait; until it takes something again nothing is waited for.
    stalled: bool,
    /// What a batch that could not be delivered leaves to the next one: its process events and marks.
    carried: Batch,
}

impl Worker {
    fn run(&mut self) -> io::Result<()> {
        let mut closed = false;
        while !closed && !self.stop.asked.load(Ordering::Acquire) {
            closed = !self.turn()?;
            self.beat();
            let mut fds: smallvec::SmallVec<[_; 3]> =
                smallvec::smallvec![self.audit.as_fd(), self.stop.wake.as_fd()];
            fds.extend(self.connector.as_ref().map(AsFd::as_fd));
            wait_readable(&fds, TURN)?;
        }
        // The kernel sends nothing more to us. Whatever fills a multicast socket meanwhile must not hold us, though.
        for _ in 0..256 {
            let before = self.counters.records.load(Ordering::Relaxed);
            if closed || !self.turn()? || self.counters.records.load(Ordering::Relaxed) == before {
                break;
            }
            self.beat();
        }
        Ok(())
    }

    /// Reads what is there and hands it on. `false`: nobody receives any more.
    fn turn(&mut self) -> io::Result<bool> {
        let mut batch = mem::take(&mut self.carried);
        batch.received = Instant::now();
        self.audit.read(&mut batch, &self.counters)?;
        if let Some(connector) = &mut self.connector {
            let drained = connector.drain(&mut batch.proc_events, MAX_PROC_EVENTS)?;
            batch.connector_overrun |= drained.overrun;
            add(&self.counters.connector_messages, drained.messages);
            add(&self.counters.connector_missing, drained.missing);
            add(&self.counters.connector_overruns, drained.overrun.into());
        }
        Ok(batch.is_empty() || self.deliver(batch))
    }

    fn deliver(&mut self, mut batch: Batch) -> bool {
        let wait = if self.stalled {
            Duration::ZERO
        } else {
            QUEUE_WAIT
        };
        match reserve(&self.tx, wait, || beat(self.heartbeat.as_ref())) {
            Reserved::Place(place) => {
                place.send(batch);
                add(&self.counters.batches, 1);
                self.stalled = false;
                true
            }
            Reserved::Full => {
                let records = batch.drop_records();
                // Without records it is only the rest of an earlier one.
                add(&self.counters.queue_dropped_batches, (records > 0).into());
                add(&self.counters.queue_dropped_records, records);
                self.stalled = true;
                self.carried = batch;
                true
            }
            Reserved::Closed => false,
        }
    }

    fn beat(&self) {
        beat(self.heartbeat.as_ref());
    }
}

/// A full pipe means that the watchdog has bytes enough, a broken one that it is gone.
fn beat(heartbeat: Option<&OwnedFd>) {
    if let Some(fd) = heartbeat {
        let _ = rustix::io::write(fd, b".");
    }
}

enum Reserved<'a> {
    Place(Permit<'a, Batch>),
    Full,
    Closed,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A place in the channel, waited for at most `limit` from a thread that is not tokio's.
fn reserve(tx: &Sender<Batch>, limit: Duration, mut beat: impl FnMut()) -> Reserved<'_> {
    use tokio::sync::mpsc::error::TrySendError;
    match tx.try_reserve() {
        Ok(place) => return Reserved::Place(place),
        Err(TrySendError::Closed(())) => return Reserved::Closed,
        Err(TrySendError::Full(())) if limit.is_zero() => return Reserved::Full,
        Err(TrySendError::Full(())) => {}
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut place = pin!(tx.reserve());
    let until = Instant::now() + limit;
    loop {
        match place.as_mut().poll(&mut context) {
            Poll::Ready(Ok(place)) => return Reserved::Place(place),
            Poll::Ready(Err(_)) => return Reserved::Closed,
            Poll::Pending => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Reserved::Full;
        }
        beat();
        thread::park_timeout(left.min(TURN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_channel_is_waited_for_and_then_given_up() {
        let (tx, mut rx) = tokio::sync::mpsc::channel(1);
        assert!(matches!(
            reserve(&tx, Duration::ZERO, || ()),
            Reserved::Place(_)
        ));
        tx.try_send(Batch::new()).unwrap();
        assert!(matches!(
            reserve(&tx, Duration::ZERO, || ()),
            Reserved::Full
        ));
        let (began, mut beats) = (Instant::now(), 0);
        assert!(matches!(
            reserve(&tx, Duration::from_millis(90), || beats += 1),
            Reserved::Full
        ));
        assert!(
            began.elapsed() >= Duration::from_millis(90) && beats >= 2,
            "{beats}"
        );

        thread::scope(|scope| {
            scope.spawn(|| rx.blocking_recv());
            assert!(matches!(
                reserve(&tx, Duration::from_secs(10), || ()),
                Reserved::Place(_)
            ));
        });
        drop(rx);
        assert!(matches!(
            reserve(&tx, Duration::from_secs(10), || ()),
            Reserved::Closed
        ));
    }
}
