//! A promise of the writer: kept when what was handed over is durable.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use tokio::sync::oneshot;

use crate::error::{Result, StoreError};

/// Resolves when the flush that covers an operation has returned. Await it, or [`Ticket::wait`] from a thread.
#[derive(Debug)]
#[must_use = "nothing says that it is durable until the ticket is waited for"]
pub struct Ticket<T = ()>(oneshot::Receiver<Result<T>>);

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Promise<T = ()>(oneshot::Sender<Result<T>>);

pub(crate) fn ticket<T>() -> (Promise<T>, Ticket<T>) {
    let (sender, receiver) = oneshot::channel();
    (Promise(sender), Ticket(receiver))
}

impl<T> Promise<T> {
    /// Nobody may be waiting any more; that is fine.
    pub(crate) fn keep(self, result: Result<T>) {
        let _ = self.0.send(result);
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|r| r.unwrap_or(Err(StoreError::Closed)))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<T> Ticket<T> {
    /// The result when it is there; does not wait. Once it was given, the ticket has nothing more to say.
    pub(crate) fn try_wait(&mut self) -> Option<Result<T>> {
        match self.0.try_recv() {
            Ok(result) => Some(result),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(StoreError::Closed)),
        }
    }

    /// Blocks this thread until it is kept. Not for a thread that drives async tasks: await the ticket there.
    pub fn wait(self) -> Result<T> {
        // tokio's own blocking wait panics inside a runtime; this one is merely slow there.
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut ticket = pin!(self);
        loop {
            match ticket.as_mut().poll(&mut context) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}
