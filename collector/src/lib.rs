//! The kernel boundary.
//!
//! In: audit netlink messages, proc connector messages, audit log files, `*.rules` files. Out: [`Event`]s,
//! a kernel whose rules and settings are as wished, and losses. This room does not know what a container or an alert is.

pub mod decode;
pub mod event;
pub mod record;
pub mod text;

pub use event::{Event, EventId};
pub use record::{Record, RecordType};
