//! `replay`: audit logs into events, without privileges and without side effects.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, ValueEnum};
use collector::assemble::{Assembled, Assembler, Limits};
use collector::logs::{LogClock, LogReader};
use enricher::Enricher;

use crate::{entries, show};

/// Decode audit logs into events; no privileges, no side effects.
///
/// Reads auditd's log (raw or enriched), `ausearch --raw`, gzip and zstd. `-` is standard input.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor replay /var/log/audit/audit.log --output text\n  ausearch --raw | syscall-monitor replay - | jq .process.argv"
)]
pub struct ReplayArgs {
    /// Audit log, or - for standard input
    pub file: PathBuf,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t)]
    pub output: ReplayOutput,
    /// Keep the events in a store of their own, for `history --store DIR`
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Print counts at the end
    #[arg(long)]
    pub stats: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReplayOutput {
    /// One JSON object a line
    #[default]
    Jsonl,
    /// One line for people
    Text,
    /// Nothing
    None,
}

struct Sink {
    out: BufWriter<std::io::StdoutLock<'static>>,
    output: ReplayOutput,
    store: Option<history::Store>,
    events: u64,
}

impl Sink {
    fn event(&mut self, enricher: &mut Enricher, assembled: Assembled) -> anyhow::Result<()> {
        let Assembled::Event(event) = assembled else {
            return Ok(());
        };
        self.events += 1;
        if self.output == ReplayOutput::None && self.store.is_none() {
            return Ok(());
        }
        let activity = enricher.enrich(event);
        match self.output {
            ReplayOutput::Jsonl => writeln!(self.out, "{}", activity.to_json())?,
            ReplayOutput::Text => {
                let json = activity.to_json();
                let line = format!(
                    "{} {:<14} {:>7} {:<16} {}",
                    json["time"].as_str().unwrap_or_default(),
                    show::container_name(&json),
                    activity.process.pid,
                    show::call(&json),
                    show::what(&json)
                );
                writeln!(self.out, "{}", crate::output::visible(&line))?;
            }
            ReplayOutput::None => {}
        }
        if let Some(store) = &self.store {
            // A log does not hurry: when the writer's queue is full, wait for it.
            let entry = entries::activity(&activity, &[]);
            if let Err(dropped) = store.append(entry.clone()) {
                if !matches!(dropped.why, history::Why::Full) {
                    return Err(dropped.into());
                }
                store.flush()?;
                store.append(entry)?;
            }
        }
        Ok(())
    }
}

pub fn run(_config: Option<&Path>, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut reader = LogReader::open(&args.file)?;
    let store = args
        .store
        .as_deref()
        .map(|dir| history::Store::open(dir, history::Options::default()))
        .transpose()?;
    let mut sink = Sink {
        out: BufWriter::new(std::io::stdout().lock()),
        output: args.output,
        store,
        events: 0,
    };
    let mut enricher = Enricher::offline();
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
        match ready
            .drain(..)
            .try_for_each(|assembled| sink.event(&mut enricher, assembled))
        {
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
    assembler.finish(&mut ready);
    ready
        .drain(..)
        .try_for_each(|assembled| sink.event(&mut enricher, assembled))?;
    sink.out.flush()?;
    if let Some(store) = sink.store.take() {
        store.close()?;
    }
    let stats = reader.stats();
    if stats.malformed > 0 {
        let first = stats.malformed_lines.first().copied().unwrap_or(0);
        eprintln!(
            "syscall-monitor: {} of {} lines are no audit records, the first is line {first}; they were left out",
            stats.malformed, stats.lines
        );
    }
    if args.stats {
        let a = assembler.counters();
        eprintln!(
            "{} lines, {} events in {:.3} s; {} duplicates, {} late records, {} events without their end",
            stats.lines,
            sink.events,
            began.elapsed().as_secs_f64(),
            a.duplicates,
            a.amendments,
            a.timed_out + a.unfinished
        );
    }
    // What came before the fault was given out.
    let _: ControlFlow<()> = read?;
    Ok(ExitCode::SUCCESS)
}
