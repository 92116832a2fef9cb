//! How far we go: the ladder of levels, and root's setting of it by severity and profile.

use std::collections::BTreeMap;
use std::fmt;

use detector::Severity;
use enricher::container::Profile;
use serde::{Deserialize, Serialize};

/// One rung. Each does what its name says and nothing of the rungs above it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// People are told.
    Notify,
    /// It is taken off its networks, and runs on.
    Cut,
    /// It is frozen; its networks stay.
    Freeze,
    /// It is frozen, and taken off those networks that a release brings back exactly.
    #[default]
    Auto,
    /// It is frozen, and taken off all networks that it can be taken off.
    FreezeCut,
    /// It is frozen, its evidence is taken, then it is killed. What it had in memory is lost.
    Stop,
}

impl Level {
    /// All of them, from the mildest on.
    pub const ALL: [Self; 6] = [
        Self::Notify,
        Self::Cut,
        Self::Freeze,
        Self::Auto,
        Self::FreezeCut,
        Self::Stop,
    ];

    /// Name as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Cut => "cut",
            Self::Freeze => "freeze",
            Self::Auto => "auto",
            Self::FreezeCut => "freeze-cut",
            Self::Stop => "stop",
        }
    }

    /// Is it frozen directly, before anything else?
    pub fn freezes(self) -> bool {
        self >= Self::Freeze
    }

    /// Is it taken off networks?
    pub fn cuts(self) -> bool {
        matches!(self, Self::Cut | Self::Auto | Self::FreezeCut)
    }

    /// Only off those that come back exactly?
    pub fn cuts_exact_only(self) -> bool {
        self == Self::Auto
    }

    /// Is it killed in the end?
    pub fn stops(self) -> bool {
        self == Self::Stop
    }

    /// The same without what the budget limits: cuts and stops. A freeze stays a freeze.
    pub fn reversible_part(self) -> Self {
        if self.freezes() {
            Self::Freeze
        } else {
            Self::Notify
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Root's setting: the level of an alert by its severity and the profile of its container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// For what the rule itself wants quarantined, when nothing more exact is said.
    pub level: Level,
    /// By severity.
    pub by_severity: BTreeMap<Severity, Level>,
    /// By profile and severity; stands before the one by severity alone.
    pub by_profile: BTreeMap<Profile, BTreeMap<Severity, Level>>,
}

impl Ladder {
    /// What was said for this severity (and profile) in particular.
    pub fn said(&self, severity: Severity, profile: Option<Profile>) -> Option<Level> {
        profile
            .and_then(|p| self.by_profile.get(&p)?.get(&severity))
            .or_else(|| self.by_severity.get(&severity))
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_goes_as_far_as_its_name() {
        let what = |l: Level| (l.freezes(), l.cuts(), l.stops());
        assert_eq!(what(Level::Notify), (false, false, false));
        assert_eq!(what(Level::Cut), (false, true, false));
        assert_eq!(what(Level::Freeze), (true, false, false));
        assert_eq!(what(Level::Auto), (true, true, false));
        assert_eq!(what(Level::FreezeCut), (true, true, false));
        assert_eq!(what(Level::Stop), (true, false, true));
        assert!(Level::Auto.cuts_exact_only() && !Level::FreezeCut.cuts_exact_only());
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for level in Level::ALL {
            let text = serde_json::to_string(&level).unwrap();
            assert_eq!(text, format!("{:?}", level.name()));
        }
    }

    #[test]
    fn what_is_left_without_cuts_and_stops_can_be_taken_back() {
        for level in Level::ALL {
            let left = level.reversible_part();
            assert_eq!(left.freezes(), level.freezes(), "{level}");
            assert!(!left.cuts() && !left.stops(), "{level}");
        }
    }

    #[test]
    fn the_profile_stands_before_the_severity() {
        let ladder = Ladder {
            by_severity: BTreeMap::from([(Severity::High, Level::Cut)]),
            by_profile: BTreeMap::from([(
                Profile::Openclaw,
                BTreeMap::from([(Severity::High, Level::Stop)]),
            )]),
            ..Ladder::default()
        };
        let said = |severity, profile| ladder.said(severity, profile);
        assert_eq!(
            said(Severity::High, Some(Profile::Openclaw)),
            Some(Level::Stop)
        );
        assert_eq!(
            said(Severity::High, Some(Profile::Moltbot)),
            Some(Level::Cut)
        );
        assert_eq!(said(Severity::High, None), Some(Level::Cut));
        assert_eq!(said(Severity::Critical, Some(Profile::Openclaw)), None);
    }
}
