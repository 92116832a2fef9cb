//! `restore`: the kernel's rules and settings as they were, also after a kill -9 of the monitor.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::config::Config;
use crate::daemon::{kernel, pidfile};

/// Put the kernel's audit rules and settings back as they were before the monitor ran.
///
/// A clean stop does this by itself; this is for after a crash. It prints a line for each thing that it changed.
#[derive(Args)]
pub struct RestoreArgs {}

pub fn run(config: Option<&Path>, _args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    if let Some(pid) = pidfile::holder(&config.pid_file())? {
        bail!(
            "the monitor runs (pid {pid}); stop it instead (scripts/enable-syscall-monitor.sh --stop), that restores as well"
        );
    }
    let changes = kernel::restore(&config)?;
    let mut out = std::io::stdout().lock();
    for line in &changes {
        writeln!(out, "{line}")?;
    }
    if changes.is_empty() {
        writeln!(
            out,
            "nothing to restore: the kernel's audit rules and settings are as they were found"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
