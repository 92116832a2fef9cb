//! How many cuts and stops an hour may see. A freeze takes nothing from an agent that a release does not give back, so it is never
//! counted; a rule that misfires on every container must not take a whole host off its networks.

use std::collections::VecDeque;

/// Milliseconds of an hour.
const HOUR: u64 = 3_600_000;

/// Cuts and stops of the last hour, and how many there may be.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    limit: usize,
    spent: VecDeque<u64>,
}

impl Budget {
    /// `limit` in any hour, of which these (milliseconds since the epoch) were made already.
    pub fn new(limit: usize, spent: impl IntoIterator<Item = u64>) -> Self {
        let mut spent: Vec<u64> = spent.into_iter().collect();
        spent.sort_unstable();
        Self {
            limit,
            spent: spent.into(),
        }
    }

    /// How many there may be in any hour.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// May there be one more? If so it is counted.
    pub fn take(&mut self, now_ms: u64) -> bool {
        while self.spent.front().is_some_and(|t| t + HOUR <= now_ms) {
            self.spent.pop_front();
        }
        let free = self.spent.len() < self.limit;
        if free {
            self.spent.push_back(now_ms);
        }
        free
    }

    /// The last one came to nothing (there was no network to be taken off): it is not counted.
    pub fn give_back(&mut self) {
        self.spent.pop_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_sees_no_more_than_its_limit() {
        let mut budget = Budget::new(2, [5000, 0]);
        assert!(!budget.take(HOUR - 1), "two were made already");
        assert!(budget.take(HOUR), "the first is an hour old");
        assert!(!budget.take(HOUR + 1));
        budget.give_back();
        assert!(budget.take(HOUR + 2));
        assert!(!Budget::new(0, []).take(0), "none at all");
    }
}
