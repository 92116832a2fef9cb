//! Kernel rules as data.
//!
//! In: text in auditctl's syntax, bytes of the kernel's rule list. Out: [`Rule`]s, the kernel's bytes for them, auditctl's text
//! for them, and the smallest [`Changes`] that bring the kernel to a wished state. It knows no container: whoever does
//! builds rules for one with [`dynamic`].
//!
//! netlink-packet-audit's `RuleMessage` is not used: it loses the string of `exe=` (and shifts every string after it), rejects
//! `saddr_fam=`, overwrites other fields with the 65th, panics on system call 2048 and cannot say "prepend, exit". Its
//! `RuleBuffer`, which knows where each word of `struct audit_rule_data` lies, is right, and [`Rule::encode`] and
//! [`Rule::decode`] stand on it.

mod changes;
mod codec;
pub mod dynamic;
mod fields;
mod parse;
mod rule;
mod text;
mod values;
mod words;

pub use changes::{Applied, Changes, apply, diff};
pub use codec::DecodeError;
pub use parse::{ParsedRule, RuleError, parse_rules};
pub use rule::{Action, Field, FieldId, List, Op, Rule, SyscallMask, Value};

/// A key that starts so says that the rule is ours.
pub const KEY_PREFIX: &str = "sm-";
