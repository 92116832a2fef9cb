//! What it means.
//!
//! In: [`enricher::Activity`]s and Sigma rules. Out: [`Alert`]s. This room does not know how an alert is delivered or kept.
//!
//! An activity goes through the lanes whose log source it belongs to (`lane`), as a view that answers to the field
//! names of rules without copying (`view`, `fields`). Of the lanes' rules it meets those whose needs it fulfils
//! (`reduce`, `candidates`, `matching`). What matched is checked against the pack of the rule, fed into
//! correlations, and becomes a new alert or a repeat of an open one (`repeat`).

pub mod alert;
mod calls;
mod candidates;
mod custom;
mod detector;
pub mod fields;
mod intent;
mod lane;
mod load;
mod matching;
mod problem;
mod raise;
mod record_view;
mod reduce;
mod repeat;
mod rule;
mod view;
mod warm;

pub use alert::{Alert, Response, Severity};
pub use detector::{Counters, Detected, Detector, Options};
pub use load::Pack;
pub use matching::Search;
pub use problem::{LoadError, Problem};
pub use rule::RuleInfo;
