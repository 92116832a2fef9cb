//! A consistent copy.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::reader::Reader;
use crate::cli::args::{Output, StoreArgs};
use crate::config::Config;
use crate::output;
use crate::views::Ask;

/// Copies the history into a new folder while the monitor goes on. A plain copy of the files of a running store is broken; this one is
/// whole, as small as it can be, and is read with --store DIR. Only root may.
#[derive(Args)]
#[command(
    after_help = "Example:\n  syscall-monitor history snapshot /backup/history-$(date +%F) && syscall-monitor history verify --store /backup/history-$(date +%F)"
)]
pub struct SnapshotArgs {
    /// Folder to make
    dir: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it: table, json or jsonl
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(config: &Config, args: &SnapshotArgs) -> anyhow::Result<ExitCode> {
    // The daemon has another working directory.
    let dir = std::path::absolute(&args.dir)
        .with_context(|| format!("{} cannot be made absolute", args.dir.display()))?;
    let reader = Reader::open_to_change(config, &args.store)?;
    let done: Value = reader.ask(&Ask::Snapshot { dir: dir.clone() }, "copying")?;
    reader.close()?;
    output::one(args.output, &done, || {
        println!(
            "{} entries copied to {} in {:.1} s",
            done["entries"],
            dir.display(),
            done["seconds"].as_f64().unwrap_or(0.0)
        );
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
