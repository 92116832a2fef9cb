//! Who did it.
//!
//! In: [`collector::Event`]s and messages of the proc connector, `/proc`, what container engines say.
//! Out: [`Activity`]s. This room does not know rules or alerts.

//!
//! [`Enricher`] is the door: messages of the proc connector go in by [`Enricher::on_proc_event`], events by
//! [`Enricher::enrich`], containers by [`Enricher::update_container`]. [`docker`] runs in another process.

pub mod activity;
pub mod blind;
pub mod cgroup;
pub mod classify;
pub mod clock;
mod codec;
pub mod container;
mod derive;
pub mod docker;
mod enricher;
pub mod glob;
pub mod health;
mod json;
pub mod mountinfo;
pub mod mounts;
pub mod paths;
pub mod procfs;
pub mod profile;
pub mod registry;
mod resolve;
pub mod runtime;
pub mod runtime_args;
pub mod table;
pub mod users;

pub use activity::{Activity, Attribution, Process};
pub use codec::DecodeError;
pub use container::Container;
pub use enricher::{Enricher, EnricherCounters, Limits, Notice, Options};
pub use profile::{ProfileEntry, ProfileTable};
pub use runtime::{BindMount, Runtime};
