//! `replay`: audit logs into events, without privileges and without side effects.

mod sink;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use collector::assemble::{Assembled, Assembler, Limits};
use collector::logs::{Follower, LogClock, LogReader, LogStats};

use sink::Sink;

/// How often a growing log is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Decode audit logs into events; no privileges, no side effects.
///
/// Reads auditd's log (raw or enriched, also of several machines), `ausearch --raw`, the kernel's log, gzip and zstd. `-` is
/// standard input. Lines that are no audit records are left out and counted. A record that comes after its event was written
/// is written as one more object with the same id and `"amends": true`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor replay /var/log/audit/audit.log --output text\n  syscall-monitor replay --follow /var/log/audit/audit.log\n  ausearch --raw | syscall-monitor replay - | jq .process.argv"
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
    /// Go on with what is added to the log, also when it is rotated, until interrupted
    ///
    /// A log that is renamed (audit.log, audit.log.1, …) is read to its end first; one that is cut in place is read from its
    /// start. An event whose end does not come is written after 2 seconds.
    #[arg(long)]
    pub follow: bool,
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

pub fn run(_config: Option<&Path>, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut assembler = Assembler::for_logs(Limits::default());
    let (stats, events, done) = if args.follow {
        let (stats, events) = follow(args, &mut assembler)?;
        (stats, events, Ok(()))
    } else {
        let mut reader = LogReader::open(&args.file)?;
        let mut sink = Sink::new(args.output, args.store.as_deref())?;
        let done = read(&mut reader, &mut assembler, &mut sink);
        // What came before a fault is given out.
        (reader.stats().clone(), sink.finish()?, done)
    };
    report(args, &stats, events, &assembler, began);
    done.map(|()| ExitCode::SUCCESS)
}

/// Everything that is there, to its end.
fn read(
    reader: &mut LogReader<'_>,
    assembler: &mut Assembler,
    sink: &mut Sink,
) -> anyhow::Result<()> {
    let mut clock = LogClock::new();
    let mut ready = Vec::new();
    let mut failed = None;
    let read = reader.try_for_each_record(|r| {
        let now = clock.at(r.millis);
        assembler.push(r.node, r.kind, r.millis, r.serial, r.body, now, &mut ready);
        match take(sink, &mut ready) {
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
    take(sink, &mut ready)?;
    let _: ControlFlow<()> = read?;
    Ok(())
}

/// What is there and what is added, until somebody interrupts.
fn follow(args: &ReplayArgs, assembler: &mut Assembler) -> anyhow::Result<(LogStats, u64)> {
    if args.file == Path::new("-") {
        return Err(super::usage(anyhow::anyhow!(
            "--follow needs a file: standard input goes on by itself until its writer ends; leave --follow out"
        )));
    }
    let mut log = Follower::open(&args.file)?;
    let mut sink = Sink::new(args.output, args.store.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut term) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        let mut ready = Vec::new();
        loop {
            // The clock on the wall, not the log's: the last event of a quiet log must not wait for a next one.
            let mut failed = Ok(());
            let now = Instant::now();
            log.poll(|r| {
                assembler.push(r.node, r.kind, r.millis, r.serial, r.body, now, &mut ready);
                if failed.is_ok() {
                    failed = take(&mut sink, &mut ready);
                }
                ready.clear();
            })?;
            failed?;
            assembler.tick(now, &mut ready);
            take(&mut sink, &mut ready)?;
            sink.flush()?;
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = term.recv() => break,
                () = tokio::time::sleep(GLANCE) => {}
            }
        }
        assembler.finish(&mut ready);
        take(&mut sink, &mut ready)
    });
    let events = sink.finish()?;
    ended?;
    Ok((log.stats().clone(), events))
}

fn take(sink: &mut Sink, ready: &mut Vec<Assembled>) -> anyhow::Result<()> {
    ready.drain(..).try_for_each(|one| sink.take(one))
}

fn report(args: &ReplayArgs, stats: &LogStats, events: u64, assembler: &Assembler, began: Instant) {
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
            "{} lines, {events} events in {:.3} s; {} duplicates, {} late records, {} events without their end, {} of them put out early for want of memory",
            stats.lines,
            began.elapsed().as_secs_f64(),
            a.duplicates,
            a.amendments,
            a.timed_out + a.unfinished + a.evicted,
            a.evicted
        );
    }
}
