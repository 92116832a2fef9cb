//! Which matches are repeats of an alert that is still open.
//!
//! The same rule in the same container within a window is one alert with a count. The state is bounded: expired
//! entries go first, then the oldest, and each that had to go early is counted (its next match is a new alert).

use std::collections::HashMap;

/// One alert that further matches are counted on.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Time of the first match, milliseconds.
    since_ms: u64,
    /// Matches so far.
    count: u64,
    /// Number of the alert, 0 until the daemon confirmed it.
    alert: u64,
}

/// What a match is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing like it is open.
    First,
    /// The alert with that number (0 while not confirmed) has matched so often now.
    Again { alert: u64, count: u64 },
}

/// Open alerts by rule and container (empty for the host).
#[derive(Debug)]
pub(crate) struct Repeats {
    open: HashMap<(usize, Box<str>), Open>,
    window_ms: u64,
    max: usize,
    evicted: u64,
}

impl Repeats {
    pub(crate) fn new(window_ms: u64, max: usize) -> Self {
        Self {
            open: HashMap::new(),
            window_ms,
            max: max.max(1),
            evicted: 0,
        }
    }

    /// Counts a match at `now_ms`, which is the event's own time: a replay groups as the live run did.
    pub(crate) fn see(&mut self, rule: usize, container: &str, now_ms: u64) -> Seen {
        let key = (rule, Box::from(container));
        if let Some(open) = self.open.get_mut(&key)
            && now_ms.abs_diff(open.since_ms) < self.window_ms
        {
            open.count = open.count.saturating_add(1);
            return Seen::Again {
                alert: open.alert,
                count: open.count,
            };
        }
        self.insert(
            key,
            Open {
                since_ms: now_ms,
                count: 1,
                alert: 0,
            },
        );
        Seen::First
    }

    /// The alert of a rule in a container has this number. Opens it when it is not open, so that a restarted
    /// daemon can put back what was open before.
    pub(crate) fn confirm(
        &mut self,
        rule: usize,
        container: &str,
        since_ms: u64,
        count: u64,
        alert: u64,
    ) {
        let key = (rule, Box::from(container));
        match self.open.get_mut(&key) {
            Some(open) => open.alert = alert,
            None => self.insert(
                key,
                Open {
                    since_ms,
                    count,
                    alert,
                },
            ),
        }
    }

    /// Closes what is open for a container: its next match is a new alert.
    pub(crate) fn forget(&mut self, container: &str) {
        self.open.retain(|(_, c), _| &**c != container);
    }

    /// Alerts that had to be closed early for want of room.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Alerts that are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    fn insert(&mut self, key: (usize, Box<str>), open: Open) {
        if self.open.len() >= self.max && !self.open.contains_key(&key) {
            self.make_room(open.since_ms);
        }
        self.open.insert(key, open);
    }

    fn make_room(&mut self, now_ms: u64) {
        let window = self.window_ms;
        self.open
            .retain(|_, open| now_ms.abs_diff(open.since_ms) < window);
        if self.open.len() < self.max {
            return;
        }
        // An eighth at once, so that the search for the oldest is not made for every match of a flood.
        let mut times: Vec<u64> = self.open.values().map(|open| open.since_ms).collect();
        times.sort_unstable();
        let Some(&limit) = times.get(times.len() / 8) else {
            return;
        };
        let before = self.open.len();
        self.open.retain(|_, open| open.since_ms > limit);
        self.evicted = self
            .evicted
            .saturating_add((before - self.open.len()) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rule_in_the_same_container_is_a_repeat_until_the_window_ends() {
        let mut repeats = Repeats::new(1000, 10);
        assert_eq!(repeats.see(1, "a", 5000), Seen::First);
        assert_eq!(
            repeats.see(1, "a", 5999),
            Seen::Again { alert: 0, count: 2 }
        );
        repeats.confirm(1, "a", 5000, 1, 42);
        assert_eq!(
            repeats.see(1, "a", 5999),
            Seen::Again {
                alert: 42,
                count: 3
            }
        );
        assert_eq!(repeats.see(1, "b", 5000), Seen::First);
        assert_eq!(repeats.see(2, "a", 5000), Seen::First);
        assert_eq!(repeats.see(1, "a", 6000), Seen::First);
    }

    #[test]
    fn a_released_container_starts_anew() {
        let mut repeats = Repeats::new(1000, 10);
        repeats.see(1, "a", 1);
        repeats.see(1, "b", 1);
        repeats.forget("a");
        assert_eq!(repeats.see(1, "a", 2), Seen::First);
        assert_eq!(repeats.see(1, "b", 2), Seen::Again { alert: 0, count: 2 });
    }

    #[test]
    fn the_state_is_bounded_and_what_goes_is_counted() {
        let mut repeats = Repeats::new(1_000_000, 100);
        for i in 0..10_000u64 {
            repeats.see(1, &format!("c{i}"), i);
            assert!(repeats.len() <= 100);
        }
        assert_eq!(repeats.evicted() + repeats.len() as u64, 10_000);
        assert_eq!(
            repeats.see(1, "c9999", 10_000),
            Seen::Again { alert: 0, count: 2 }
        );
    }
}
