//! Removes the oldest.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;

use super::reader::Reader;
use crate::cli::args::{Output, StoreArgs};
use crate::config::Config;
use crate::output::{self, bytes};
use crate::times;
use crate::views::Ask;
use crate::views::care::{Prune, Pruned};

/// Removes events that are older than a time; it says first what would go, and asks. Alerts, decisions, notices and the events that
/// raised an alert stay, unless --alerts is given. Only root may.
///
/// Whole blocks go, so up to a block of events (1,024) older than the time can stay. The monitor removes by itself what is older than
/// `[history] max_age_days` or more than `max_bytes`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor history prune --before 30d --dry-run\n  syscall-monitor history prune --before 2026-11-01 --yes"
)]
pub struct PruneArgs {
    /// Everything before: 30d, 2026-03-01, RFC 3339
    #[arg(long, value_name = "TIME")]
    before: String,
    /// Alerts and what belongs to them, too
    #[arg(long)]
    alerts: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask; needed where nobody can be asked
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it: table, json or jsonl
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(config: &Config, args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let before_ms = times::parse(&args.before, &jiff::Zoned::now()).map_err(crate::cli::usage)?;
    let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !args.dry_run && !args.yes && !can_ask {
        return Err(crate::cli::usage(anyhow::anyhow!(
            "nobody can be asked here; --dry-run says what would go, --yes removes it"
        )));
    }
    let reader = if args.dry_run {
        Reader::open(config, &args.store)?
    } else {
        Reader::open_to_change(config, &args.store)?
    };
    let mut prune = Prune {
        before_ms,
        alerts: args.alerts,
        dry_run: true,
    };
    let would: Pruned = reader.ask(&Ask::Prune(prune.clone()), "counting")?;
    if args.dry_run {
        return said(args.output, &would);
    }
    if !args.yes {
        eprintln!("{}", sentence(&would));
        eprint!("Remove them for good? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            eprintln!("nothing was removed");
            return Ok(ExitCode::from(1));
        }
    }
    prune.dry_run = false;
    let gone: Pruned = reader.ask(&Ask::Prune(prune), "removing")?;
    reader.close()?;
    said(args.output, &gone)
}

fn said(form: Output, pruned: &Pruned) -> anyhow::Result<ExitCode> {
    output::one(form, &serde_json::to_value(pruned)?, || {
        println!("{}", sentence(pruned));
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn sentence(p: &Pruned) -> String {
    let what = if p.alerts {
        "entries, alerts included,"
    } else {
        "events"
    };
    if p.dry_run {
        return format!(
            "{} of {} entries are {what} from before {}; they would go, but for what shares a block with newer ones",
            p.entries, p.held, p.before
        );
    }
    match &p.until {
        Some(until) => format!(
            "{} {what} in {} blocks ({}) are gone, the newest of {until}",
            p.entries,
            p.blocks,
            bytes(p.bytes)
        ),
        None => format!("nothing went: no whole block is from before {}", p.before),
    }
}
