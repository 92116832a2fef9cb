//! A real-time priority that a thread has for as long as it does not take its processor away from everybody else.
//!
//! In: what the calling thread has used, looked at by itself between two pieces of its work ([`Held::look`]). Out: its scheduling, and
//! [`HeldCounters`]. The kernel would end the process of a real-time thread that never waits (`RLIMIT_RTTIME`, setrlimit(2)), and
//! everything else would stand still until then; so the thread becomes an ordinary one long before, and goes on with its work.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use collector_sys::{Scheduling, Usage};

/// The share of a processor is taken over spans of this length.
const SPAN: Duration = Duration::from_secs(1);
/// A thread that uses so much of a processor leaves nothing for others.
const NEARLY_ALL: f64 = 0.9;
/// So many such spans in a row, and the priority is given up.
const SPANS: u32 = 3;
/// So much work without a single wait, and the priority is given up. The program sets `RLIMIT_RTTIME` to twice that.
const SPIN: Duration = Duration::from_secs(1);
/// A span in which less was used, and something waited for, is calm.
const CALM: f64 = 0.5;
/// So long it must be calm before the priority is taken back.
const MINUTE: Duration = Duration::from_secs(60);
/// [`Held::look`] asks the kernel no oftener.
const GLANCE: Duration = Duration::from_millis(50);

/// What became of a thread's priority; for whoever shows it.
#[derive(Debug, Default)]
pub struct HeldCounters {
    /// Is the thread a real-time thread now?
    pub held: AtomicBool,
    /// Times that the priority was given up, since the thread used nearly all of a processor.
    pub given_up: AtomicU64,
    /// Times that it was taken back after a calm minute.
    pub taken_back: AtomicU64,
}

/// What a thread has used at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Since any fixed moment.
    at: Duration,
    usage: Usage,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    GiveUp,
    TakeBack,
}

/// The decision, without a clock of its own.
#[derive(Debug)]
struct Watch {
    held: bool,
    /// Begin of the present span.
    span: Sample,
    /// Spans in a row in which nearly all of a processor was used.
    full: u32,
    /// Since when it is calm.
    calm: Duration,
    /// The last sample that had a wait behind it.
    waited: Sample,
}

impl Watch {
    fn new(now: Sample) -> Self {
        Self {
            held: true,
            span: now,
            full: 0,
            calm: now.at,
            waited: now,
        }
    }

    fn see(&mut self, now: Sample) -> Option<Step> {
        if now.usage.waits != self.waited.usage.waits {
            self.waited = now;
        }
        let spins = now.usage.cpu.saturating_sub(self.waited.usage.cpu) >= SPIN;
        let span = now.at.saturating_sub(self.span.at);
        if span >= SPAN {
            let used = now.usage.cpu.saturating_sub(self.span.usage.cpu);
            let share = used.as_secs_f64() / span.as_secs_f64();
            self.full = if share >= NEARLY_ALL {
                self.full + 1
            } else {
                0
            };
            // Who never waits is not calm: he has work all the time, and others keep him from it.
            if share >= CALM || now.usage.waits == self.span.usage.waits {
                self.calm = now.at;
            }
            self.span = now;
        }
        if self.held && (spins || self.full >= SPANS) {
            (self.held, self.full, self.calm) = (false, 0, now.at);
            return Some(Step::GiveUp);
        }
        if !self.held && now.at.saturating_sub(self.calm) >= MINUTE {
            *self = Self::new(now);
            return Some(Step::TakeBack);
        }
        None
    }
}

/// The real-time priority of the thread that made this; what it had before is put back when this goes away.
#[derive(Debug)]
pub struct Held {
    name: &'static str,
    before: Scheduling,
    priority: u8,
    begin: Instant,
    watch: RefCell<Option<(Watch, Instant)>>,
    counters: Arc<HeldCounters>,
    /// It is about the calling thread.
    here: PhantomData<*const ()>,
}

impl Held {
    /// Gives the calling thread a real-time priority, bounded to 1..=[`super::MAX_PRIORITY`]. `name` is for the log.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_SYS_NICE and where the host's cgroup allows no real-time tasks. Nothing is changed then.
    pub fn take(name: &'static str, priority: u8, counters: Arc<HeldCounters>) -> io::Result<Self> {
        let before = collector_sys::scheduling(0)?;
        let begin = Instant::now();
        let usage = collector_sys::thread_usage()?;
        collector_sys::set_realtime(0, Some(priority))?;
        counters.held.store(true, Ordering::Relaxed);
        let first = Sample {
            at: Duration::ZERO,
            usage,
        };
        Ok(Self {
            name,
            before,
            priority,
            begin,
            watch: RefCell::new(Some((Watch::new(first), begin))),
            counters,
            here: PhantomData,
        })
    }

    /// To be called between two pieces of work, as often as one likes: it asks the kernel twenty times a second at most.
    pub fn look(&self) {
        let Ok(mut slot) = self.watch.try_borrow_mut() else {
            return;
        };
        let Some((watch, last)) = slot.as_mut() else {
            return;
        };
        let now = Instant::now();
        if now.duration_since(*last) < GLANCE {
            return;
        }
        *last = now;
        let Ok(usage) = collector_sys::thread_usage() else {
            return;
        };
        let at = now.duration_since(self.begin);
        match watch.see(Sample { at, usage }) {
            None => {}
            Some(Step::GiveUp) => {
                let done = collector_sys::set_scheduling(0, self.before);
                self.counters.held.store(false, Ordering::Relaxed);
                self.counters.given_up.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "the thread {} used nearly all of a processor; its real-time priority is given up until it is calm for a minute ({})",
                    self.name,
                    done.map_or_else(|e| e.to_string(), |()| "done".to_owned())
                );
            }
            Some(Step::TakeBack) => match collector_sys::set_realtime(0, Some(self.priority)) {
                Ok(()) => {
                    self.counters.held.store(true, Ordering::Relaxed);
                    self.counters.taken_back.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(
                        "the thread {} was calm for a minute; it has its real-time priority again",
                        self.name
                    );
                }
                Err(e) => {
                    tracing::warn!(
                        "the thread {} does not get its real-time priority back: {e}",
                        self.name
                    );
                    *slot = None;
                }
            },
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counters.held.store(false, Ordering::Relaxed);
        if let Err(e) = collector_sys::set_scheduling(0, self.before) {
            tracing::warn!(
                "cannot put back the priority of the thread {}: {e}",
                self.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One second of a thread after the other: share of a processor in percent, and waits. Says in which seconds what was decided.
    fn decide(seconds: &[(u64, u64)]) -> Vec<(usize, Step)> {
        let mut now = Sample::default();
        let mut watch = Watch::new(now);
        let mut steps = Vec::new();
        for (second, (percent, waits)) in seconds.iter().enumerate() {
            // Twenty looks a second, the waits spread over them.
            for look in 1..=20 {
                now.at += Duration::from_millis(50);
                now.usage.cpu += Duration::from_millis(percent / 2);
                now.usage.waits += waits * look / 20 - waits * (look - 1) / 20;
                steps.extend(watch.see(now).map(|step| (second, step)));
            }
        }
        steps
    }

    #[test]
    fn work_with_pauses_keeps_the_priority_also_when_it_is_much() {
        assert_eq!(decide(&[(80, 1000); 300]), []);
        // Full for two seconds, then a look around.
        let bursts: Vec<_> = (0..300)
            .map(|s| if s % 3 == 2 { (60, 100) } else { (98, 100) })
            .collect();
        assert_eq!(decide(&bursts), []);
        assert_eq!(decide(&[(0, 4); 300]), []);
    }

    #[test]
    fn nearly_a_whole_processor_for_three_seconds_gives_it_up_although_it_waits_at_times() {
        assert_eq!(decide(&[(96, 100); 50]), [(2, Step::GiveUp)]);
    }

    #[test]
    fn a_second_of_work_without_a_wait_gives_it_up_at_once() {
        assert_eq!(
            decide(&[(10, 100), (100, 0), (100, 0), (10, 100)]),
            [(1, Step::GiveUp)]
        );
        // Others take most of the processor, but it never waits.
        assert_eq!(decide(&[(30, 0); 5]), [(3, Step::GiveUp)]);
    }

    #[test]
    fn a_calm_minute_gives_it_back_and_a_busy_second_begins_the_minute_anew() {
        let mut seconds = vec![(100, 0)];
        seconds.extend([(10, 50); 59]);
        seconds.push((70, 50));
        seconds.extend([(10, 50); 70]);
        let steps = decide(&seconds);
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert_eq!(steps[0], (0, Step::GiveUp));
        assert_eq!(steps[1].1, Step::TakeBack);
        assert!((119..=122).contains(&steps[1].0), "{steps:?}");
    }

    #[test]
    fn who_is_kept_from_his_work_by_others_is_not_calm() {
        let mut seconds = vec![(100, 0)];
        seconds.extend([(20, 0); 200]);
        assert_eq!(decide(&seconds), [(0, Step::GiveUp)]);
    }

    #[test]
    fn after_it_was_taken_back_it_can_be_given_up_again() {
        let mut seconds = vec![(100, 0)];
        seconds.extend([(1, 50); 65]);
        seconds.push((100, 0));
        let steps: Vec<_> = decide(&seconds).into_iter().map(|(_, step)| step).collect();
        assert_eq!(steps, [Step::GiveUp, Step::TakeBack, Step::GiveUp]);
    }
}
