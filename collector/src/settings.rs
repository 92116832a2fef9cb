//! The kernel's audit settings: what was there before us, what we want, and back again.
//!
//! In: a [`Control`]. Out: [`SavedState`] as JSON for a file that somebody else writes, and what was changed, in words.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::control::{Control, ControlError};
use crate::hz::{duration_of, jiffies_for};
use crate::realtime::{SavedScheduling, kauditd_scheduling, restore_kauditd};
use crate::rules::Rule;
use crate::status::{Change, Status};

/// Name and version of the JSON.
pub const SCHEMA: &str = "syscall-monitor/audit-before/1";

/// The kernel's audit state at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedState {
    /// [`SCHEMA`].
    pub schema: String,
    /// The boot that it belongs to, from `/proc/sys/kernel/random/boot_id`. After a reboot there is nothing to restore.
    pub boot_id: String,
    /// When, in milliseconds since the epoch.
    pub taken_at_ms: u64,
    /// Settings.
    pub status: Status,
    /// Rules that were loaded, in the kernel's order, without our own.
    pub rules: Vec<SavedRule>,
    /// How the kernel's audit thread was scheduled; absent where it could not be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kauditd: Option<SavedScheduling>,
}

/// A rule as the kernel had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedRule {
    /// The kernel's bytes, in hexadecimal: this is what is restored.
    pub bytes: String,
    /// The same as auditctl prints it: for people.
    pub text: String,
}

/// Why a state cannot be saved or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The kernel said no.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Not ours, or of another version.
    #[error(
        "the saved audit state has the schema {0:?}, not {SCHEMA:?}; restore it with the version that wrote it"
    )]
    Schema(String),
    /// The boot is unknown.
    #[error("could not read {path}: {source}; is /proc mounted?")]
    BootId {
        /// The file.
        path: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn boot_id() -> Result<String, SettingsError> {
    match fs::read_to_string(BOOT_ID) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(source) => Err(SettingsError::BootId {
            path: BOOT_ID,
            source,
        }),
    }
}

impl SavedState {
    /// Takes down the present state. Rules of ours (left by a run that was killed) are not part of it.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn capture(control: &mut Control) -> Result<Self, SettingsError> {
        Ok(Self {
            schema: SCHEMA.to_owned(),
            boot_id: boot_id()?,
            taken_at_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                }),
            status: control.status()?,
            rules: control
                .rules()?
                .iter()
                .filter(|rule| !rule.is_ours())
                .map(|rule| SavedRule {
                    bytes: to_hex(&rule.encode()),
                    text: rule.to_string(),
                })
                .collect(),
            kauditd: kauditd_scheduling(),
        })
    }

    /// Is it of the boot that runs? If not, the kernel has forgotten everything already.
    pub fn matches_boot(&self) -> bool {
        boot_id().is_ok_and(|id| id == self.boot_id)
    }

    /// Brings the kernel back: deletes our rules, loads what was there and is missing, sets the settings. Says in one line each
    /// what it changed, or could not change; a second call changes nothing. It works after the owner was killed too.
    ///
    /// Of another boot nothing but our rules is touched.
    ///
    /// # Errors
    /// [`SettingsError`]; what concerns one rule alone is in the lines.
    pub fn restore(&self, control: &mut Control) -> Result<Vec<String>, SettingsError> {
        if self.schema != SCHEMA {
            return Err(SettingsError::Schema(self.schema.clone()));
        }
        let mut lines = remove_our_rules(control)?;
        if !self.matches_boot() {
            return Ok(lines);
        }
        self.restore_rules(control, &mut lines)?;
        self.restore_status(control, &mut lines)?;
        self.restore_priority(&mut lines);
        Ok(lines)
    }

    fn restore_priority(&self, lines: &mut Vec<String>) {
        match self.kauditd.map(restore_kauditd) {
            Some(Ok(true)) => {
                lines.push("the kernel's audit thread has its former priority again".to_owned());
            }
            Some(Err(e)) => lines.push(e.to_string()),
            Some(Ok(false)) | None => {}
        }
    }

    fn restore_rules(
        &self,
        control: &mut Control,
        lines: &mut Vec<String>,
    ) -> Result<(), SettingsError> {
        let present = control.rules()?;
        for saved in &self.rules {
            let rule = match from_hex(&saved.bytes).map(|bytes| Rule::decode(&bytes)) {
                Some(Ok(rule)) => rule,
                _ => {
                    lines.push(format!(
                        "could not read the saved rule {}; load it by hand",
                        saved.text
                    ));
                    continue;
                }
            };
            if present.iter().any(|other| other.same_as(&rule)) {
                continue;
            }
            match control.add_rule(&rule) {
                Ok(()) => lines.push(format!("loaded the rule {rule} again")),
                Err(ControlError::RuleExists { .. }) => {}
                Err(e @ (ControlError::NoSuchPath { .. } | ControlError::Kernel { .. })) => {
                    lines.push(e.to_string())
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn restore_status(
        &self,
        control: &mut Control,
        lines: &mut Vec<String>,
    ) -> Result<(), SettingsError> {
        let mut now = control.status()?;
        // An owner that is gone stays in the status until the kernel next tries to send to it.
        if now.pid != 0
            && (now.pid == std::process::id() || !Path::new(&format!("/proc/{}", now.pid)).exists())
        {
            control.set(&Change {
                pid: Some(0),
                ..Change::default()
            })?;
            lines.push(format!(
                "ended the ownership of process {} over the audit stream",
                now.pid
            ));
            now = control.status()?;
        }
        let was = &self.status;
        let settings = [
            ("rate_limit", now.rate_limit, was.rate_limit),
            ("failure", now.failure, was.failure),
            ("backlog_limit", now.backlog_limit, was.backlog_limit),
            (
                "backlog_wait_time",
                now.backlog_wait_time,
                was.backlog_wait_time,
            ),
            ("enabled", now.enabled, was.enabled),
        ];
        for (name, now, was) in settings {
            if now != was {
                control.set(&change(name, was))?;
                lines.push(format!("{name} is {was} again (was {now})"));
            }
        }
        Ok(())
    }
}

/// Deletes every rule with a key of ours and says which.
///
/// # Errors
/// [`SettingsError::Control`].
pub fn remove_our_rules(control: &mut Control) -> Result<Vec<String>, SettingsError> {
    let mut lines = Vec::new();
    for rule in control.rules()?.iter().filter(|rule| rule.is_ours()) {
        match control.delete_rule(rule) {
            Ok(()) => lines.push(format!("deleted our rule {rule}")),
            Err(ControlError::NoSuchRule { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(lines)
}

/// What the settings should be while we own the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Records that may wait for us; a host that allows more keeps what it has.
    pub backlog_limit: u32,
    /// How long a process waits for us when the backlog is full, in jiffies.
    pub backlog_wait_time: u32,
    /// Who should be the owner: our pid, or `None` when that is not to be looked at.
    pub owner: Option<u32>,
}

/// Longest time that a process of the host may be made to wait.
pub const MAX_BACKLOG_WAIT: Duration = Duration::from_millis(100);

impl Default for Wanted {
    fn default() -> Self {
        Self::new(8192, MAX_BACKLOG_WAIT)
    }
}

impl Wanted {
    /// With that backlog and that wait, of which at most 100 ms count.
    pub fn new(backlog_limit: u32, backlog_wait: Duration) -> Self {
        Self {
            backlog_limit: backlog_limit.max(64),
            backlog_wait_time: jiffies_for(backlog_wait.min(MAX_BACKLOG_WAIT)),
            owner: None,
        }
    }
}

/// A setting that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Name of the setting, as in `auditctl -s`.
    pub what: &'static str,
    /// What the kernel has.
    pub found: u32,
    /// What it should have.
    pub wanted: u32,
    /// Why it matters.
    pub why: &'static str,
    /// Was it put right?
    pub put_right: bool,
}

/// Compares only: for shared mode, where the settings are somebody else's.
///
/// - `enabled` must be 1 (or 2): else there are no records.
/// - `rate_limit` must be 0: else the kernel drops records in silence.
/// - `failure` is the host's business (0 silent, 1 kernel log), except 2: with a short wait a record may be lost under a flood, and 2
///   makes a panic of that.
/// - `backlog_limit` must be at least what is wanted; 0 means "no limit", which is no bound for the kernel's memory.
/// - `backlog_wait_time` must be what is wanted: longer and the host stalls with us, shorter and records are lost early.
pub fn check_settings(status: &Status, wanted: &Wanted) -> Vec<Drift> {
    let mut drifts = Vec::new();
    let mut expect = |what, found, ok: bool, wanted, why| {
        if !ok {
            drifts.push(Drift {
                what,
                found,
                wanted,
                why,
                put_right: false,
            });
        }
    };
    let s = status;
    expect(
        "rate_limit",
        s.rate_limit,
        s.rate_limit == 0,
        0,
        "records above the limit are dropped",
    );
    expect(
        "failure",
        s.failure,
        s.failure != 2,
        1,
        "a lost record would make the host panic",
    );
    expect(
        "backlog_limit",
        s.backlog_limit,
        s.backlog_limit >= wanted.backlog_limit,
        wanted.backlog_limit,
        if s.backlog_limit == 0 {
            "the kernel's memory is not bounded"
        } else {
            "a burst would overflow the backlog"
        },
    );
    expect(
        "backlog_wait_time",
        s.backlog_wait_time,
        s.backlog_wait_time == wanted.backlog_wait_time,
        wanted.backlog_wait_time,
        if s.backlog_wait_time > wanted.backlog_wait_time {
            "every audited program of the host would wait that long for a stuck owner"
        } else {
            "records would be lost before the owner had its time"
        },
    );
    expect(
        "enabled",
        s.enabled,
        s.enabled != 0,
        1,
        "without it there are no records",
    );
    if let Some(owner) = wanted.owner {
        expect(
            "pid",
            s.pid,
            s.pid == owner,
            owner,
            "records go to somebody else, or to the kernel log",
        );
    }
    drifts
}

/// Puts right what is not as wanted, for the owner, and says what it was. Each setting is set by itself, so that one refusal does
/// not hinder the others. Who the owner is, is reported only: registering is the reader's.
///
/// # Errors
/// [`ControlError`] when the status cannot be read; a setting that cannot be set has `put_right: false`.
pub fn assert_settings(control: &mut Control, wanted: &Wanted) -> Result<Vec<Drift>, ControlError> {
    let mut drifts = check_settings(&control.status()?, wanted);
    for drift in drifts.iter_mut().filter(|drift| drift.what != "pid") {
        match control.set(&change(drift.what, drift.wanted)) {
            Ok(()) => drift.put_right = true,
            Err(e) => tracing::warn!("{e}"),
        }
    }
    Ok(drifts)
}

/// `backlog_wait_time` of a status as a time.
pub fn backlog_wait(status: &Status) -> Duration {
    duration_of(status.backlog_wait_time)
}

fn change(name: &str, value: u32) -> Change {
    let mut change = Change::default();
    match name {
        "enabled" => change.enabled = Some(value),
        "failure" => change.failure = Some(value),
        "rate_limit" => change.rate_limit = Some(value),
        "backlog_limit" => change.backlog_limit = Some(value),
        "backlog_wait_time" => change.backlog_wait_time = Some(value),
        _ => {}
    }
    change
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |b: u8| (b as char).to_digit(16).map(|n| n as u8);
    text.len().is_multiple_of(2).then_some(())?;
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?))
        .collect()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
