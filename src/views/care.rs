//! Is the history whole, a copy of it, and what goes.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, bail};
use history::{AnchorCheck, Kind, Store, TallyOf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::query::{Spec, Watch};
use crate::times;

/// Problems that are listed; of more the number is told.
const LISTED: usize = 1000;

/// Something that is not as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub what: String,
    /// `events`, or `alerts` with what belongs to them.
    pub lane: Option<String>,
    pub block: Option<u64>,
    /// Times that may be concerned.
    pub from: Option<String>,
    pub until: Option<String>,
}

/// An anchor and what became of what it covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    pub anchor: String,
    pub made: Option<String>,
    /// `holds`, `gone` (retention took all of it), `differs`.
    pub result: String,
    pub why: String,
}

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub blocks: u64,
    pub entries: u64,
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    pub more_problems: u64,
    pub anchors: Vec<Compared>,
    /// An anchor of now, one line.
    pub anchor: String,
    /// Its short form.
    pub hash: String,
}

impl Verified {
    /// Is everything as it was written?
    pub fn whole(&self) -> bool {
        self.problems.is_empty() && self.anchors.iter().all(|a| a.result != "differs")
    }
}

/// Name of a lane of the store for people.
pub fn lane_name(lane: usize) -> &'static str {
    if lane == 0 { "events" } else { "alerts" }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Checks every block, index and value, and the anchors that were brought along.
pub fn verify(store: &Store, anchors: &[String], watch: &Watch) -> anyhow::Result<Verified> {
    let report = store.verify(&mut |progress| watch.blocks(progress))?;
    let listed = report.problems.iter().take(LISTED).map(|p| Problem {
        what: p.what.clone(),
        lane: p.block.map(|(lane, _)| lane_name(lane).to_owned()),
        block: p.block.map(|(_, number)| number),
        from: p.times.map(|(from, _)| times::rfc3339(from)),
        until: p.times.map(|(_, until)| times::rfc3339(until)),
    });
    let now = store.anchor()?;
    Ok(Verified {
        blocks: report.blocks,
        entries: report.entries,
        problems: listed.collect(),
        more_problems: report.problems.len().saturating_sub(LISTED) as u64,
        anchors: anchors
            .iter()
            .map(|a| compare(store, a))
            .collect::<anyhow::Result<_>>()?,
        hash: hex(&now.hash()),
        anchor: now.to_string(),
    })
}

/// A whole anchor is looked for in the chain, wherever that has grown to; of a bare hash we know only what it must be now.
fn compare(store: &Store, text: &str) -> anyhow::Result<Compared> {
    let mut out = Compared {
        anchor: text.to_owned(),
        ..Compared::default()
    };
    if text.len() == 64 {
        let now = store.anchor()?;
        let known = std::iter::once(now.hash()).chain(now.heads.iter().map(|(_, hash)| *hash));
        let holds = known.into_iter().any(|hash| hex(&hash) == text);
        (out.result, out.why) = if holds {
            (
                "holds".into(),
                "it is the hash of the chain as it ends now".into(),
            )
        } else {
            ("differs".into(), "it is not the hash of the chain as it ends now; give the whole line of an earlier anchor to look for it in the chain".into())
        };
        return Ok(out);
    }
    let anchor: history::Anchor = text.parse()?;
    out.made = Some(times::rfc3339(anchor.time_ms));
    (out.result, out.why) = match store.check_anchor(&anchor)? {
        AnchorCheck::Holds => (
            "holds".into(),
            format!(
                "the {} entries that it covers, as far as they are still held, are those of that time",
                anchor.entries
            ),
        ),
        AnchorCheck::Gone => (
            "gone".into(),
            "retention took everything that it covers".into(),
        ),
        AnchorCheck::Differs { lane, block } => (
            "differs".into(),
            format!(
                "block {block} of the {} is not the one that was there then: the history was rewritten, or is another one",
                lane_name(lane)
            ),
        ),
    };
    Ok(out)
}

/// Every anchor in a text: the system log, the security log, a message, or the line alone.
pub fn anchors_in(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        for start in 0..words.len() {
            if words[start] != "1" {
                continue;
            }
            let is_head = |w: &&&str| {
                w.split_once(':').is_some_and(|(n, hash)| {
                    n.bytes().all(|b| b.is_ascii_digit()) && hash.len() == 64
                })
            };
            let heads = words.iter().skip(start + 3).take_while(is_head).count();
            let anchor = words.get(start..start + 3 + heads).map(|w| w.join(" "));
            if let Some(anchor) = anchor.filter(|a| a.parse::<history::Anchor>().is_ok()) {
                if !found.contains(&anchor) {
                    found.push(anchor);
                }
                break;
            }
        }
    }
    found
}

/// A consistent copy; the store goes on meanwhile.
pub fn snapshot(store: &Store, dir: &Path) -> anyhow::Result<Value> {
    if !dir.is_absolute() {
        bail!(
            "{} is not absolute; name the folder from / on",
            dir.display()
        );
    }
    let began = std::time::Instant::now();
    store
        .snapshot(dir)
        .with_context(|| format!("cannot copy the history to {}", dir.display()))?;
    Ok(json!({
        "dir": dir,
        "entries": store.stats().entries.iter().sum::<u64>(),
        "seconds": began.elapsed().as_secs_f64(),
    }))
}

/// What shall go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// Everything before this time, milliseconds since the epoch.
    pub before_ms: u64,
    /// Alerts, decisions and notices too, and the events of alerts.
    pub alerts: bool,
    /// Say only what would go.
    pub dry_run: bool,
}

/// What goes, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    pub dry_run: bool,
    pub before: String,
    pub alerts: bool,
    /// Entries that are older, or that went.
    pub entries: u64,
    /// Blocks that went; 0 for a dry run.
    pub blocks: u64,
    pub bytes: u64,
    /// Entries that are held in all.
    pub held: u64,
    /// Newest time that went.
    pub until: Option<String>,
}

/// Removes what is older than a time.
pub fn prune(store: &Store, prune: &Prune) -> anyhow::Result<Pruned> {
    let mut out = Pruned {
        dry_run: prune.dry_run,
        before: times::rfc3339(prune.before_ms),
        alerts: prune.alerts,
        held: store.stats().entries.iter().sum(),
        ..Pruned::default()
    };
    if prune.dry_run {
        let spec = Spec {
            kinds: if prune.alerts {
                vec![]
            } else {
                vec![Kind::Activity.name().into()]
            },
            until_ms: Some(prune.before_ms),
            ..Spec::default()
        };
        let query = spec.query(store, &Watch::default())?;
        let tally = store.tally(&query, &TallyOf::default(), &mut |_| {
            ControlFlow::Continue(())
        })?;
        out.entries = tally.all.rows.iter().sum();
        return Ok(out);
    }
    let gone = store.prune(prune.before_ms, prune.alerts)?;
    out.entries = gone.entries;
    out.blocks = gone.blocks;
    out.bytes = gone.bytes;
    out.until = (gone.until_ms > 0).then(|| times::rfc3339(gone.until_ms));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_found_in_any_log() {
        let hash = "ab".repeat(32);
        let anchor = format!("1 1795353018414 1024 1:{hash} 0:{hash}");
        let text = format!(
            "Nov 22 13:10:18 host syscall-monitor[1]: history anchor {anchor}\n2026-11-22T13:10:18Z INFO SYSCALL-MONITOR ANCHOR history anchor {anchor} (short form x)\nnothing 1 2 3\n"
        );
        assert_eq!(anchors_in(&text), [anchor]);
    }
}
