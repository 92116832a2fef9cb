//! The busiest names, rates, losses, and the disk.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::reader::Reader;
use crate::cli::args::{Filters, Output, StoreArgs};
use crate::config::Config;
use crate::output::{self, bytes, visible};
use crate::times;
use crate::views::Ask;
use crate::views::stats::{Stats, Top};

/// The busiest programs, files, peers, containers and rules; rates, losses, and what the history takes on the disk.
///
/// Without --since: the last day. Counted from the terms of the stored blocks, without reading events, unless --text or --regex is given.
#[derive(Args)]
#[command(after_help = "Examples:\n  syscall-monitor history stats\n  \
    syscall-monitor history stats --container openclaw-gateway --since 7d --top 20")]
pub struct StatsArgs {
    #[command(flatten)]
    filters: Filters,
    /// So many of each
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it: table, json or jsonl
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(config: &Config, args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let (spec, default_window) = super::question(&args.filters, 24)?;
    let reader = Reader::open(config, &args.store)?;
    let ask = Ask::Stats {
        spec,
        top: args.top.min(10_000),
    };
    let stats: Stats = reader.ask(&ask, "counting")?;
    output::one(args.output, &serde_json::to_value(&stats)?, || {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        write(&stats, output::width(), &mut out)
    })?;
    if args.output == Output::Table && default_window {
        eprintln!("(the last day; --since 7d goes further back)");
    }
    Ok(ExitCode::SUCCESS)
}

fn write(stats: &Stats, width: usize, out: &mut impl Write) -> anyhow::Result<()> {
    let from = stats.from.as_deref().unwrap_or("the beginning");
    writeln!(
        out,
        "{} events from {from} until {}",
        stats.events, stats.until
    )?;
    writeln!(
        out,
        "  {:.1} a second on average, {} in the busiest {}{}; {} calls failed",
        stats.rate.mean,
        stats.rate.busiest,
        times::span(stats.rate.busiest_ms.max(1)),
        stats
            .rate
            .busiest_at
            .as_deref()
            .map(|at| format!(" ({at})"))
            .unwrap_or_default(),
        stats.failed
    )?;
    for (title, top) in [
        ("containers", &stats.containers),
        ("programs", &stats.programs),
        ("files", &stats.paths),
        ("peers", &stats.peers),
        ("system calls", &stats.syscalls),
        ("categories", &stats.categories),
        ("users", &stats.users),
        ("alerts by rule", &stats.alerts),
    ] {
        section(title, top, stats.events, width, out)?;
    }
    writeln!(out, "\nlosses")?;
    if stats.losses.is_empty() && stats.gaps.is_empty() {
        writeln!(out, "  none were noticed in this time")?;
    }
    for (what, count) in &stats.losses {
        writeln!(out, "  {count:>10}  {}", visible(what))?;
    }
    for (from, until) in &stats.gaps {
        writeln!(
            out,
            "  nobody watched from {} to {}",
            visible(from),
            visible(until)
        )?;
    }
    let d = &stats.disk;
    let entries: u64 = d.entries.values().sum();
    writeln!(out, "\ndisk")?;
    let kinds: Vec<String> = d.entries.iter().map(|(k, n)| format!("{k} {n}")).collect();
    writeln!(out, "  {entries} entries ({})", kinds.join(", "))?;
    if let (Some(oldest), Some(newest)) = (&d.oldest, &d.newest) {
        writeln!(out, "  from {oldest} to {newest}")?;
    }
    writeln!(
        out,
        "  {} of files, {} of values: {:.0} bytes an entry, {:.2} times the values",
        bytes(d.dir_bytes),
        bytes(d.value_bytes),
        d.bytes_per_entry,
        d.dir_bytes as f64 / d.value_bytes.max(1) as f64
    )?;
    if d.dropped + d.duplicates > 0 {
        writeln!(
            out,
            "  since it was opened {} entries were refused, {} came again",
            d.dropped, d.duplicates
        )?;
    }
    out.flush()?;
    Ok(())
}

fn section(
    title: &str,
    top: &Top,
    events: u64,
    width: usize,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if top.top.is_empty() {
        return Ok(());
    }
    let shown = top.top.len() as u64;
    let of = if top.different > shown {
        format!(" ({shown} of {})", top.different)
    } else {
        String::new()
    };
    writeln!(out, "\n{title}{of}")?;
    for c in &top.top {
        let share = if events > 0 && title != "alerts by rule" {
            format!("{:>5.1} %", c.count as f64 * 100.0 / events as f64)
        } else {
            String::new()
        };
        let line = format!("  {:>10}  {share:>7}  {}", c.count, visible(&c.name));
        writeln!(out, "{}", output::cut(&line, width))?;
    }
    if top.uncounted > 0 {
        writeln!(
            out,
            "  {:>10}  of names that were too many to count",
            top.uncounted
        )?;
    }
    Ok(())
}
