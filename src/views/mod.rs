//! What is asked of the history as a whole: counts over time, the busiest names, a process tree, whether it is whole, copies and upkeep.
//!
//! In: an [`Ask`], through the daemon's API or straight from the command line while no daemon runs. Out: one JSON document. The work is
//! done where the store is, on stored entries, so a summary of millions of events is a small answer. How it looks to people is told in
//! `cli/history/`. Everything here is bounded: names come from containers.

pub mod care;
mod names;
pub mod stats;
pub mod timeline;
pub mod tree;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::query::{Spec, Watch};

/// A question, or an order, to the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Ask {
    /// Events over time.
    Timeline {
        spec: Spec,
        /// Width of a bar, milliseconds; chosen when not given.
        step_ms: Option<u64>,
    },
    /// The busiest names.
    Stats {
        spec: Spec,
        /// So many of each.
        top: usize,
    },
    /// Who started whom.
    Tree {
        spec: Spec,
        /// Only the processes around this alert, `A-42`.
        alert: Option<String>,
    },
    /// Is everything as it was written?
    Verify {
        /// Anchors to compare with.
        #[serde(default)]
        anchors: Vec<String>,
    },
    /// A consistent copy in a new folder.
    Snapshot { dir: PathBuf },
    /// Removes the oldest.
    Prune(care::Prune),
}

impl Ask {
    /// Does it change something, so that only root may ask?
    pub fn changes(&self) -> bool {
        matches!(
            self,
            Self::Snapshot { .. } | Self::Prune(care::Prune { dry_run: false, .. })
        )
    }
}

/// Answers; `watch` tells how far it is.
pub fn answer(store: &history::Store, ask: &Ask, watch: &Watch) -> anyhow::Result<Value> {
    Ok(match ask {
        Ask::Timeline { spec, step_ms } => {
            serde_json::to_value(timeline::timeline(store, spec, *step_ms, watch)?)?
        }
        Ask::Stats { spec, top } => serde_json::to_value(stats::stats(store, spec, *top, watch)?)?,
        Ask::Tree { spec, alert } => {
            serde_json::to_value(tree::tree(store, spec, alert.as_deref(), watch)?)?
        }
        Ask::Verify { anchors } => serde_json::to_value(care::verify(store, anchors, watch)?)?,
        Ask::Snapshot { dir } => care::snapshot(store, dir)?,
        Ask::Prune(prune) => serde_json::to_value(care::prune(store, prune)?)?,
    })
}

/// A word of an enumeration as it stands in JSON.
fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    }
}
