//! The reader of the stream: how it is started, asked and stopped. Its thread is in [`super::worker`].

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::audit_socket::AuditSocket;
use super::batch::{Batch, Pool};
use super::counters::Counters;
use super::sink::{ChannelSink, InlineSink, Sink};
use super::switch::{Switch, own};
use super::worker::{Line, Worker};
use crate::control::{Control, ControlError};
use crate::proc_events::{Connector, ConnectorError, RECEIVE_BUFFER};
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
    /// Its receive buffer, in bytes; the kernel doubles it.
    pub connector_buffer: usize,
    /// Write end of a non-blocking pipe. It gets a byte at least every 50 ms while the thread makes progress.
    pub heartbeat: Option<OwnedFd>,
    /// Real-time priority of the thread, 1 to 10. Refused without harm where the system forbids it, and given up while the thread
    /// uses nearly all of a processor ([`crate::realtime::Held`]).
    pub realtime: Option<u8>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            receive_buffer: 32 << 20,
            proc_events: true,
            connector_buffer: RECEIVE_BUFFER,
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

/// How long the kernel may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// How long the kernel's own queue is waited for after the stream was left.
const BACKLOG: Duration = Duration::from_millis(400);

pub(super) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> LiveError {
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
    switch: Switch,
    counters: Arc<Counters>,
    realtime_refused: Option<String>,
    line: Arc<Line>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Reader {
    /// Opens the sockets, becomes owner or listener, and starts the thread. Records may have arrived when it returns.
    ///
    /// A channel of few places is enough: what the receiver has no time for is put together into larger batches meanwhile.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is left behind then.
    pub fn start(options: ReaderOptions, tx: Sender<Batch>) -> Result<Self, LiveError> {
        Self::start_into(options, Box::new(ChannelSink::new(tx)))
    }

    /// The same, but each batch is given to `take`, which runs in the reader's thread: cheapest where nothing slow
    /// stands behind it. While it runs nothing is read, so it must never wait. `Break` ends the thread.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is left behind then.
    pub fn start_inline(
        options: ReaderOptions,
        take: impl FnMut(&Batch) -> ControlFlow<()> + Send + 'static,
    ) -> Result<Self, LiveError> {
        Self::start_into(options, Box::new(InlineSink(take)))
    }

    fn start_into(options: ReaderOptions, sink: Box<dyn Sink>) -> Result<Self, LiveError> {
        let counters = Arc::new(Counters::default());
        // First the processes, then their records.
        let connector = match options.proc_events {
            true => Some(Connector::open(options.connector_buffer)?),
            false => None,
        };
        let mut first = Batch::pooled(&Arc::new(Pool::default()));
        let (audit, mode) = open_audit(&options, &mut first, &counters)?;
        let line = Line::new().map_err(io_error("make an eventfd"))?;
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let work = {
            let (counters, line) = (counters.clone(), line.clone());
            move || {
                let heartbeat = options.heartbeat;
                let mut worker =
                    Worker::new(audit, connector, sink, counters, heartbeat, line, first);
                let refused = options
                    .realtime
                    .and_then(|priority| worker.take_priority(priority).err())
                    .map(|e| e.to_string());
                let _ = ready.send(refused);
                let result = worker.run();
                if let Err(e) = &result {
                    tracing::error!("the reader of the audit stream ends: {e}");
                }
                result.map_err(|e| e.to_string())
            }
        };
        let thread = thread::Builder::new()
            .name("audit-reader".into())
            .spawn(work)
            .map_err(io_error("start the reader's thread"))?;
        Ok(Self {
            switch: Switch::new(mode, line.clone(), counters.clone(), options.receive_buffer),
            counters,
            realtime_refused: is_ready.recv().ok().flatten(),
            line,
            thread: Some(thread),
        })
    }

    /// Owner or listener?
    pub fn mode(&self) -> ActiveMode {
        self.switch.mode()
    }

    /// What changes the mode while the reader runs, for the thread that watches the kernel's status.
    pub fn switch(&self) -> Switch {
        self.switch.clone()
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

    /// Leaves the stream, hands on what is still queued here and in the kernel, and ends the thread. Blocks for some
    /// milliseconds, a second at most; the receiver should still take batches meanwhile. What the kernel still held when the
    /// time was over is in [`Counters::left_behind`].
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
        // The command goes through a socket of its own while the thread still reads: the kernel may have to write
        // records before it can answer, and the answer must not queue behind records.
        let unregistered = match self.mode() {
            ActiveMode::Exclusive => self.unregister(),
            ActiveMode::Shared => Ok(()),
        };
        self.line.stop();
        match thread.join() {
            Ok(Ok(())) => unregistered.map_err(LiveError::Unregister),
            Ok(Err(why)) => Err(LiveError::Died(why)),
            Err(_) => Err(LiveError::Died("it panicked".into())),
        }
    }

    /// Leaves the stream. What the kernel's queue held then still comes, as long as its thread has not seen the queue empty once
    /// (`kauditd_thread` in `kernel/audit.c` looks for the owner before it begins with the queue).
    fn unregister(&self) -> Result<(), ControlError> {
        let mut control = Control::open()?;
        control.set(&Change {
            pid: Some(0),
            ..Change::default()
        })?;
        let until = Instant::now() + BACKLOG;
        let mut left = control.status()?.backlog;
        while left > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
            left = control.status()?.backlog;
        }
        self.counters
            .left_behind
            .store(left.into(), Ordering::Relaxed);
        Ok(())
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
    let buffer = options.receive_buffer;
    if options.mode != Mode::Shared {
        match own(buffer, first, counters) {
            Ok(audit) => return Ok((audit, ActiveMode::Exclusive)),
            Err(LiveError::OwnerExists { .. }) if options.mode == Mode::Auto => {}
            Err(e) => return Err(e),
        }
    }
    let audit =
        AuditSocket::listening(buffer).map_err(io_error("join the audit multicast group"))?;
    Ok((audit, ActiveMode::Shared))
}
