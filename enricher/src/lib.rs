//! Who did it.
//!
//! In: [`collector::Event`]s and messages of the proc connector, `/proc`, what container engines say.
//! Out: [`Activity`]s. This room does not know rules or alerts.

pub mod activity;
pub mod container;

pub use activity::{Activity, Attribution, Process};
pub use container::Container;
