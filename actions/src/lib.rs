//! What we do about it.
//!
//! In: [`detector::Alert`]s. Out: a frozen container, messages to people, a trust score, a log line; and a
//! [`policy::Decision`] for every alert, also for the one that led to nothing. This room does not know kernel rules, and
//! it reaches the store through the small trait [`ledger::Ledger`] alone.
//!
//! Two processes use it, so it has two sides that meet in [`courier::wire`]:
//!
//! - the *sensor* holds the audit rights and the store: [`policy`], [`freeze`], [`quarantine`], [`evidence`], [`outbox`], [`trust`], [`phone`].
//!   Files only; nothing there waits for a network or for an engine.
//! - the *courier* holds no rights: [`courier`], [`docker`], [`notify`]. Each request is a task of its own with a time
//!   limit; a hung engine or a slow service costs its own action and nothing else.
//!
//! [`message`] and [`redact`] are text to text and belong to both.

pub mod courier;
pub mod docker;
pub mod evidence;
pub mod freeze;
pub mod ledger;
pub mod message;
pub mod notify;
pub mod outbox;
pub mod phone;
pub mod policy;
pub mod quarantine;
pub mod redact;
pub mod seclog;
pub mod trust;

mod glob;

#[cfg(test)]
mod fixture;

pub use ledger::{Ledger, LedgerError};
pub use message::Message;
pub use policy::{Decision, Level, Policy, Scope, Verdict};
