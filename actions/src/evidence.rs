//! What a frozen container was when it was held: one folder, readable by root alone, with a manifest of SHA-256 sums.
//!
//! Sensor side, files only, on a thread of its own: nothing of a quarantine waits for it. It is taken while the container is
//! frozen, so nothing moves under it. What cannot be had is named in the manifest and in `quarantine show`, and never ends
//! the rest; a full disk ends the pack, not the freeze.
//!
//! A pack holds the agent's own secrets (environment, memory maps' file names, changed files), and says so. Nothing of the
//! monitor's own is in it.

mod files;
mod pack;
mod processes;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use pack::{Pack, PackError, expire, make_room};

use crate::quarantine::Quarantine;

/// How much of what is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole pack.
    pub pack: u64,
    /// Bytes of one copied file; of a larger one the beginning is copied.
    pub file: u64,
    /// Bytes of a program that is read for its sum.
    pub program: u64,
    /// Processes that are described.
    pub processes: usize,
    /// Changed files that are listed.
    pub changes: usize,
    /// Time for all of it.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack: 256 << 20,
            file: 8 << 20,
            program: 512 << 20,
            processes: 2000,
            changes: 50_000,
            time: Duration::from_secs(120),
        }
    }
}

/// What others contribute.
#[derive(Clone, Debug)]
pub struct Contribution {
    /// Name in the pack.
    pub name: String,
    /// What it is, or why it could not be had.
    pub bytes: Result<Vec<u8>, String>,
}

/// What was kept, for the record of the quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Where; `None` when there is no pack at all.
    pub dir: Option<PathBuf>,
    /// Files, the manifest aside.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// SHA-256 of the manifest, in hexadecimal digits: who changes the pack has to change this record, too.
    pub manifest_sha256: String,
    /// What could not be had, each with its reason.
    pub failed: Vec<String>,
    /// When it was sealed, milliseconds since the epoch.
    pub at_ms: u64,
}

/// Takes the evidence of a frozen container into a new folder below `root`.
///
/// # Errors
/// [`PackError`]: there is no pack. Everything else that fails is named in the summary.
pub fn take(
    root: &Path,
    q: &Quarantine,
    others: Vec<Contribution>,
    limits: &Limits,
    now_ms: u64,
) -> Result<Summary, PackError> {
    let until = Instant::now() + limits.time;
    let mut pack = Pack::create(root, &name(q, now_ms), limits.pack)?;
    for part in others {
        match part.bytes {
            Ok(bytes) => pack.add(&part.name, &bytes),
            Err(why) => pack.fail(&part.name, &why),
        }
    }
    processes::take(&mut pack, &q.target, limits, until);
    files::take(&mut pack, &q.target, limits, until);
    pack.seal(
        json!({
            "schema": "syscall-monitor/evidence/1",
            "container": {"id": q.container_id, "name": q.name, "image": q.image, "agent": q.agent, "profile": q.profile},
            "quarantine": {"alert": q.alert, "rule": q.rule, "reason": q.reason, "at_ms": q.at_ms, "frozen_how": q.frozen_how, "frozen_us": q.frozen_us},
            "note": "Holds the agent's own secrets: its environment, its files. Handle it as you would handle them.",
        }),
        now_ms,
    )
}

/// Name and tag of the image that is made of a quarantined container: Docker's rules for both are stricter than ours for files.
pub fn image_name(q: &Quarantine, now_ms: u64) -> (String, String) {
    let plain: String = safe(&q.name)
        .to_ascii_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    let plain = if plain.is_empty() { "unnamed" } else { &plain };
    (
        format!("syscall-monitor-evidence/{plain}"),
        stamp(now_ms).to_ascii_lowercase(),
    )
}

/// Removes the packs below `root` that were taken more than `age` ago. Those in `keep` stay. Gives what went.
///
/// # Errors
/// When the folder cannot be read.
pub fn retire(
    root: &Path,
    age: Duration,
    keep: &[PathBuf],
    now_ms: u64,
) -> std::io::Result<Vec<PathBuf>> {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    expire(root, &stamp(now_ms.saturating_sub(age)), keep)
}

/// `20261122T131018Z`.
fn stamp(now_ms: u64) -> String {
    i64::try_from(now_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            || now_ms.to_string(),
            |t| t.strftime("%Y%m%dT%H%M%SZ").to_string(),
        )
}

/// `20261122T131018Z-A-42-openclaw-gateway`: sorts by time, tells what it is of, and is safe as a file name.
fn name(q: &Quarantine, now_ms: u64) -> String {
    let time = stamp(now_ms);
    let what = q.alert.as_deref().unwrap_or("by-hand");
    format!("{time}-{}-{}", safe(what), safe(&q.name))
}

/// What a file name may hold, and no more of it than helps.
fn safe(text: &str) -> String {
    let safe: String = text
        .chars()
        .take(64)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect();
    if safe.trim_matches('.').is_empty() {
        "_".to_owned()
    } else {
        safe
    }
}

#[cfg(test)]
mod tests;
