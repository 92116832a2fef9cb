//! From owner to listener and back while records flow.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::audit_socket::AuditSocket;
use super::batch::Batch;
use super::counters::{Counters, add};
use super::reader::{ANSWER, ActiveMode, LiveError, io_error};
use super::worker::{Line, Order};
use crate::control::Control;
use crate::status::Change;

/// Changes the mode of a running [`super::Reader`]; made by [`super::Reader::switch`]. Clones change the same reader.
#[derive(Clone, Debug)]
pub struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: AtomicBool,
    one_at_a_time: Mutex<()>,
    line: Arc<Line>,
    counters: Arc<Counters>,
    buffer: usize,
}

impl Switch {
    pub(super) fn new(
        mode: ActiveMode,
        line: Arc<Line>,
        counters: Arc<Counters>,
        buffer: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            shared: AtomicBool::new(mode == ActiveMode::Shared),
            one_at_a_time: Mutex::default(),
            line,
            counters,
            buffer,
        }))
    }

    /// Owner or listener, as things stand.
    pub fn mode(&self) -> ActiveMode {
        if self.0.shared.load(Ordering::Acquire) {
            ActiveMode::Shared
        } else {
            ActiveMode::Exclusive
        }
    }

    /// Changes over, so that no record is missed: the new socket is read before the old one is left. What comes through both is a
    /// duplicate, which [`crate::Assembler`] knows by its id. Blocks for some milliseconds. To be what one is already opens the
    /// socket anew (an owner that the kernel gave up, because its queue was full for half a second, becomes one again).
    ///
    /// # Errors
    /// [`LiveError::OwnerExists`] and the rest of [`LiveError`]; the reader then goes on as it was.
    pub fn to(&self, mode: ActiveMode) -> Result<(), LiveError> {
        let inner = &*self.0;
        let _turn = inner
            .one_at_a_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut first = Batch::new();
        match mode {
            ActiveMode::Exclusive => {
                let audit = own(inner.buffer, &mut first, &inner.counters)?;
                self.join(audit, first)?;
            }
            ActiveMode::Shared => {
                let audit = AuditSocket::listening(inner.buffer)
                    .map_err(io_error("join the audit multicast group"))?;
                self.join(audit, first)?;
                // Through a socket of its own while the thread reads both: the answer must not queue behind records.
                let mut control = Control::open().map_err(LiveError::Unregister)?;
                let owner = control.status().map_err(LiveError::Unregister)?.pid;
                if owner == std::process::id() {
                    let nobody = Change {
                        pid: Some(0),
                        ..Change::default()
                    };
                    control.set(&nobody).map_err(LiveError::Unregister)?;
                }
            }
        }
        self.ask(|done| Order::Leave { done })?;
        inner
            .shared
            .store(mode == ActiveMode::Shared, Ordering::Release);
        add(&inner.counters.switches, 1);
        Ok(())
    }

    /// What [`super::Mode::Auto`] asks for when the kernel's status says that `owner` owns the stream (0: nobody): becomes
    /// the owner when there is none, and a listener when it is somebody else. Says what it came to, `None` when all
    /// is as it should be.
    ///
    /// # Errors
    /// Those of [`Switch::to`].
    pub fn follow(&self, owner: u32) -> Result<Option<ActiveMode>, LiveError> {
        let ours = std::process::id();
        // An owner that is gone stays in the status until the kernel next tries to send to it.
        let nobody = owner == 0 || !Path::new(&format!("/proc/{owner}")).exists();
        let wanted = match self.mode() {
            ActiveMode::Exclusive if owner == ours => return Ok(None),
            _ if nobody => ActiveMode::Exclusive,
            ActiveMode::Exclusive => ActiveMode::Shared,
            ActiveMode::Shared => return Ok(None),
        };
        match self.to(wanted) {
            // Somebody was quicker.
            Err(LiveError::OwnerExists { .. }) if self.mode() == ActiveMode::Shared => Ok(None),
            Err(LiveError::OwnerExists { .. }) => self
                .to(ActiveMode::Shared)
                .map(|()| Some(ActiveMode::Shared)),
            other => other.map(|()| Some(wanted)),
        }
    }

    fn join(&self, audit: AuditSocket, first: Batch) -> Result<(), LiveError> {
        self.ask(|done| Order::Join {
            audit: Box::new(audit),
            first,
            done,
        })
    }

    fn ask(
        &self,
        order: impl FnOnce(std::sync::mpsc::SyncSender<()>) -> Order,
    ) -> Result<(), LiveError> {
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        self.0.line.order(order(done));
        is_done
            .recv_timeout(2 * ANSWER)
            .map_err(|_| LiveError::Died("it took no order within four seconds".into()))
    }
}

/// A socket that owns the stream.
pub(super) fn own(
    buffer: usize,
    first: &mut Batch,
    counters: &Counters,
) -> Result<AuditSocket, LiveError> {
    AuditSocket::owning(buffer, ANSWER, first, counters).map_err(|e| match e.raw_os_error() {
        Some(libc::EEXIST) => LiveError::OwnerExists {
            pid: Control::open()
                .and_then(|mut c| c.status())
                .map_or(0, |s| s.pid),
        },
        _ => io_error("become the owner of the audit stream")(e),
    })
}
