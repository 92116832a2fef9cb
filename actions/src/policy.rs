//! May a container be frozen for an alert? The answer, also the answer no, is a [`Decision`] with its reason.
//!
//! The guards, in the order in which they speak: the rule must ask for it; there must be a container, named by an
//! attribution that is certain; it must not be our own; it must not be protected by root's configuration; it must be an
//! agent, unless the scope is all; and a person's release keeps the same rule from freezing again during the cool-down.
//! Nothing that a container can say of itself (labels, names alone) takes it out.

use std::fmt;
use std::time::Duration;

use detector::Alert;
use detector::alert::Response;
use serde::{Deserialize, Serialize};

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
    /// Tell people.
    NotifyOnly,
    /// Keep it in the history.
    Nothing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Freeze => "freeze",
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

impl Decision {
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
        let (verdict, reason) = self.verdict(alert, now_ms, situation);
        Decision {
            id: format!("D-{}", alert.id),
            alert: alert.id,
            container: alert.container.as_ref().map(|c| DecisionContainer {
                id: c.id.clone(),
                name: c.name.clone(),
            }),
            verdict,
            reason,
            dry_run: self.dry_run,
            at_ms: now_ms,
            steps: Vec::new(),
        }
    }

    fn verdict(&self, alert: &Alert, now_ms: u64, situation: &Situation) -> (Verdict, String) {
        let notify = |why: String| (Verdict::NotifyOnly, why);
        match alert.response {
            Response::Log => {
                return (
                    Verdict::Nothing,
                    "the rule asks for a place in the history only".into(),
                );
            }
            Response::Alert => return notify("the rule asks for an alert only".into()),
            Response::AlertAndLog => {
                return notify("the rule asks for an alert and a line in the security log".into());
            }
            Response::Quarantine => {}
        }
        let Some(container) = &alert.container else {
            return notify("it happened on the host, and the host is never frozen".into());
        };
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
                return (
                    Verdict::Freeze,
                    format!("{why}; it runs although it is quarantined, so it is frozen again"),
                );
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
        (Verdict::Freeze, why)
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
mod tests {
    use super::*;
    use crate::fixture::alert;
    use detector::Severity;

    fn verdict(policy: &Policy, alert: &Alert) -> Verdict {
        policy.decide(alert, 0, false).verdict
    }

    #[test]
    fn a_certain_critical_alert_of_an_agent_freezes_it() {
        let decision = Policy::default().decide(&alert(42), 7, false);
        assert_eq!(
            (decision.verdict, decision.id.as_str(), decision.at_ms),
            (Verdict::Freeze, "D-42", 7)
        );
        assert!(decision.freezes());
        let text = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
    }

    #[test]
    fn nobody_is_frozen_on_a_guess() {
        let mut a = alert(1);
        a.attribution.certain = false;
        let decision = Policy {
            scope: Scope::All,
            ..Policy::default()
        }
        .decide(&a, 0, false);
        assert_eq!(decision.verdict, Verdict::NotifyOnly);
        assert!(decision.reason.contains("not certain"));
    }

    #[test]
    fn the_host_is_never_frozen() {
        let mut a = alert(1);
        a.container = None;
        assert_eq!(
            verdict(
                &Policy {
                    scope: Scope::All,
                    ..Policy::default()
                },
                &a
            ),
            Verdict::NotifyOnly
        );
    }

    #[test]
    fn only_agents_are_frozen_unless_the_scope_is_all() {
        let mut a = alert(1);
        if let Some(c) = &mut a.container {
            c.profile = None;
        }
        assert_eq!(verdict(&Policy::default(), &a), Verdict::NotifyOnly);
        assert_eq!(
            verdict(
                &Policy {
                    scope: Scope::All,
                    ..Policy::default()
                },
                &a
            ),
            Verdict::Freeze
        );
        assert_eq!(
            verdict(
                &Policy {
                    scope: Scope::None,
                    ..Policy::default()
                },
                &alert(1)
            ),
            Verdict::NotifyOnly
        );
    }

    #[test]
    fn the_rule_s_response_decides_not_its_level() {
        for (response, expected) in [
            (Response::Log, Verdict::Nothing),
            (Response::Alert, Verdict::NotifyOnly),
            (Response::AlertAndLog, Verdict::NotifyOnly),
            (Response::Quarantine, Verdict::Freeze),
        ] {
            let mut a = alert(1);
            a.response = response;
            a.severity = Severity::Critical;
            assert_eq!(verdict(&Policy::default(), &a), expected, "{response:?}");
        }
    }

    #[test]
    fn a_dry_run_decides_and_does_not_act() {
        let decision = Policy {
            dry_run: true,
            ..Policy::default()
        }
        .decide(&alert(1), 0, false);
        assert_eq!(
            (decision.verdict, decision.dry_run, decision.freezes()),
            (Verdict::Freeze, true, false)
        );
    }

    #[test]
    fn the_monitor_does_not_freeze_itself() {
        for own in ["ab".repeat(32), "ab".repeat(6)] {
            let policy = Policy {
                self_container: Some(own),
                ..Policy::default()
            };
            assert_eq!(verdict(&policy, &alert(1)), Verdict::NotifyOnly);
        }
        // Too short to be an id, or somebody else's.
        for own in ["ab".to_owned(), "cd".repeat(32), String::new()] {
            let policy = Policy {
                self_container: Some(own),
                ..Policy::default()
            };
            assert_eq!(verdict(&policy, &alert(1)), Verdict::Freeze);
        }
    }

    #[test]
    fn a_name_alone_does_not_protect_an_agent() {
        let policy = Policy {
            protect: vec!["openclaw-*".into()],
            ..Policy::default()
        };
        assert_eq!(verdict(&policy, &alert(1)), Verdict::Freeze);
        let mut other = alert(1);
        if let Some(c) = &mut other.container {
            c.profile = None;
        }
        let policy = Policy {
            scope: Scope::All,
            ..policy
        };
        assert_eq!(verdict(&policy, &other), Verdict::NotifyOnly);
    }

    #[test]
    fn a_digest_protects_and_an_unknown_one_does_not() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let known = Situation {
            image_id: Some(digest.clone()),
            ..Situation::default()
        };
        for entry in [digest.clone(), format!("openclaw-*@{digest}")] {
            let policy = Policy {
                protect: vec![entry],
                ..Policy::default()
            };
            assert_eq!(
                policy.decide_in(&alert(1), 0, &known).verdict,
                Verdict::NotifyOnly
            );
            assert_eq!(
                policy
                    .decide_in(&alert(1), 0, &Situation::default())
                    .verdict,
                Verdict::Freeze
            );
        }
        let policy = Policy {
            protect: vec![format!("other-*@{digest}")],
            ..Policy::default()
        };
        assert_eq!(
            policy.decide_in(&alert(1), 0, &known).verdict,
            Verdict::Freeze
        );
    }

    #[test]
    fn who_runs_although_quarantined_is_frozen_again() {
        let a = alert(1);
        let since = |ms| Situation {
            quarantined_at_ms: Some(ms),
            ..Situation::default()
        };
        let policy = Policy::default();
        assert_eq!(policy.decide(&a, 0, true).verdict, Verdict::NotifyOnly);
        assert_eq!(
            policy.decide_in(&a, 0, &since(a.time_ms)).verdict,
            Verdict::NotifyOnly
        );
        let again = policy.decide_in(&a, 0, &since(a.time_ms - 1));
        assert_eq!(again.verdict, Verdict::Freeze);
        assert!(again.reason.contains("frozen again"));
    }

    #[test]
    fn after_a_release_the_same_rule_waits_for_the_cool_down() {
        let a = alert(1);
        let policy = Policy {
            cooldown: Duration::from_secs(60),
            ..Policy::default()
        };
        let released = |rule: &str| Situation {
            released: Some((rule.into(), 1000)),
            ..Situation::default()
        };
        assert_eq!(
            policy.decide_in(&a, 60_999, &released(&a.rule)).verdict,
            Verdict::NotifyOnly
        );
        assert_eq!(
            policy.decide_in(&a, 61_000, &released(&a.rule)).verdict,
            Verdict::Freeze
        );
        assert_eq!(
            policy.decide_in(&a, 1001, &released("another")).verdict,
            Verdict::Freeze
        );
        assert_eq!(
            Policy::default()
                .decide_in(&a, 1001, &released(&a.rule))
                .verdict,
            Verdict::Freeze
        );
    }
}
