//! Who did it.
//!
//! In: [`collector::Event`]s and messages of the proc connector, `/proc`, what container engines say.
//! Out: [`Activity`]s. This room does not know rules or alerts.

pub mod activity;
pub mod cgroup;
pub mod clock;
pub mod container;
pub mod docker;
pub mod glob;
pub mod mountinfo;
pub mod mounts;
pub mod procfs;
pub mod profile;
pub mod runtime_args;

pub use activity::{Activity, Attribution, Process};
pub use container::Container;
pub use profile::{ProfileEntry, ProfileTable};
