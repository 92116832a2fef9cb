//! What it means.
//!
//! In: [`enricher::Activity`]s and Sigma rules. Out: [`Alert`]s. This room does not know how an alert is delivered or kept.

pub mod alert;

pub use alert::{Alert, Response, Severity};
