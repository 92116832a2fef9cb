//! Events over time, by category and by severity.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use detector::Severity;
use enricher::Activity;
use history::{Field, Kind, TallyOf};
use serde::{Deserialize, Serialize};

use crate::query::{self, Condition, Spec, Watch};
use crate::{entries, times};

/// Bars that are asked for when nobody chose a step: they fit one screen.
const WANTED: u64 = 40;
/// Bars at most.
const MOST: u64 = 2000;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Steps that people can read.
const STEPS: [u64; 22] = [
    10,
    100,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
    30 * DAY,
];

/// One bar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Where it begins, milliseconds since the epoch.
    pub at_ms: u64,
    /// The same as text.
    pub time: String,
    /// Events.
    pub events: u64,
    /// Events by category.
    pub categories: BTreeMap<String, u64>,
    /// Events that raised an alert, by its severity.
    pub severities: BTreeMap<String, u64>,
}

/// Events over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    pub from: String,
    pub until: String,
    pub step_ms: u64,
    pub events: u64,
    pub bars: Vec<Bar>,
}

struct Bars {
    first: u64,
    step: u64,
    list: Vec<Bar>,
}

impl Bars {
    fn new(first: u64, until: u64, step: u64) -> Self {
        let last = (until.saturating_sub(1).max(first) - first) / step;
        let bar = |n: u64| Bar {
            at_ms: first + n * step,
            time: times::rfc3339(first + n * step),
            ..Bar::default()
        };
        Self {
            first,
            step,
            list: (0..=last).map(bar).collect(),
        }
    }

    fn at(&mut self, time: u64) -> Option<&mut Bar> {
        let place = time.checked_sub(self.first)? / self.step;
        self.list.get_mut(usize::try_from(place).ok()?)
    }
}

/// Counts. Without `--since` it begins with the oldest event.
pub fn timeline(
    store: &history::Store,
    spec: &Spec,
    step_ms: Option<u64>,
    watch: &Watch,
) -> anyhow::Result<Timeline> {
    let held = store.stats();
    let newest = held.newest_ms.map_or_else(times::now_ms, |t| t + 1);
    let until = spec.until_ms.unwrap_or(newest);
    let oldest = held.oldest_ms.unwrap_or(until);
    let from = spec
        .since_ms
        .unwrap_or(oldest)
        .max(oldest.min(until))
        .min(until);
    let step = step(from, until, step_ms);
    let first = from - from % step;
    let mut bars = Bars::new(first, until, step);
    let bounded = Spec {
        kinds: vec![Kind::Activity.name().into()],
        since_ms: Some(from),
        until_ms: Some(until),
        ..spec.clone()
    };
    let events = if bounded.searches() {
        by_reading(store, &bounded, watch, &mut bars)?
    } else {
        let of = TallyOf {
            fields: vec![Field::Category, Field::Severity],
            slot_ms: Some(step),
            ..TallyOf::default()
        };
        let tally = store.tally(&bounded.query(store, watch)?, &of, &mut |p| watch.blocks(p))?;
        for (at, counts) in &tally.slots {
            // The first slot begins before the first bar only by the remainder of the step, so it is the same one.
            let Some(bar) = bars.at(*at) else {
                continue;
            };
            bar.events += counts.rows[Kind::Activity.index()];
            for ((field, term), count) in &counts.terms {
                let names = if *field == Field::Category {
                    &mut bar.categories
                } else {
                    &mut bar.severities
                };
                *names
                    .entry(String::from_utf8_lossy(term).into_owned())
                    .or_default() += count;
            }
        }
        tally.all.rows[Kind::Activity.index()]
    };
    Ok(Timeline {
        from: times::rfc3339(from),
        until: times::rfc3339(until),
        step_ms: step,
        events,
        bars: bars.list,
    })
}

/// Text is found in the events only, so these are read.
fn by_reading(
    store: &history::Store,
    spec: &Spec,
    watch: &Watch,
    bars: &mut Bars,
) -> anyhow::Result<u64> {
    let mut events = 0;
    query::rows(store, spec, watch, &mut |row| {
        if let Some(bar) = bars.at(row.time_ms) {
            let category = Activity::decode(&row.body)
                .map_or_else(|_| "damaged".to_owned(), |a| super::word(a.category));
            events += 1;
            bar.events += 1;
            *bar.categories.entry(category).or_default() += 1;
        }
        ControlFlow::Continue(())
    })?;
    for severity in entries::severities_from(Severity::Informational) {
        let mut one = spec.clone();
        one.conditions.push(Condition {
            filter: "severity-is".into(),
            values: vec![severity.into()],
            negate: false,
        });
        query::rows(store, &one, &Watch::default(), &mut |row| {
            if let Some(bar) = bars.at(row.time_ms) {
                *bar.severities.entry(severity.into()).or_default() += 1;
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(events)
}

/// The step that was asked for, made wider when it would give too many bars; else the first readable one.
fn step(from: u64, until: u64, asked: Option<u64>) -> u64 {
    let span = until.saturating_sub(from).max(1);
    let most = if asked.is_some() { MOST } else { WANTED };
    let least = span.div_ceil(most);
    match asked {
        Some(asked) => asked.max(least).max(1),
        None => STEPS
            .into_iter()
            .find(|s| *s >= least)
            .unwrap_or_else(|| least.next_multiple_of(DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_readable_and_its_bars_fit_a_screen() {
        assert_eq!(step(0, HOUR, None), 2 * MINUTE);
        assert_eq!(step(0, DAY, None), HOUR);
        assert_eq!(step(0, 1, None), 10);
        assert_eq!(step(0, HOUR, Some(SECOND)), 1800, "too many bars");
        assert_eq!(step(0, HOUR, Some(7 * SECOND)), 7 * SECOND);
        assert_eq!(step(0, u64::MAX, None) % DAY, 0);
    }
}
