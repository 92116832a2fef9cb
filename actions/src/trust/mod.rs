//! The trust score of each agent (ASF-38): a readable file, an event log, a line in the security log. Sensor side, files
//! only; the command hook is the courier's.
//!
//! The contract is in AGENTS-AND-ASF.md. In short: 100 for a new agent; a critical alert puts the band to quarantine at
//! once whatever the arithmetic, a high one takes 20, a medium one 5, once for each rule and container in a window; never
//! below 0; recovery by time or by a person. The band is reported, and freezes nobody by itself.

mod files;
mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use detector::{Alert, Severity};
use serde::{Deserialize, Serialize};

pub use files::TrustError;
pub use state::{Band, Reason, TrustContainer, TrustState};

use crate::seclog::{Level, SecurityLog, component};

/// Schema of an agent's file.
pub const SCHEMA: &str = "asf-trust/1";
/// Schema of a line in the event log.
pub const EVENT_SCHEMA: &str = "asf-trust-event/1";
/// Name of the event log in the directory. No agent's file can have it: those end in `.json`.
pub const EVENTS: &str = "events.jsonl";

/// Settings.
#[derive(Clone, Debug)]
pub struct TrustOptions {
    /// Directory of the files, `/var/lib/syscall-monitor/trust`.
    pub dir: PathBuf,
    /// The framework's log, `/var/log/asf/security.log`; `None` writes no line.
    pub log: Option<PathBuf>,
    /// Score of a new agent.
    pub base: u8,
    /// Points that a critical alert takes, beside setting the band: with 25 a reader of the score alone sees it, too.
    pub critical: u8,
    /// Points that a high alert takes.
    pub high: u8,
    /// Points that a medium alert takes.
    pub medium: u8,
    /// A rule takes points from a container once in this time.
    pub window: Duration,
    /// Points of high and medium alerts come back after this time; `None`: only a person gives them back.
    pub recovery: Option<Duration>,
    /// The same for critical ones and the band that they set.
    pub critical_recovery: Option<Duration>,
}

impl Default for TrustOptions {
    fn default() -> Self {
        Self {
            dir: "/var/lib/syscall-monitor/trust".into(),
            log: Some("/var/log/asf/security.log".into()),
            base: 100,
            critical: 25,
            high: 20,
            medium: 5,
            window: Duration::from_secs(3600),
            recovery: Some(Duration::from_secs(24 * 3600)),
            critical_recovery: None,
        }
    }
}

/// What a change was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// An alert took points.
    Deduction,
    /// Time gave points back.
    Recovery,
    /// A person or a hook set the score.
    Set,
}

/// One change of an agent's score, as it stands in the event log and goes to the hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustChange {
    /// [`EVENT_SCHEMA`].
    pub schema: String,
    /// Kind.
    #[serde(rename = "type")]
    pub kind: ChangeKind,
    /// RFC 3339.
    pub at: String,
    /// Agent.
    pub agent: String,
    /// Its profile.
    pub profile: Option<enricher::container::Profile>,
    /// Its container.
    pub container: TrustContainer,
    /// Rule that took the points.
    pub rule: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Severity of the alert.
    pub severity: Option<Severity>,
    /// Points, negative for a deduction.
    pub delta: i32,
    /// Event that matched.
    pub event_id: Option<String>,
    /// Score after it.
    pub score: u8,
    /// Score before it.
    pub previous_score: u8,
    /// Band after it.
    pub band: Band,
    /// Band before it.
    pub previous_band: Band,
}

/// All agents.
#[derive(Debug)]
pub struct Trust {
    options: TrustOptions,
    log: Option<SecurityLog>,
    agents: BTreeMap<String, TrustState>,
}

impl Trust {
    /// Makes the directory when it is missing and reads what is there. A file that cannot be read is set aside under
    /// another name and returned as a problem: an unreadable score is not a good one, but the monitor must start.
    ///
    /// # Errors
    /// [`TrustError`] when the directory cannot be made or read.
    pub fn open(options: TrustOptions) -> Result<(Self, Vec<TrustError>), TrustError> {
        let (agents, mut problems) = files::load(&options.dir)?;
        let log = match options.log.clone().map(SecurityLog::open).transpose() {
            Ok(log) => log,
            Err(error) => {
                problems.push(TrustError::Log(error));
                None
            }
        };
        Ok((
            Self {
                options,
                log,
                agents,
            },
            problems,
        ))
    }

    /// Settings.
    pub fn options(&self) -> &TrustOptions {
        &self.options
    }

    /// What an alert does to its agent. `Ok(None)`: nothing (no agent, too low a severity, an attribution that is not
    /// certain, or the same rule again within the window).
    ///
    /// # Errors
    /// [`TrustError`]: the score is changed in memory; what could not be written is said.
    pub fn apply(
        &mut self,
        alert: &Alert,
        event_id: &str,
        now_ms: u64,
    ) -> Result<Option<TrustChange>, TrustError> {
        let Some(container) = &alert.container else {
            return Ok(None);
        };
        let Some(agent) = container.agent.as_deref().filter(|a| files::is_safe(a)) else {
            return Ok(None);
        };
        let (points, recovery) = match alert.severity {
            Severity::Critical => (self.options.critical, self.options.critical_recovery),
            Severity::High => (self.options.high, self.options.recovery),
            Severity::Medium => (self.options.medium, self.options.recovery),
            Severity::Low | Severity::Informational => return Ok(None),
        };
        // A score is a judgement of somebody: like a freeze it is not made on a guess.
        if !alert.attribution.certain {
            return Ok(None);
        }
        let base = self.options.base;
        let state = self
            .agents
            .entry(agent.to_owned())
            .or_insert_with(|| TrustState::new(agent, base, now_ms));
        state.profile = container.profile.or(state.profile);
        state.container = TrustContainer {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
        };
        let window = millis(self.options.window);
        if state.deducted_within(&alert.rule, &container.id, now_ms, window) {
            return Ok(None);
        }
        let reason = Reason {
            rule: alert.rule.clone(),
            title: Some(alert.title.clone()),
            severity: alert.severity,
            delta: -i32::from(points),
            event_id: event_id.to_owned(),
            container_id: Some(container.id.clone()),
            at: crate::message::text::rfc3339_millis(now_ms),
            at_ms: now_ms,
            expires_at: recovery
                .map(|r| crate::message::text::rfc3339_millis(now_ms.saturating_add(millis(r)))),
            expires_ms: recovery.map(|r| now_ms.saturating_add(millis(r))),
        };
        let before = (state.score, state.band);
        state.reasons.push(reason);
        state.recompute(now_ms);
        let change = self
            .change(agent, ChangeKind::Deduction, before, now_ms)
            .map(|change| TrustChange {
                rule: Some(alert.rule.clone()),
                title: Some(alert.title.clone()),
                severity: Some(alert.severity),
                delta: -i32::from(points),
                event_id: Some(event_id.to_owned()),
                ..change
            });
        change
            .map(|change| self.write(&change, now_ms).map(|()| change))
            .transpose()
    }

    /// Lets time give points back; call it about once a minute. Gives the changes.
    ///
    /// # Errors
    /// [`TrustError`], the first one; the others are written all the same.
    pub fn tick(&mut self, now_ms: u64) -> Result<Vec<TrustChange>, TrustError> {
        let mut befores = Vec::new();
        for (agent, state) in &mut self.agents {
            let before = (state.score, state.band);
            state.recompute(now_ms);
            if before != (state.score, state.band) {
                befores.push((agent.clone(), before));
            }
        }
        let mut changes = Vec::new();
        let mut first = Ok(());
        for (agent, before) in befores {
            let Some(mut change) = self.change(&agent, ChangeKind::Recovery, before, now_ms) else {
                continue;
            };
            change.delta = i32::from(change.score) - i32::from(change.previous_score);
            first = first.and(self.write(&change, now_ms));
            changes.push(change);
        }
        first.map(|()| changes)
    }

    /// A person sets a score: what was taken before is forgiven and the band follows the score.
    ///
    /// # Errors
    /// [`TrustError::Unknown`], or what could not be written.
    pub fn set(&mut self, agent: &str, score: u8, now_ms: u64) -> Result<TrustChange, TrustError> {
        let state = self
            .agents
            .get_mut(agent)
            .ok_or_else(|| TrustError::Unknown(agent.to_owned()))?;
        let before = (state.score, state.band);
        state.base_score = score.min(100);
        state.reasons.clear();
        state.recompute(now_ms);
        self.changed(agent, before, now_ms)
    }

    /// A hook recalculated the base; the deductions stay.
    ///
    /// # Errors
    /// As [`Trust::set`].
    pub fn set_base(
        &mut self,
        agent: &str,
        base: u8,
        now_ms: u64,
    ) -> Result<TrustChange, TrustError> {
        let state = self
            .agents
            .get_mut(agent)
            .ok_or_else(|| TrustError::Unknown(agent.to_owned()))?;
        let before = (state.score, state.band);
        state.base_score = base.min(100);
        state.recompute(now_ms);
        self.changed(agent, before, now_ms)
    }

    fn changed(
        &mut self,
        agent: &str,
        before: (u8, Band),
        now_ms: u64,
    ) -> Result<TrustChange, TrustError> {
        let mut change = self
            .change(agent, ChangeKind::Set, before, now_ms)
            .ok_or_else(|| TrustError::Unknown(agent.to_owned()))?;
        change.delta = i32::from(change.score) - i32::from(change.previous_score);
        self.write(&change, now_ms).map(|()| change)
    }

    /// All agents, by name.
    pub fn list(&self) -> impl Iterator<Item = &TrustState> {
        self.agents.values()
    }

    /// One agent.
    pub fn show(&self, agent: &str) -> Option<&TrustState> {
        self.agents.get(agent)
    }

    fn change(
        &mut self,
        agent: &str,
        kind: ChangeKind,
        before: (u8, Band),
        now_ms: u64,
    ) -> Option<TrustChange> {
        let state = self.agents.get_mut(agent)?;
        state.previous_score = before.0;
        state.updated_at = crate::message::text::rfc3339_millis(now_ms);
        Some(TrustChange {
            schema: EVENT_SCHEMA.to_owned(),
            kind,
            at: state.updated_at.clone(),
            agent: agent.to_owned(),
            profile: state.profile,
            container: state.container.clone(),
            rule: None,
            title: None,
            severity: None,
            delta: 0,
            event_id: None,
            score: state.score,
            previous_score: before.0,
            band: state.band,
            previous_band: before.1,
        })
    }

    /// File, event log, security log; each is tried, also when one before it failed.
    fn write(&self, change: &TrustChange, now_ms: u64) -> Result<(), TrustError> {
        let file = self
            .agents
            .get(&change.agent)
            .map_or(Ok(()), |state| files::save(&self.options.dir, state));
        let event = files::append(&self.options.dir, change);
        let log = self.log.as_ref().map_or(Ok(()), |log| {
            let (level, text) = log_line(change);
            log.write(now_ms, level, component(change.profile), "TRUST", &text)
                .map_err(TrustError::Log)
        });
        file.and(event).and(log)
    }
}

/// What the security log says of a change.
fn log_line(change: &TrustChange) -> (Level, String) {
    let agent = &change.agent;
    let fell = |limit: u8| change.score < limit && change.previous_score >= limit;
    if change.band != change.previous_band && change.band == Band::Quarantine && !fell(80) {
        return (
            Level::Warn,
            format!(
                "Trust band set to quarantine at score {}: {agent}",
                change.score
            ),
        );
    }
    for limit in [80, 95] {
        if fell(limit) {
            return (
                Level::Warn,
                format!("Trust score dropped below {limit}: {agent}"),
            );
        }
    }
    match change.score.cmp(&change.previous_score) {
        std::cmp::Ordering::Less => {
            let by = change.previous_score - change.score;
            (
                Level::Info,
                format!("Trust score dropped by {by} to {}: {agent}", change.score),
            )
        }
        std::cmp::Ordering::Equal => (
            Level::Info,
            format!("Trust score stays at {}: {agent}", change.score),
        ),
        std::cmp::Ordering::Greater => (
            Level::Info,
            format!("Trust score rose to {}: {agent}", change.score),
        ),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
