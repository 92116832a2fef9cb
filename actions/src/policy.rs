//! May a container be frozen for an alert? The answer, also the answer no, is a [`Decision`] with its reason.
//!
//! The guards, in the order in which they speak: the rule must ask for it; there must be a container, named by an
//! attribution that is certain; it must not be our own; it must not be protected by root's configuration; it must be an
//! agent, unless the scope is all; and a person's release keeps the same rule from freezing again during the cool-down.
//! Nothing that a container can say of itself (labels, names alone) takes it out. How far we go is root's [`Ladder`].

mod budget;
mod level;

use std::fmt;
use std::time::Duration;

use detector::Alert;
use detector::alert::Response;
use serde::{Deserialize, Serialize};

pub use budget::Budget;
pub use level::{Ladder, Level};

use crate::glob;

/// Which containers may be frozen automatically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Those that match an agent profile.
    #[default]
    Agents,
    /// Every container.
    All,
    /// None: alerts only.
    None,
}

/// What root configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which containers.
    pub scope: Scope,
    /// Decide everything, do nothing.
    pub dry_run: bool,
    /// Containers that are never frozen. `sha256:…` is a digest of an image; `GLOB@sha256:…` a name with the digest that
    /// it must have; `GLOB` alone is a name, and holds only for a container that is no agent, since whoever reaches the
    /// engine can rename a container.
    pub protect: Vec<String>,
    /// After a person released a container, the same rule does not freeze it again for this long. Zero: it does at once.
    pub cooldown: Duration,
    /// Id of the container that the monitor itself runs in, if it does.
    pub self_container: Option<String>,
    /// How far to go, by severity and profile.
    pub ladder: Ladder,
}

/// What is known of the container beside the alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// Since when it is quarantined, in milliseconds since the epoch: the moment when the freeze had taken hold.
    pub quarantined_at_ms: Option<u64>,
    /// Digest of its image, `sha256:…`, from the engine. Unknown protects nobody.
    pub image_id: Option<String>,
    /// The last release by a person: rule of that quarantine, and when.
    pub released: Option<(String, u64)>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Freeze the container, then tell.
    Freeze,
    /// Take the container off its networks and let it run, then tell.
    Cut,
    /// Tell people.
    NotifyOnly,
    /// Keep it in the history.
    Nothing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Freeze => "freeze",
            Self::Cut => "cut",
            Self::NotifyOnly => "notify only",
            Self::Nothing => "nothing",
        })
    }
}

/// The container that was decided about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionContainer {
    /// Full id.
    pub id: String,
    /// Name, or short id.
    pub name: String,
}

/// One step that followed from the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was done, `freeze`, `docker pause`, …
    pub what: String,
    /// Did it work?
    pub ok: bool,
    /// How, or why not.
    pub detail: String,
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// How long it took, microseconds.
    pub took_us: u64,
}

/// What was decided about one alert, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// `D-42`, the number of the alert.
    pub id: String,
    /// Number of the alert.
    pub alert: u64,
    /// Container, if there is one.
    pub container: Option<DecisionContainer>,
    /// What is to be done.
    pub verdict: Verdict,
    /// How far to go; notify for everything that leaves the container alone.
    #[serde(default = "notify")]
    pub level: Level,
    /// Why, one sentence for a person.
    pub reason: String,
    /// Decided only: nothing is done.
    pub dry_run: bool,
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// What followed.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// Of a decision that was stored before there were levels.
fn notify() -> Level {
    Level::Notify
}

impl Decision {
    /// Is anything to be done to the container (and not a dry run)?
    pub fn acts(&self) -> bool {
        matches!(self.verdict, Verdict::Freeze | Verdict::Cut) && !self.dry_run
    }

    /// Is the container to be frozen now (a freeze, and not a dry run)?
    pub fn freezes(&self) -> bool {
        self.verdict == Verdict::Freeze && !self.dry_run
    }
}

impl Policy {
    /// Decides, when nothing more is known than whether the container is quarantined already.
    pub fn decide(&self, alert: &Alert, now_ms: u64, quarantined: bool) -> Decision {
        let situation = Situation {
            quarantined_at_ms: quarantined.then_some(u64::MAX),
            ..Situation::default()
        };
        self.decide_in(alert, now_ms, &situation)
    }

    /// Decides.
    pub fn decide_in(&self, alert: &Alert, now_ms: u64, situation: &Situation) -> Decision {
        let (level, verdict, reason) = match self.judge(alert, now_ms, situation) {
            Ok((level, why)) if level.freezes() => (level, Verdict::Freeze, why),
            Ok((level, why)) => (level, Verdict::Cut, why),
            Err((verdict, why)) => (Level::Notify, verdict, why),
        };
        Decision {
            id: format!("D-{}", alert.id),
            alert: alert.id,
            container: alert.container.as_ref().map(|c| DecisionContainer {
                id: c.id.clone(),
                name: c.name.clone(),
            }),
            verdict,
            level,
            reason,
            dry_run: self.dry_run,
            at_ms: now_ms,
            steps: Vec::new(),
        }
    }

    /// How far to go and why; or what else is to be done, and why no more.
    fn judge(
        &self,
        alert: &Alert,
        now_ms: u64,
        situation: &Situation,
    ) -> Result<(Level, String), (Verdict, String)> {
        let notify = |why: String| Err((Verdict::NotifyOnly, why));
        let profile = alert.container.as_ref().and_then(|c| c.profile);
        let said = self.ladder.said(alert.severity, profile);
        // What root says of a severity holds for all of it that people are told of; else the rule itself must ask for it.
        let level = match (alert.response, said) {
            (Response::Log, _) => {
                return Err((
                    Verdict::Nothing,
                    "the rule asks for a place in the history only".into(),
                ));
            }
            (_, Some(level)) => level,
            (Response::Alert, None) => return notify("the rule asks for an alert only".into()),
            (Response::AlertAndLog, None) => {
                return notify("the rule asks for an alert and a line in the security log".into());
            }
            (Response::Quarantine, None) => self.ladder.level,
        };
        let Some(container) = &alert.container else {
            return notify("it happened on the host, and the host is never frozen".into());
        };
        if level == Level::Notify {
            return notify(format!(
                "the configuration says notify for a {} alert (quarantine.level, levels, profiles)",
                alert.severity
            ));
        }
        if !alert.attribution.certain {
            return notify(
                "which container did it is not certain, and nobody is frozen on a guess".into(),
            );
        }
        if self
            .self_container
            .as_deref()
            .is_some_and(|own| same_id(own, &container.id))
        {
            return notify("it is the monitor's own container, which is never frozen".into());
        }
        if let Some(entry) = self.protected_by(alert, situation) {
            return notify(format!(
                "the configuration protects it (quarantine.protect has {entry:?})"
            ));
        }
        let why = match (self.scope, container.profile) {
            (Scope::None, _) => return notify("quarantine.scope is none".into()),
            (Scope::Agents, None) => {
                return notify(
                    "it matches no agent profile, and quarantine.scope is agents".into(),
                );
            }
            (_, Some(profile)) => format!(
                "a {} alert that is certain, of an agent ({profile})",
                alert.severity
            ),
            (Scope::All, None) => format!(
                "a {} alert that is certain, and quarantine.scope is all",
                alert.severity
            ),
        };
        if let Some(since) = situation.quarantined_at_ms {
            // Audit's clock is coarse and runs behind, never ahead: an event that is later than the freeze is real.
            if alert.time_ms > since {
                return Ok((
                    if level.freezes() {
                        level
                    } else {
                        Level::Freeze
                    },
                    format!("{why}; it runs although it is quarantined, so it is frozen again"),
                ));
            }
            return notify("it is quarantined already".into());
        }
        if let Some((rule, at)) = &situation.released
            && *rule == alert.rule
            && now_ms < at.saturating_add(self.cooldown.as_millis().try_into().unwrap_or(u64::MAX))
        {
            return notify(
                "a person released it from this very rule a short time ago (quarantine.cooldown)"
                    .into(),
            );
        }
        Ok((level, why))
    }

    fn protected_by<'a>(&'a self, alert: &Alert, situation: &Situation) -> Option<&'a str> {
        let container = alert.container.as_ref()?;
        let digest = situation.image_id.as_deref();
        self.protect.iter().map(String::as_str).find(|entry| {
            if entry.starts_with("sha256:") {
                return digest == Some(entry);
            }
            match entry.split_once("@sha256:") {
                Some((name, hex)) => {
                    glob::matches(name, &container.name)
                        && digest.and_then(|d| d.strip_prefix("sha256:")) == Some(hex)
                }
                None => container.profile.is_none() && glob::matches(entry, &container.name),
            }
        })
    }
}

/// Our own id may be known only by its first digits (the hostname of a container).
fn same_id(own: &str, id: &str) -> bool {
    own.len() >= 12 && (id.starts_with(own) || own.starts_with(id) && !id.is_empty())
}

#[cfg(test)]
mod tests;
