//! Audit logs into the history.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use collector::assemble::{Assembled, Assembler, Limits};
use collector::logs::{LogClock, LogReader};
use enricher::Enricher;
use serde_json::json;

use super::progress::Bar;
use super::reader::not_while_starting;
use crate::cli::args::{Output, StoreArgs};
use crate::client::Client;
use crate::config::Config;
use crate::entries;
use crate::output;
use crate::query::Watch;

/// Takes audit logs into the history: auditd's log (raw or enriched), `ausearch --raw`, plain, gzip or zstd.
///
/// Into the monitor's own history while it does not run, else into another one with --store DIR, which is made when it is not there. An
/// event that is there already is not taken again, so the same log may be imported twice. No alert is raised for what is imported.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor history import --store /tmp/case1 /var/log/audit/audit.log*\n  \
    syscall-monitor history --store /tmp/case1 --since 2026-11-01 --failed"
)]
pub struct ImportArgs {
    /// Audit logs; - is standard input
    #[arg(required = true)]
    file: Vec<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    /// How the counts are written: table, json or jsonl
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Events that are handed to the store at once.
const BATCH: usize = 512;

#[derive(Default)]
struct Counts {
    lines: u64,
    records: u64,
    malformed: u64,
    /// File and number of the first line that is none.
    first_malformed: Option<(PathBuf, u64)>,
    events: u64,
    incomplete: u64,
    repeated: u64,
}

pub fn run(config: &Config, args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let store = open(config, &args.store)?;
    let dir = args
        .store
        .store
        .clone()
        .unwrap_or_else(|| config.history_dir());
    let before = store.stats();
    // Counted in events there; how many there are is not known before.
    let watch = Watch::default();
    let sizes = args
        .file
        .iter()
        .map(|f| std::fs::metadata(f).map_or(0, |m| m.len()));
    let bytes: u64 = sizes.sum();
    let bar = std::io::stderr()
        .is_terminal()
        .then(|| Bar::start(&watch, "importing"));
    let mut sink = Sink {
        store: &store,
        enricher: Enricher::offline(),
        batch: Vec::with_capacity(BATCH),
        counts: Counts::default(),
        watch: &watch,
    };
    for file in &args.file {
        sink.read(file)?;
    }
    sink.hand_over()?;
    store.flush()?;
    drop(bar);
    let counts = sink.counts;
    let after = store.stats();
    let duplicates = after.duplicates - before.duplicates;
    store.close()?;
    let taken = counts.events - duplicates.min(counts.events);
    let json = json!({
        "store": dir, "files": args.file, "lines": counts.lines, "records": counts.records, "not_records": counts.malformed,
        "events": counts.events, "taken": taken, "there_already": duplicates, "incomplete": counts.incomplete,
        "repeated_in_logs": counts.repeated, "bytes": bytes, "seconds": began.elapsed().as_secs_f64(),
    });
    output::one(args.output, &json, || {
        println!(
            "{taken} events taken into {}; {duplicates} were there already, {} came twice in the logs, {} without their end",
            dir.display(),
            counts.repeated,
            counts.incomplete
        );
        Ok(())
    })?;
    if let Some((file, line)) = &counts.first_malformed {
        eprintln!(
            "syscall-monitor: {} of {} lines are no audit records, the first is line {line} of {}; they were left out",
            counts.malformed,
            counts.lines,
            file.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The store to write into. The daemon's is the daemon's while it runs.
fn open(config: &Config, args: &StoreArgs) -> anyhow::Result<history::Store> {
    let dir = match &args.store {
        Some(dir) => dir.clone(),
        None => {
            if Client::connect(&config.socket())?.is_some() {
                bail!(
                    "the monitor runs and holds its history; import into another one with --store DIR, or stop the monitor first"
                );
            }
            not_while_starting(config)?;
            config.history_dir()
        }
    };
    let private = !dir.exists();
    let options = history::Options::default();
    let store = history::Store::open(&dir, options)
        .with_context(|| format!("cannot open the history {}", dir.display()))?;
    if private {
        crate::daemon::sensor::private_dir(&dir, 0o700)?;
    }
    Ok(store)
}

struct Sink<'a> {
    store: &'a history::Store,
    enricher: Enricher,
    batch: Vec<history::Entry>,
    counts: Counts,
    watch: &'a Watch,
}

impl Sink<'_> {
    fn read(&mut self, file: &Path) -> anyhow::Result<()> {
        let mut reader = LogReader::open(file)?;
        let mut assembler = Assembler::for_logs(Limits::default());
        let mut clock = LogClock::new();
        let mut ready = Vec::new();
        let mut failed = None;
        let read = reader.try_for_each_record(|r| {
            assembler.push(
                r.node,
                r.kind,
                r.millis,
                r.serial,
                r.body,
                clock.at(r.millis),
                &mut ready,
            );
            match ready.drain(..).try_for_each(|a| self.take(a)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => {
                    failed = Some(e);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(e) = failed {
            return Err(e);
        }
        // What came before a fault in the file is kept.
        assembler.finish(&mut ready);
        ready.drain(..).try_for_each(|a| self.take(a))?;
        let (stats, a) = (reader.stats(), assembler.counters());
        self.counts.lines += stats.lines;
        self.counts.records += stats.records;
        self.counts.malformed += stats.malformed;
        if let Some(line) = stats.malformed_lines.first() {
            self.counts
                .first_malformed
                .get_or_insert_with(|| (file.to_owned(), *line));
        }
        self.counts.incomplete += a.timed_out + a.unfinished;
        self.counts.repeated += a.duplicates;
        let _: ControlFlow<()> = read
            .with_context(|| format!("{}: what came before the fault was taken", file.display()))?;
        Ok(())
    }

    fn take(&mut self, assembled: Assembled) -> anyhow::Result<()> {
        let Assembled::Event(event) = assembled else {
            return Ok(());
        };
        self.counts.events += 1;
        self.watch.done.fetch_add(1, Ordering::Relaxed);
        let activity = self.enricher.enrich(event);
        self.batch.push(entries::activity(&activity, &[]));
        if self.batch.len() >= BATCH {
            self.hand_over()?;
        }
        Ok(())
    }

    /// A log does not hurry: when the writer's queue is full, it is waited for.
    fn hand_over(&mut self) -> anyhow::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        while !batch.is_empty() {
            match self.store.append_all(batch.clone()) {
                Ok(()) => break,
                Err(dropped) if dropped.why == history::Why::Full => {
                    // Those at the end were not taken.
                    batch.drain(..batch.len() - dropped.count.min(batch.len()));
                    self.store.flush()?;
                }
                Err(dropped) => return Err(dropped.into()),
            }
        }
        Ok(())
    }
}
