//! `RuleInfo`: what is known of a loaded rule beside its detection.

use std::path::PathBuf;

use enricher::container::Profile;

use crate::alert::{Response, Severity};

/// A loaded rule, as `rules list` and alerts show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// UUID of the rule.
    pub id: String,
    /// Title.
    pub title: String,
    /// Why it matters.
    pub description: String,
    /// Level.
    pub level: Severity,
    /// What a match asks for: the options, else `response:` in the rule, else by level.
    pub response: Response,
    /// Pack it came from.
    pub pack: String,
    /// Containers it applies to: those of this profile, or every container.
    pub profile: Option<Profile>,
    /// File.
    pub file: PathBuf,
    /// Tags (`attack.t1611`).
    pub tags: Vec<String>,
    /// Log source, `linux/process_creation`.
    pub logsource: String,
    /// Known false positives.
    pub falsepositives: Vec<String>,
    /// Where the facts behind it are written.
    pub references: Vec<String>,
    /// Does it count or order matches of other rules?
    pub correlation: bool,
    /// Ids of rules that say less of the same activity: they are silent when this one matches.
    pub supersedes: Vec<String>,
}

/// Level in our words.
pub(crate) fn severity(level: rsigma_parser::Level) -> Severity {
    match level {
        rsigma_parser::Level::Informational => Severity::Informational,
        rsigma_parser::Level::Low => Severity::Low,
        rsigma_parser::Level::Medium => Severity::Medium,
        rsigma_parser::Level::High => Severity::High,
        rsigma_parser::Level::Critical => Severity::Critical,
    }
}

/// Names of responses as a rule writes them.
pub(crate) const RESPONSES: [&str; 4] = ["quarantine", "alert-and-log", "alert", "log"];

/// `quarantine`, `alert-and-log`, `alert` or `log`.
pub(crate) fn response(text: &str) -> Option<Response> {
    match text {
        "quarantine" => Some(Response::Quarantine),
        "alert-and-log" => Some(Response::AlertAndLog),
        "alert" => Some(Response::Alert),
        "log" => Some(Response::Log),
        _ => None,
    }
}
