//! Numbers of a name: 1, 2, 3 and so on, never one twice, also not after a crash.
//!
//! What is stored is a number from which on none was handed out. It is written ahead of the numbers, so that most of them wait for no
//! flush; what was not used of it is skipped after a crash. Each name has a lock of its own, which is held while its number is written;
//! the lock on the names is held for a look only.

use std::sync::{Arc, Mutex};

use crate::area::put;
use crate::error::{Result, StoreError};
use crate::intake::lock;
use crate::shared::Shared;
use crate::store::Handle;
use crate::ticket::Ticket;
use crate::{keys, value};

/// Numbers that [`next_number`] hands out before the store writes again.
const LEASE: u64 = 16;

/// One name.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// The first that nobody has; 0 until it was read.
    pub(crate) next: u64,
    /// The first that the store does not know to be taken.
    pub(crate) limit: u64,
}

fn named(shared: &Shared, name: &str) -> Arc<Mutex<Counter>> {
    let mut counters = lock(&shared.counters);
    match counters.get(name) {
        Some(counter) => Arc::clone(counter),
        None => Arc::clone(counters.entry(name.to_owned()).or_default()),
    }
}

/// What the store knows, where nobody asked yet.
fn load(shared: &Shared, name: &str, counter: &mut Counter) -> Result<()> {
    if counter.next > 0 {
        return Ok(());
    }
    let stored = value::get(&shared.db, &keys::named(keys::COUNTER, name, &[]))?;
    let next = match stored.as_deref().map(<[u8; 8]>::try_from) {
        None => 1,
        Some(Ok(bytes)) => u64::from_be_bytes(bytes),
        Some(Err(_)) => {
            return Err(StoreError::corrupt(format!(
                "the counter {name} cannot be read"
            )));
        }
    };
    (counter.next, counter.limit) = (next, next);
    Ok(())
}

fn write(shared: &Shared, name: &str, limit: u64) -> Result<Ticket> {
    let key = keys::named(keys::COUNTER, name, &[]);
    put(shared, vec![(key, Some(limit.to_be_bytes().to_vec()))])
}

/// Next number of this name. After a crash up to 15 are skipped.
pub(crate) fn next_number(shared: &Shared, name: &str) -> Result<u64> {
    let counter = named(shared, name);
    // Held while the lease is written: whoever asks meanwhile waits for it, too.
    let mut counter = lock(&counter);
    load(shared, name, &mut counter)?;
    if counter.next >= counter.limit {
        let limit = counter.next + LEASE;
        write(shared, name, limit)?.wait()?;
        counter.limit = limit;
    }
    counter.next += 1;
    Ok(counter.next - 1)
}

/// Numbers of one name that are handed out without waiting for the store, as long as they are not used up faster than it writes.
///
/// A block of them is leased, which is durable before the first of it is handed out, and the next one is asked for when half of it is
/// used. What is left goes back when this goes away while the store is open; after a crash it is skipped: two blocks at most.
#[derive(Debug)]
pub struct Numbers {
    lease: Lease,
    office: Office,
}

impl Numbers {
    pub(crate) fn lease(handle: Arc<Handle>, name: &str, block: u64) -> Result<Self> {
        let mut numbers = Self {
            lease: Lease::new(block.max(2)),
            office: Office {
                counter: named(&handle.shared, name),
                handle,
                name: name.to_owned(),
            },
        };
        numbers.lease.refill(&mut numbers.office)?;
        Ok(numbers)
    }

    /// The next number. It waits for the store only when the present block is used up before the next one is durable.
    ///
    /// # Errors
    /// When the present block is used up and the next one cannot be had. No number is lost by that, and the next call asks again.
    // A number is not an item: there is always a next one, or a reason why not.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<u64> {
        self.lease.next(&mut self.office)
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let mut counter = lock(&self.office.counter);
        // Only the last of the name's numbers can go back: what lies before them somebody else may have.
        if let Some(unused) = self.lease.unused_before(counter.next) {
            counter.next = unused;
            counter.limit = counter.limit.min(unused);
        }
    }
}

/// Where leases come from.
trait Leases {
    /// Numbers that nobody else gets from now on, from and to (without it). They are not durable yet.
    fn reserve(&mut self, count: u64) -> Result<(u64, u64)>;
    /// Writes that everything that is reserved is taken.
    fn write(&mut self) -> Result<Ticket>;
}

#[derive(Debug)]
struct Office {
    handle: Arc<Handle>,
    name: String,
    counter: Arc<Mutex<Counter>>,
}

impl Leases for Office {
    fn reserve(&mut self, count: u64) -> Result<(u64, u64)> {
        let mut counter = lock(&self.counter);
        load(&self.handle.shared, &self.name, &mut counter)?;
        let from = counter.next;
        counter.next += count;
        Ok((from, counter.next))
    }

    fn write(&mut self) -> Result<Ticket> {
        let counter = lock(&self.counter);
        // Never less than somebody else wrote: the order of writing is that of this lock.
        let limit = counter.next.max(counter.limit);
        write(&self.handle.shared, &self.name, limit)
    }
}

/// A block that was asked for early.
#[derive(Debug)]
struct Ahead {
    from: u64,
    to: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Writing(Ticket),
    Durable,
    /// It could not be written; the numbers stay reserved.
    Failed,
}

/// The state of [`Numbers`].
#[derive(Debug)]
struct Lease {
    block: u64,
    /// These can be handed out: from and to (without it).
    next: u64,
    end: u64,
    ahead: Option<Ahead>,
}

impl Lease {
    fn new(block: u64) -> Self {
        Self {
            block,
            next: 0,
            end: 0,
            ahead: None,
        }
    }

    fn next(&mut self, leases: &mut impl Leases) -> Result<u64> {
        self.look();
        if self.next >= self.end {
            self.refill(leases)?;
        } else if self.end - self.next <= self.block / 2
            && let Err(error) = self.renew(leases)
        {
            tracing::warn!(%error, "numbers could not be leased ahead; asked again with the next one");
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Did the block that was asked for early come?
    fn look(&mut self) {
        if let Some(ahead) = &mut self.ahead
            && let State::Writing(ticket) = &mut ahead.state
        {
            match ticket.try_wait() {
                None => {}
                Some(Ok(())) => ahead.state = State::Durable,
                Some(Err(error)) => {
                    tracing::warn!(%error, "numbers could not be leased ahead; asked again");
                    ahead.state = State::Failed;
                }
            }
        }
    }

    /// The next block, asked for anew where that was not done or failed.
    fn asked(&mut self, leases: &mut impl Leases) -> Result<Ahead> {
        let mut ahead = match self.ahead.take() {
            Some(ahead) => ahead,
            None => {
                let (from, to) = leases.reserve(self.block)?;
                let state = State::Failed;
                Ahead { from, to, state }
            }
        };
        if matches!(ahead.state, State::Failed) {
            match leases.write() {
                Ok(ticket) => ahead.state = State::Writing(ticket),
                Err(error) => {
                    self.ahead = Some(ahead);
                    return Err(error);
                }
            }
        }
        Ok(ahead)
    }

    /// Asks for the next block, and does not wait for it.
    fn renew(&mut self, leases: &mut impl Leases) -> Result<()> {
        self.ahead = Some(self.asked(leases)?);
        Ok(())
    }

    /// Goes on with the next block, waiting for it.
    fn refill(&mut self, leases: &mut impl Leases) -> Result<()> {
        let Ahead { from, to, state } = self.asked(leases)?;
        if let State::Writing(ticket) = state
            && let Err(error) = ticket.wait()
        {
            let state = State::Failed;
            self.ahead = Some(Ahead { from, to, state });
            return Err(error);
        }
        (self.next, self.end) = (from, to);
        Ok(())
    }

    /// The first number from which on nothing was handed out up to `end`, when `end` is where the last block ends.
    fn unused_before(&self, end: u64) -> Option<u64> {
        match &self.ahead {
            Some(ahead) if ahead.to != end => None,
            Some(ahead) if ahead.from != self.end => Some(ahead.from),
            None if self.end != end => None,
            _ => Some(self.next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::{Promise, ticket};

    /// A store whose word comes when the test says so.
    #[derive(Default)]
    struct Slow {
        next: u64,
        promises: Vec<Promise>,
        /// Nothing is taken.
        full: bool,
        /// What is taken cannot be written.
        broken: bool,
    }

    impl Leases for Slow {
        fn reserve(&mut self, count: u64) -> Result<(u64, u64)> {
            let from = self.next.max(1);
            self.next = from + count;
            Ok((from, self.next))
        }

        fn write(&mut self) -> Result<Ticket> {
            if self.full {
                return Err(StoreError::Failed("full".into()));
            }
            let (promise, ticket) = ticket();
            if self.broken {
                promise.keep(failed());
            } else {
                self.promises.push(promise);
            }
            Ok(ticket)
        }
    }

    impl Slow {
        fn keep(&mut self, result: Result<()>) {
            self.promises.remove(0).keep(result);
        }

        fn leased() -> (Self, Lease) {
            let (mut slow, mut lease) = (Self::default(), Lease::new(8));
            lease.renew(&mut slow).unwrap();
            slow.keep(Ok(()));
            lease.refill(&mut slow).unwrap();
            (slow, lease)
        }
    }

    fn failed() -> Result<()> {
        Err(StoreError::Failed("the disk".into()))
    }

    fn take(lease: &mut Lease, slow: &mut Slow, count: usize) -> Vec<u64> {
        (0..count).map(|_| lease.next(slow).unwrap()).collect()
    }

    #[test]
    fn the_next_block_is_asked_for_when_half_is_used_and_nobody_waits_for_it() {
        let (mut slow, mut lease) = Slow::leased();
        assert_eq!(take(&mut lease, &mut slow, 4), [1, 2, 3, 4]);
        assert_eq!(slow.promises.len(), 0);
        assert_eq!(take(&mut lease, &mut slow, 3), [5, 6, 7]);
        assert_eq!(slow.promises.len(), 1, "asked once");
        slow.keep(Ok(()));
        assert_eq!(take(&mut lease, &mut slow, 3), [8, 9, 10]);
    }

    #[test]
    fn an_early_question_that_fails_loses_no_number_and_is_asked_again() {
        let (mut slow, mut lease) = Slow::leased();
        assert_eq!(take(&mut lease, &mut slow, 5), [1, 2, 3, 4, 5]);
        slow.keep(failed());
        assert_eq!(take(&mut lease, &mut slow, 1), [6]);
        assert_eq!(slow.promises.len(), 1, "asked again");
        slow.keep(failed());
        slow.full = true;
        let rest = take(&mut lease, &mut slow, 2);
        assert_eq!(rest, [7, 8], "what there is goes on");
        assert!(lease.next(&mut slow).is_err());
        (slow.full, slow.broken) = (false, true);
        assert!(lease.next(&mut slow).is_err());
        slow.broken = false;
        lease.renew(&mut slow).unwrap();
        slow.keep(Ok(()));
        assert_eq!(take(&mut lease, &mut slow, 2), [9, 10]);
    }

    #[test]
    fn what_was_not_used_goes_back_only_when_nobody_has_a_later_one() {
        let (mut slow, mut lease) = Slow::leased();
        take(&mut lease, &mut slow, 3);
        assert_eq!(lease.unused_before(slow.next), Some(4));
        assert_eq!(lease.unused_before(slow.next + 1), None);
        // With a block asked for early behind it.
        take(&mut lease, &mut slow, 2);
        assert_eq!((lease.unused_before(17), slow.next), (Some(6), 17));
        // Somebody else took numbers between the two blocks.
        let (mut slow, mut lease) = Slow::leased();
        take(&mut lease, &mut slow, 3);
        slow.next += 5;
        take(&mut lease, &mut slow, 2);
        assert_eq!((lease.unused_before(22), slow.next), (Some(14), 22));
    }
}
