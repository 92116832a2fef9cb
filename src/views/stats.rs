//! The busiest programs, files, peers and containers, rates, what was lost, and what the store takes on the disk.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use detector::Alert;
use enricher::Activity;
use history::Kind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::query::{self, Spec, Watch};
use crate::times;

/// Different names of one sort that are counted; a container that invents names gets no more memory than that.
const NAMES: usize = 100_000;

/// A name and how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub name: String,
    pub count: u64,
}

/// The busiest names of one sort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    pub top: Vec<Count>,
    /// Different names.
    pub different: u64,
    /// Events whose name was one too many to be counted by itself.
    pub uncounted: u64,
}

/// The store itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    pub dir_bytes: u64,
    /// Bytes of the entries as they are stored, compressed, with their indexes.
    pub value_bytes: u64,
    /// Entries by kind.
    pub entries: BTreeMap<String, u64>,
    pub oldest: Option<String>,
    pub newest: Option<String>,
    /// Bytes of the files for each entry.
    pub bytes_per_entry: f64,
    /// Since the store was opened: refused entries, and such that came again.
    pub dropped: u64,
    pub duplicates: u64,
}

/// How many in what time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Events a second between the first and the last of them.
    pub mean: f64,
    /// Events in the busiest time, and when that was.
    pub busiest: u64,
    /// Length of that time, milliseconds: a second, or more where the whole is very long.
    pub busiest_ms: u64,
    pub busiest_at: Option<String>,
}

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub from: Option<String>,
    pub until: String,
    pub events: u64,
    pub failed: u64,
    pub rate: Rate,
    pub containers: Top,
    pub programs: Top,
    pub paths: Top,
    pub peers: Top,
    pub syscalls: Top,
    pub categories: Top,
    pub users: Top,
    /// Alerts by rule.
    pub alerts: Top,
    /// What was lost, by where, newest count; empty is good.
    pub losses: BTreeMap<String, u64>,
    /// Times when nobody watched: from, until.
    pub gaps: Vec<(String, String)>,
    pub disk: Disk,
}

#[derive(Default)]
struct Counter {
    counts: HashMap<String, u64>,
    uncounted: u64,
}

impl Counter {
    fn add(&mut self, name: &str) {
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
        } else if self.counts.len() < NAMES {
            self.counts.insert(name.to_owned(), 1);
        } else {
            self.uncounted += 1;
        }
    }

    fn top(self, n: usize) -> Top {
        Top {
            uncounted: self.uncounted,
            ..busiest(self.counts, n)
        }
    }
}

/// The names with the most, equal ones by name.
pub fn busiest(counts: impl IntoIterator<Item = (String, u64)>, n: usize) -> Top {
    let mut all: Vec<Count> = counts
        .into_iter()
        .map(|(name, count)| Count { name, count })
        .collect();
    let different = all.len() as u64;
    all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    all.truncate(n);
    Top {
        top: all,
        different,
        uncounted: 0,
    }
}

#[derive(Default)]
struct Counters {
    containers: Counter,
    programs: Counter,
    paths: Counter,
    peers: Counter,
    syscalls: Counter,
    categories: Counter,
    users: Counter,
    failed: u64,
    events: u64,
    first_ms: Option<u64>,
    last_ms: u64,
    /// The second being counted, its count; the busiest.
    second: (u64, u64),
    busiest: (u64, u64),
}

impl Counters {
    fn add(&mut self, time_ms: u64, a: &Activity) {
        self.events += 1;
        self.first_ms.get_or_insert(time_ms);
        self.last_ms = self.last_ms.max(time_ms);
        if self.second.0 == time_ms / 1000 {
            self.second.1 += 1;
        } else {
            self.second = (time_ms / 1000, 1);
        }
        if self.second.1 > self.busiest.1 {
            self.busiest = self.second;
        }
        match &a.container {
            Some(c) => self.containers.add(c.name.as_deref().unwrap_or(&c.id)),
            None => self.containers.add("host"),
        }
        if !a.process.exe.is_empty() {
            self.programs.add(&a.process.exe);
        }
        for path in a
            .paths
            .iter()
            .filter(|p| p.nametype != "PARENT" && !p.path.is_empty())
        {
            self.paths.add(&path.path);
        }
        if let Some(s) = &a.socket {
            match s.port {
                Some(port) if s.address.contains(':') => {
                    self.peers.add(&format!("[{}]:{port}", s.address));
                }
                Some(port) => self.peers.add(&format!("{}:{port}", s.address)),
                None if s.address.is_empty() => {}
                None => self.peers.add(&s.address),
            }
        }
        if let Some(call) = &a.syscall {
            self.syscalls.add(&call.name);
            self.failed += u64::from(call.success == Some(false));
        }
        self.categories.add(&super::word(a.category));
        let uid = a.process.uid.map(|uid| uid.to_string());
        if let Some(user) = a.process.user.as_ref().or(uid.as_ref()) {
            self.users.add(user);
        }
    }

    fn stats(self, top: usize) -> Stats {
        Stats {
            events: self.events,
            failed: self.failed,
            rate: self.rate(),
            containers: self.containers.top(top),
            programs: self.programs.top(top),
            paths: self.paths.top(top),
            peers: self.peers.top(top),
            syscalls: self.syscalls.top(top),
            categories: self.categories.top(top),
            users: self.users.top(top),
            ..Stats::default()
        }
    }

    fn rate(&self) -> Rate {
        let seconds = self
            .last_ms
            .saturating_sub(self.first_ms.unwrap_or(self.last_ms)) as f64
            / 1000.0;
        Rate {
            mean: if seconds > 0.0 {
                self.events as f64 / seconds
            } else {
                self.events as f64
            },
            busiest: self.busiest.1,
            busiest_ms: 1000,
            busiest_at: (self.busiest.1 > 0).then(|| times::rfc3339(self.busiest.0 * 1000)),
        }
    }
}

/// Counts. From the terms of the blocks; only when text is searched for events are read.
pub fn stats(
    store: &history::Store,
    spec: &Spec,
    top: usize,
    watch: &Watch,
) -> anyhow::Result<Stats> {
    let of_kind = |kind: Kind| Spec {
        kinds: vec![kind.name().into()],
        ..spec.clone()
    };
    let events = of_kind(Kind::Activity);
    let mut out = if spec.searches() {
        let mut counters = Counters::default();
        query::rows(store, &events, watch, &mut |row| {
            if let Ok(activity) = Activity::decode(&row.body) {
                counters.add(row.time_ms, &activity);
            }
            ControlFlow::Continue(())
        })?;
        counters.stats(top)
    } else {
        super::names::stats(store, &events, top, watch)?
    };
    let mut alerts = Counter::default();
    query::rows(
        store,
        &of_kind(Kind::Alert),
        &Watch::default(),
        &mut |row| {
            if let Ok(alert) = serde_json::from_slice::<Alert>(&row.body) {
                alerts.add(&format!("{} {}", alert.severity, alert.title));
            }
            ControlFlow::Continue(())
        },
    )?;
    out.alerts = alerts.top(top);
    out.from = spec.since_ms.map(times::rfc3339);
    out.until = times::rfc3339(spec.until_ms.unwrap_or_else(times::now_ms));
    (out.losses, out.gaps) = losses(store, spec)?;
    out.disk = disk(store);
    Ok(out)
}

/// Counts by where, and times when nobody watched.
type Lost = (BTreeMap<String, u64>, Vec<(String, String)>);

/// What notices of the time say about losses. They count since the monitor's start, so what a notice adds to the one before counts.
fn losses(store: &history::Store, spec: &Spec) -> anyhow::Result<Lost> {
    let (mut losses, mut gaps) = (BTreeMap::<String, u64>::new(), Vec::new());
    let notices = Spec {
        kinds: vec![Kind::Notice.name().into()],
        since_ms: spec.since_ms,
        until_ms: spec.until_ms,
        ..Spec::default()
    };
    query::rows(store, &notices, &Watch::default(), &mut |row| {
        let Ok(notice) = serde_json::from_slice::<Value>(&row.body) else {
            return ControlFlow::Continue(());
        };
        let text = |p: &str| {
            let value = notice.pointer(p).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        match notice.get("what").and_then(Value::as_str) {
            Some("gap") => gaps.push((text("/details/start"), text("/details/end"))),
            Some("loss") => {
                let now = notice.pointer("/details/now").and_then(Value::as_object);
                for (name, now) in now.into_iter().flatten() {
                    let before = notice
                        .pointer("/details/before")
                        .and_then(|b| b.get(name))
                        .and_then(Value::as_u64);
                    let more = now
                        .as_u64()
                        .unwrap_or(0)
                        .saturating_sub(before.unwrap_or(0));
                    if more > 0 {
                        *losses.entry(name.clone()).or_default() += more;
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok((losses, gaps))
}

fn disk(store: &history::Store) -> Disk {
    let s = store.stats();
    let all: u64 = s.entries.iter().sum();
    Disk {
        dir_bytes: s.bytes_on_disk,
        value_bytes: s.value_bytes,
        entries: Kind::ALL
            .iter()
            .map(|k| (k.name().to_owned(), s.entries[k.index()]))
            .collect(),
        oldest: s.oldest_ms.map(times::rfc3339),
        newest: s.newest_ms.map(times::rfc3339),
        bytes_per_entry: if all > 0 {
            s.bytes_on_disk as f64 / all as f64
        } else {
            0.0
        },
        dropped: s.dropped,
        duplicates: s.duplicates,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_names_are_bounded() {
        let mut counter = Counter::default();
        for n in 0..NAMES + 5 {
            counter.add(&n.to_string());
        }
        counter.add("7");
        counter.add("3");
        let top = counter.top(3);
        let names: Vec<_> = top.top.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["3", "7", "0"]);
        assert_eq!((top.different, top.uncounted), (NAMES as u64, 5));
    }
}
