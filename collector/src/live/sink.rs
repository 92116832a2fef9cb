//! Where the reader's batches go: a channel, or a function that runs in the reader's own thread.

use std::ops::ControlFlow;
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc::Sender;
use tokio_util::sync::PollSender;

use super::batch::Batch;

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// The batch was taken, and is empty now.
    Taken,
    /// No room; the waker is called when there is.
    Full,
    /// Nobody wants any more.
    Closed,
}

/// Takes batches, and never waits.
pub(super) trait Sink: Send {
    fn offer(&mut self, batch: &mut Batch, waker: &Waker) -> Offer;
}

pub(super) struct ChannelSink(PollSender<Batch>);

impl ChannelSink {
    pub(super) fn new(tx: Sender<Batch>) -> Self {
        Self(PollSender::new(tx))
    }
}

impl Sink for ChannelSink {
    fn offer(&mut self, batch: &mut Batch, waker: &Waker) -> Offer {
        match self.0.poll_reserve(&mut Context::from_waker(waker)) {
            Poll::Pending => Offer::Full,
            Poll::Ready(Err(_)) => Offer::Closed,
            Poll::Ready(Ok(())) => match self.0.send_item(batch.take()) {
                Ok(()) => Offer::Taken,
                Err(_) => Offer::Closed,
            },
        }
    }
}

/// Calls a function with each batch and uses the batch's memory again.
pub(super) struct InlineSink<F>(pub(super) F);

impl<F: FnMut(&Batch) -> ControlFlow<()> + Send> Sink for InlineSink<F> {
    fn offer(&mut self, batch: &mut Batch, _: &Waker) -> Offer {
        let flow = (self.0)(batch);
        batch.clear();
        match flow {
            ControlFlow::Continue(()) => Offer::Taken,
            ControlFlow::Break(()) => Offer::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordType;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn one_record() -> Batch {
        let mut batch = Batch::new();
        batch.push(RecordType::EOE, b"x");
        batch
    }

    #[test]
    fn a_full_channel_is_not_waited_for_and_tells_when_it_has_room() {
        let (tx, mut rx) = tokio::sync::mpsc::channel(1);
        let (mut sink, calls) = (ChannelSink::new(tx), Arc::new(Calls::default()));
        let waker = Waker::from(calls.clone());
        assert_eq!(sink.offer(&mut one_record(), &waker), Offer::Taken);
        let mut second = one_record();
        assert_eq!(sink.offer(&mut second, &waker), Offer::Full);
        assert_eq!((second.len(), calls.0.load(Ordering::SeqCst)), (1, 0));
        assert_eq!(rx.try_recv().unwrap().len(), 1);
        assert_eq!(calls.0.load(Ordering::SeqCst), 1);
        assert_eq!(sink.offer(&mut second, &waker), Offer::Taken);
        assert!(second.is_empty());
        drop(rx);
        assert_eq!(sink.offer(&mut one_record(), &waker), Offer::Closed);
    }

    #[test]
    fn a_function_takes_each_batch_until_it_has_enough() {
        let mut seen = 0;
        let mut sink = InlineSink(|batch: &Batch| {
            seen += batch.len();
            if seen < 2 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        let mut batch = one_record();
        assert_eq!(sink.offer(&mut batch, Waker::noop()), Offer::Taken);
        assert!(batch.is_empty());
        assert_eq!(sink.offer(&mut one_record(), Waker::noop()), Offer::Closed);
    }
}
