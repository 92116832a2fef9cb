//! What it means.
//!
//! In: [`enricher::Activity`]s and Sigma rules. Out: [`Alert`]s. This room does not know how an alert is delivered or kept.
//!
//! An activity goes through the lanes whose log source it belongs to (`lane`), as a view that answers to the field
//! names of rules without copying (`view`, `fields`). What matched is checked against the pack of the rule, fed into
//! correlations, and becomes a new alert or a repeat of an open one (`repeat`).

pub mod alert;
mod custom;
mod detector;
pub mod fields;
mod intent;
mod lane;
mod load;
mod problem;
mod raise;
mod record_view;
mod repeat;
mod rule;
mod view;

pub use alert::{Alert, Response, Severity};
pub use detector::{Counters, Detected, Detector, Options};
pub use load::Pack;
pub use problem::{LoadError, Problem};
pub use rule::RuleInfo;
