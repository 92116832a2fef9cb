//! Which serial numbers of this kernel stayed away.
//!
//! CPUs deliver out of order, so a number that is passed over is only missing once its time is up.

use std::collections::VecDeque;
use std::time::Instant;

/// A step of more than this, forward or back, is a new boot and no gap.
const MAX_STEP: u32 = 1 << 24;
/// So many gaps wait at a time; the oldest counts at once when there is one more.
const MAX_WAITING: usize = 4096;

#[derive(Debug)]
struct Range {
    first: u32,
    count: u32,
    deadline: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Serials {
    highest: Option<u32>,
    waiting: VecDeque<Range>,
    missing: u64,
    restarts: u64,
}

impl Serials {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|range| range.deadline)
    }

    pub(super) fn forget(&mut self) {
        self.highest = None;
        self.waiting.clear();
    }

    /// A record with that number is there. What it skips over is missing at `deadline`.
    #[inline]
    pub(super) fn observe(&mut self, serial: u32, deadline: Instant) {
        let Some(highest) = self.highest else {
            self.highest = Some(serial);
            return;
        };
        let step = serial.wrapping_sub(highest);
        match step {
            0 => {}
            1 => self.highest = Some(serial),
            2..=MAX_STEP => {
                self.highest = Some(serial);
                self.wait(Range {
                    first: highest.wrapping_add(1),
                    count: step - 1,
                    deadline,
                });
            }
            _ if step >= MAX_STEP.wrapping_neg() => self.arrived(serial),
            _ => {
                self.restarts += 1;
                self.forget();
                self.highest = Some(serial);
            }
        }
    }

    /// Counts what did not come in time.
    pub(super) fn expire(&mut self, now: Instant) {
        while self
            .waiting
            .front()
            .is_some_and(|range| range.deadline <= now)
            && let Some(range) = self.waiting.pop_front()
        {
            self.missing += u64::from(range.count);
        }
    }

    fn wait(&mut self, range: Range) {
        if self.waiting.len() >= MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.missing += u64::from(oldest.count);
        }
        self.waiting.push_back(range);
    }

    /// A number behind the highest came after all. Mostly it is of an event that is being delivered, and no gap at all.
    fn arrived(&mut self, serial: u32) {
        // The latest gaps are at the back, and so is what fills them.
        let within = |range: &Range| serial.wrapping_sub(range.first) < range.count;
        let Some(at) = self.waiting.iter().rposition(within) else {
            return;
        };
        let range = &mut self.waiting[at];
        let before = serial.wrapping_sub(range.first);
        let after = range.count - before - 1;
        let rest = Range {
            first: serial.wrapping_add(1),
            count: after,
            deadline: range.deadline,
        };
        range.count = before;
        if after > 0 {
            self.waiting.insert(at + 1, rest);
        }
        if before == 0 {
            self.waiting.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn run(start: u32, order: &[u32]) -> u64 {
        let now = Instant::now();
        let mut serials = Serials::new();
        order
            .iter()
            .for_each(|n| serials.observe(start.wrapping_add(*n), now + Duration::from_secs(2)));
        serials.expire(now + Duration::from_secs(1));
        assert_eq!(serials.missing(), 0, "before its time");
        serials.expire(now + Duration::from_secs(2));
        serials.missing()
    }

    #[test]
    fn gaps_count_when_their_time_is_up() {
        assert_eq!(run(7, &[0, 1, 2, 2, 3]), 0);
        assert_eq!(run(7, &[0, 3, 1, 3, 2]), 0);
        assert_eq!(run(7, &[0, 5, 3]), 3);
        assert_eq!(run(u32::MAX - 1, &[0, 1, 2, 5]), 2);
        assert_eq!(run(0, &[100, 1, 2]), 0, "older than the first is not ours");
    }

    #[test]
    fn a_boot_is_no_gap() {
        let now = Instant::now();
        let mut serials = Serials::new();
        [1_000_000_000, 1_000_000_005, 1, 2]
            .iter()
            .for_each(|n| serials.observe(*n, now));
        serials.expire(now);
        assert_eq!((serials.missing(), serials.restarts()), (0, 1));
    }

    proptest! {
        #[test]
        fn exactly_the_absent_are_missing(
            start: u32,
            there in prop::collection::vec(any::<bool>(), 1..200),
            order in prop::collection::vec(any::<u64>(), 200),
        ) {
            // The first and the last are there and in their places, all between come in any order.
            let last = there.len() as u32 + 1;
            let mut between: Vec<u32> = (1..last).filter(|n| there[*n as usize - 1]).collect();
            between.sort_by_key(|n| order[*n as usize - 1]);
            let absent = there.iter().filter(|there| !**there).count() as u64;
            let sequence: Vec<u32> = [0].into_iter().chain(between).chain([last]).collect();
            prop_assert_eq!(run(start, &sequence), absent);
        }
    }
}
