//! Two clocks meet here: the proc connector stamps with the monotonic clock in nanoseconds, audit with the coarse
//! realtime clock in milliseconds, taken when the system call was entered.
//!
//! The coarse clock stands still between two ticks, so the true time of an event lies in `[stamp, stamp + tick]`, and when
//! somebody sets the clock the window gets as wide as the jump, for as long as records from before can still arrive.

use rustix::time::{ClockId, clock_getres, clock_gettime};

/// An interval of monotonic time, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Not before.
    pub from: u64,
    /// Not after.
    pub to: u64,
}

/// How long a jump of the clock keeps windows wide.
const JUMP_MEMORY_NS: u64 = 10_000_000_000;
/// How often the offset between the clocks is measured.
const SAMPLE_EVERY_NS: u64 = 200_000_000;
/// The kernel cuts to milliseconds, and a tick can come late.
const SLACK_NS: u64 = 3_000_000;

/// Maps audit's time to the connector's.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Smallest and largest `realtime - monotonic` that may still hold for records on their way.
    offset: (i128, i128),
    sampled_ns: u64,
    jumped_ns: u64,
    tick_ns: u64,
    live: bool,
}

impl Clock {
    /// Of the running system.
    pub fn live() -> Self {
        let tick = clock_getres(ClockId::RealtimeCoarse);
        let offset = realtime_ns() - i128::from(monotonic_ns());
        Self {
            offset: (offset, offset),
            sampled_ns: monotonic_ns(),
            jumped_ns: 0,
            tick_ns: u64::try_from(tick.tv_nsec)
                .unwrap_or(10_000_000)
                .clamp(1_000_000, 10_000_000),
            live: true,
        }
    }

    /// For logs: monotonic time is the log's own time, and a tick is at most 10 ms.
    pub fn offline() -> Self {
        Self {
            offset: (0, 0),
            sampled_ns: 0,
            jumped_ns: 0,
            tick_ns: 10_000_000,
            live: false,
        }
    }

    /// A fixed offset (nanoseconds of realtime minus monotonic) and tick: captured sequences are replayed with it.
    pub fn fixed(offset_ns: i128, tick_ns: u64) -> Self {
        Self {
            offset: (offset_ns, offset_ns),
            tick_ns,
            ..Self::offline()
        }
    }

    /// Monotonic window of an audit time stamp.
    pub fn window(&mut self, millis: u64) -> Window {
        if self.live {
            self.sample();
        }
        let stamp = i128::from(millis) * 1_000_000;
        let clamp = |ns: i128| u64::try_from(ns.max(0)).unwrap_or(u64::MAX);
        Window {
            from: clamp(stamp - self.offset.1),
            to: clamp(stamp - self.offset.0).saturating_add(self.tick_ns + SLACK_NS),
        }
    }

    /// Now, monotonic; 0 for logs, where time passes with the records only.
    pub fn now(&self) -> u64 {
        if self.live { monotonic_ns() } else { 0 }
    }

    fn sample(&mut self) {
        let now = monotonic_ns();
        if now.saturating_sub(self.sampled_ns) < SAMPLE_EVERY_NS {
            return;
        }
        self.sampled_ns = now;
        let offset = realtime_ns() - i128::from(now);
        if now.saturating_sub(self.jumped_ns) > JUMP_MEMORY_NS {
            let moved = (offset - self.offset.0)
                .abs()
                .max((offset - self.offset.1).abs());
            if moved > 1_000_000 {
                self.jumped_ns = now;
                self.offset = (self.offset.0.min(offset), self.offset.1.max(offset));
            } else {
                self.offset = (offset, offset);
            }
        } else {
            self.offset = (self.offset.0.min(offset), self.offset.1.max(offset));
        }
    }
}

fn nanos(clock: ClockId) -> i128 {
    let t = clock_gettime(clock);
    i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec)
}

fn realtime_ns() -> i128 {
    nanos(ClockId::Realtime)
}

/// `CLOCK_MONOTONIC`, nanoseconds.
pub fn monotonic_ns() -> u64 {
    u64::try_from(nanos(ClockId::Monotonic)).unwrap_or(0)
}

/// `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC`: the time spent in suspend, nanoseconds.
pub fn suspended_ns() -> u64 {
    u64::try_from(nanos(ClockId::Boottime) - nanos(ClockId::Monotonic)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_now_is_a_window_around_now() {
        let mut clock = Clock::live();
        let millis = u64::try_from(realtime_ns() / 1_000_000).unwrap();
        let window = clock.window(millis);
        let now = monotonic_ns();
        assert!(
            window.from <= now && now <= window.to + 50_000_000,
            "{window:?} {now}"
        );
        assert!(window.to - window.from < 20_000_000);
    }

    #[test]
    fn a_jump_widens_the_window() {
        let mut clock = Clock::live();
        clock.offset.0 -= 5_000_000_000;
        clock.offset.1 -= 5_000_000_000;
        clock.sampled_ns = 0;
        let window = clock.window(u64::try_from(realtime_ns() / 1_000_000).unwrap());
        assert!(window.to - window.from > 4_000_000_000, "{window:?}");
    }
}
