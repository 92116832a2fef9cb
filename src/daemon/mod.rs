//! The daemon: three processes.
//!
//! * The **supervisor** (`syscall-monitor run`) saves the kernel's state, drops what it does not need, starts the sensor,
//!   ends it when it is stuck while the kernel's queue fills, starts it again when it dies, and puts the kernel back at the end.
//! * The **sensor** holds the audit rights: it reads, enriches, detects, freezes and keeps the history. It opens no network connection.
//! * The **courier** holds no capability at all: it talks to Docker and to the networks.
//!
//! Supervisor and sensor share a pipe (heartbeat), sensor and courier a socket pair; both end with the death of the other side.

pub mod alert_rules;
pub mod api;
pub mod chronicle;
pub mod courier;
pub mod keeper;
pub mod kernel;
pub mod ledger;
pub mod link;
pub mod metrics;
pub mod pidfile;
pub mod pipeline;
pub mod privileges;
pub mod report;
pub mod respond;
mod searches;
pub mod sensor;
pub mod stages;
pub mod state;
pub mod supervisor;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Chosen, Config, Mode};

/// What `run` was asked for, as it travels to the sensor and the courier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    pub config_file: Option<PathBuf>,
    pub config: Config,
    pub chosen: Chosen,
    /// Containers named on the command line: they are agents of the first chosen profile.
    pub containers: Vec<String>,
    pub mode: Mode,
    pub dry_run: bool,
}

/// Writes log lines of the daemon to standard error.
pub fn init_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SYSCALL_MONITOR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .try_init();
}
