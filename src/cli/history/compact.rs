//! Writes the store anew.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::reader::not_while_starting;
use crate::cli::args::{Output, StoreArgs};
use crate::client::Client;
use crate::config::Config;
use crate::output::{self, bytes};

/// Writes the store anew, as small as it can be, and puts it in the place of the old one: after much was removed, or when the disk is
/// short. The monitor must not run. It is verified first; interrupted at any moment the store is whole.
#[derive(Args)]
pub struct CompactArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it: table, json or jsonl
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(config: &Config, args: &CompactArgs) -> anyhow::Result<ExitCode> {
    let dir = match &args.store.store {
        Some(dir) => dir.clone(),
        None => {
            if Client::connect(&config.socket())?.is_some() {
                bail!(
                    "the monitor runs and holds its history; stop it first (a running one keeps itself small: `[history] max_bytes`, `max_age_days`), or name another store with --store DIR"
                );
            }
            not_while_starting(config)?;
            config.history_dir()
        }
    };
    let done = history::compact(&dir)
        .with_context(|| format!("cannot compact the history {}", dir.display()))?;
    let json = json!({"store": dir, "before": done.before, "after": done.after});
    output::one(args.output, &json, || {
        println!(
            "{}: {} before, {} now",
            dir.display(),
            bytes(done.before),
            bytes(done.after)
        );
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
