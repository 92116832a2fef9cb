//! `history`: search everything that was seen; views of it, and its care. One file a command.

mod compact;
mod export;
mod import;
mod list;
mod notices;
mod progress;
mod prune;
mod reader;
mod show;
mod snapshot;
mod stats;
mod timeline;
mod tree;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::args::{Filters, Output, StoreArgs};
use crate::config::Config;
use crate::query::Spec;
use crate::times;

pub use list::{Follow, follow};
pub use reader::{Reader, not_while_starting};

/// Search everything that was seen.
///
/// Without --since: the last hour, newest last. Works while the daemon runs (through its socket) and while it does not.
/// docs/history.md tells more, with examples.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    syscall-monitor history --container openclaw-gateway --syscall mount --output jsonl\n  \
    syscall-monitor history --since today --severity high\n  \
    syscall-monitor history --path /etc/cron.d --not comm=dpkg\n  \
    syscall-monitor history --since 7d --regex 'curl .*\\.sh' --reverse --limit 50\n  \
    syscall-monitor history show 1795353018.414:5\n  \
    syscall-monitor history tree --alert A-42"
)]
pub struct HistoryArgs {
    #[command(subcommand)]
    pub command: Option<Box<HistoryCommand>>,
    #[command(flatten)]
    pub filters: Filters,
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// At most that many, the newest ones [default: 1000 as a table, else all]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Go on behind this place, which the page before named: to older events with --limit or --reverse, else to newer ones
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Newest first, written as they are found
    #[arg(long)]
    pub reverse: bool,
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Subcommand)]
pub enum HistoryCommand {
    /// Everything about one event: who, where, every record, its alerts, what happened before and after
    Show(show::ShowArgs),
    /// Who started whom: a process tree with times
    Tree(tree::TreeArgs),
    /// Events over time, by category and severity
    Timeline(timeline::TimelineArgs),
    /// The busiest programs, files, peers and containers; rates, losses, room on the disk
    Stats(stats::StatsArgs),
    /// What happened to the monitor itself: times when nobody watched, losses, changed settings, releases
    Notices(notices::NoticesArgs),
    /// Is everything as it was written? Exit status 1 when not
    Verify(verify::VerifyArgs),
    /// Write events to a file, oldest first
    Export(export::ExportArgs),
    /// Take audit logs in
    Import(import::ImportArgs),
    /// A consistent copy in a new folder, also while the monitor runs
    Snapshot(snapshot::SnapshotArgs),
    /// Write the store anew, as small as it can be
    Compact(compact::CompactArgs),
    /// Remove what is older than a time
    Prune(prune::PruneArgs),
}

pub fn run(config: Option<&Path>, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    match args.command.as_deref() {
        None => list::run(&config, args),
        Some(HistoryCommand::Show(args)) => show::run(&config, args),
        Some(HistoryCommand::Tree(args)) => tree::run(&config, args),
        Some(HistoryCommand::Timeline(args)) => timeline::run(&config, args),
        Some(HistoryCommand::Stats(args)) => stats::run(&config, args),
        Some(HistoryCommand::Notices(args)) => notices::run(&config, args),
        Some(HistoryCommand::Verify(args)) => verify::run(&config, args),
        Some(HistoryCommand::Export(args)) => export::run(&config, args),
        Some(HistoryCommand::Import(args)) => import::run(&config, args),
        Some(HistoryCommand::Snapshot(args)) => snapshot::run(&config, args),
        Some(HistoryCommand::Compact(args)) => compact::run(&config, args),
        Some(HistoryCommand::Prune(args)) => prune::run(&config, args),
    }
}

/// The question of a command's filters; without a time (and without an id) it begins `hours` ago. Says whether it was so.
fn question(filters: &Filters, hours: u64) -> anyhow::Result<(Spec, bool)> {
    let mut spec = Spec::from_filters(filters, &["activity"]).map_err(super::usage)?;
    let no_time = spec.since_ms.is_none() && spec.until_ms.is_none() && filters.id.is_empty();
    if no_time {
        spec.since_ms = Some(times::now_ms().saturating_sub(hours * 3_600_000));
    }
    Ok((spec, no_time))
}
