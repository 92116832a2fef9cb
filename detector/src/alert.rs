//! `Alert`: a rule matched an activity.

use std::fmt;
use std::str::FromStr;

use enricher::activity::{Ancestor, Attribution, PathInfo};
use enricher::container::Profile;
use serde::{Deserialize, Serialize};

/// Level of a Sigma rule (Sigma specification 2.0, `level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// Name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Not a severity.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{0:?} is not a severity; the severities are informational, low, medium, high and critical"
)]
pub struct SeverityError(String);

impl FromStr for Severity {
    type Err = SeverityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Informational,
            Self::Low,
            Self::Medium,
            Self::High,
            Self::Critical,
        ]
        .into_iter()
        .find(|s| s.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| SeverityError(text.to_owned()))
    }
}

/// What a match asks for. The level gives it; `response` in the rule overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// Keep it in the history.
    Log,
    /// Tell people.
    Alert,
    /// Tell people and write to the security log (the story's HIGH row).
    AlertAndLog,
    /// Freeze the container, then tell.
    Quarantine,
}

impl Response {
    /// The story's table: critical is quarantine, high alert and log, medium alert, the rest history.
    pub fn of(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::Quarantine,
            Severity::High => Self::AlertAndLog,
            Severity::Medium => Self::Alert,
            Severity::Low | Severity::Informational => Self::Log,
        }
    }
}

/// The container of an alert, as it was when the alert was raised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertContainer {
    /// Full id.
    pub id: String,
    /// Name, or the short id while the engine has not answered.
    pub name: String,
    /// Image.
    pub image: Option<String>,
    /// Profile.
    pub profile: Option<Profile>,
    /// Instance.
    pub agent: Option<String>,
}

/// A rule matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Number; people see `A-42`.
    pub id: u64,
    /// Time of the event, milliseconds since the epoch.
    pub time_ms: u64,
    /// Severity.
    pub severity: Severity,
    /// What is asked for.
    pub response: Response,
    /// Id of the rule (UUID).
    pub rule: String,
    /// Title of the rule.
    pub title: String,
    /// Why this matters, from the rule.
    pub description: String,
    /// Tags (`attack.t1611`).
    pub tags: Vec<String>,
    /// Event that matched, `1795353018.414:5`.
    pub event: String,
    /// Fields that matched, with their values.
    pub matched: Vec<(String, String)>,
    /// Name of the system call.
    pub syscall: String,
    /// Its error, when it failed.
    pub errno: Option<String>,
    /// Container; `None` for the host.
    pub container: Option<AlertContainer>,
    /// How the container was told.
    pub attribution: Attribution,
    /// Actor's host pid.
    pub pid: u32,
    /// Actor's program.
    pub exe: String,
    /// Actor's name.
    pub comm: String,
    /// Actor's arguments.
    pub argv: Vec<String>,
    /// User id.
    pub uid: Option<u32>,
    /// User's name.
    pub user: Option<String>,
    /// Parent first.
    pub ancestors: Vec<Ancestor>,
    /// Files named.
    pub paths: Vec<PathInfo>,
    /// How often the same rule matched in the same container inside the window that this alert stands for.
    pub count: u64,
}

impl Alert {
    /// `A-42`.
    pub fn short_id(&self) -> String {
        format!("A-{}", self.id)
    }
}
