//! The kernel boundary.
//!
//! In: audit netlink messages, proc connector messages, audit log files, `*.rules` files. Out: [`Event`]s,
//! a kernel whose rules and settings are as wished, and losses. This room does not know what a container or an alert is.
//!
#![doc = include_str!("../README.md")]

pub mod assemble;
pub mod control;
pub mod decode;
pub mod event;
pub mod hz;
pub mod live;
pub mod logs;
pub mod losses;
pub mod netlink;
pub mod proc_events;
pub mod realtime;
pub mod record;
pub mod rules;
pub mod settings;
pub mod status;
pub mod text;

pub use assemble::{AssembleCounters, Assembled, Assembler, Limits};
pub use event::{Event, EventId};
pub use record::{Header, RawValue, Record, RecordType, parse_header};
