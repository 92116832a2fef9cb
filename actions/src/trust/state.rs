//! One agent's score and how it comes about.

use detector::Severity;
use enricher::container::Profile;
use serde::{Deserialize, Serialize};

/// What an agent of this score may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Band {
    /// 95 to 100: it may act.
    Execute,
    /// 80 to 94: a person approves.
    HumanApproval,
    /// Below 80, or a critical alert.
    Quarantine,
}

impl Band {
    /// Band of a score.
    pub fn of(score: u8) -> Self {
        match score {
            95.. => Self::Execute,
            80..=94 => Self::HumanApproval,
            _ => Self::Quarantine,
        }
    }

    /// Name as in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Execute => "execute",
            Self::HumanApproval => "human-approval",
            Self::Quarantine => "quarantine",
        }
    }
}

impl std::fmt::Display for Band {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Container of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TrustContainer {
    pub id: String,
    pub name: String,
    pub image: Option<String>,
}

/// Why points are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Id of the rule.
    pub rule: String,
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// Severity of the alert.
    pub severity: Severity,
    /// Points, negative.
    pub delta: i32,
    /// Event that matched.
    pub event_id: String,
    /// Container, for the window.
    #[serde(default)]
    pub container_id: Option<String>,
    /// RFC 3339.
    pub at: String,
    /// The same in milliseconds since the epoch.
    #[serde(default)]
    pub at_ms: u64,
    /// When the points come back, RFC 3339; null: by a person only.
    pub expires_at: Option<String>,
    /// The same in milliseconds since the epoch.
    #[serde(default)]
    pub expires_ms: Option<u64>,
}

/// What stands in an agent's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustState {
    /// [`super::SCHEMA`].
    pub schema: String,
    /// Agent.
    pub agent: String,
    /// Profile.
    pub profile: Option<Profile>,
    /// Container.
    pub container: TrustContainer,
    /// Score, 0 to 100.
    pub score: u8,
    /// Score without deductions.
    pub base_score: u8,
    /// Band; quarantine also without a low score, after a critical alert.
    pub band: Band,
    /// Score before the last change.
    pub previous_score: u8,
    /// RFC 3339.
    pub updated_at: String,
    /// Every point that is missing.
    pub reasons: Vec<Reason>,
}

/// Most reasons that are kept; of more the oldest are made one with their sum kept, so the score stays right.
const REASONS: usize = 200;

impl TrustState {
    pub(super) fn new(agent: &str, base: u8, now_ms: u64) -> Self {
        let base = base.min(100);
        Self {
            schema: super::SCHEMA.to_owned(),
            agent: agent.to_owned(),
            profile: None,
            container: TrustContainer::default(),
            score: base,
            base_score: base,
            band: Band::of(base),
            previous_score: base,
            updated_at: crate::message::text::rfc3339_millis(now_ms),
            reasons: Vec::new(),
        }
    }

    pub(super) fn deducted_within(
        &self,
        rule: &str,
        container: &str,
        now_ms: u64,
        window_ms: u64,
    ) -> bool {
        self.reasons.iter().any(|r| {
            r.rule == rule
                && r.container_id.as_deref() == Some(container)
                && now_ms < r.at_ms.saturating_add(window_ms)
        })
    }

    /// Score and band from base and reasons; what has expired is dropped.
    pub(super) fn recompute(&mut self, now_ms: u64) {
        self.reasons
            .retain(|r| r.expires_ms.is_none_or(|at| now_ms < at));
        while self.reasons.len() > REASONS {
            let oldest = self.reasons.remove(0);
            let Some(next) = self.reasons.first_mut() else {
                break;
            };
            next.delta = next.delta.saturating_add(oldest.delta);
            next.severity = next.severity.max(oldest.severity);
            // The longer of both: neither gives its points back too early.
            if oldest.expires_ms.is_none()
                || next
                    .expires_ms
                    .is_some_and(|n| oldest.expires_ms.is_some_and(|o| o > n))
            {
                next.expires_ms = oldest.expires_ms;
                next.expires_at = oldest.expires_at;
            }
        }
        let lost: i32 = self
            .reasons
            .iter()
            .fold(0, |sum, r| sum.saturating_add(r.delta));
        let score = i32::from(self.base_score.min(100))
            .saturating_add(lost)
            .clamp(0, 100);
        self.score = u8::try_from(score).unwrap_or(0);
        self.band = if self
            .reasons
            .iter()
            .any(|r| r.severity == Severity::Critical)
        {
            Band::Quarantine
        } else {
            Band::of(self.score)
        };
    }
}
