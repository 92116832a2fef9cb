//! Audit log in, one JSON object an event out: what `syscall-monitor replay` does, and what of the processor it costs.
//!
//! ```text
//! cargo run --release -p enricher --example jsonl -- /var/log/audit/audit.log > events.jsonl
//! ```

use std::io::Write;
use std::process::ExitCode;

use collector::assemble::{Assembled, Assembler, Limits};
use collector::logs::{LogClock, LogReader};
use enricher::Enricher;

fn main() -> ExitCode {
    match std::env::args_os().nth(1).map(run) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("jsonl: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("usage: jsonl LOG");
            ExitCode::from(2)
        }
    }
}

fn run(log: std::ffi::OsString) -> Result<(), Box<dyn std::error::Error>> {
    let mut reader = LogReader::open(log)?;
    let (mut assembler, mut clock) = (Assembler::for_logs(Limits::default()), LogClock::new());
    let mut enricher = Enricher::offline();
    let (mut ready, mut text, mut failed) = (Vec::new(), Vec::new(), Ok(()));
    let mut stdout = std::io::stdout().lock();
    let mut write = |ready: &mut Vec<Assembled>, last: bool| {
        for one in ready.drain(..) {
            if let Assembled::Event(event) = one {
                enricher.enrich(event).write_json(&mut text);
                text.push(b'\n');
            }
        }
        if text.len() < 1 << 16 && !last {
            return Ok(());
        }
        let written = stdout.write_all(&text);
        text.clear();
        written
    };
    reader.for_each_record(|r| {
        let now = clock.at(r.millis);
        assembler.push(r.node, r.kind, r.millis, r.serial, r.body, now, &mut ready);
        if let Err(error) = write(&mut ready, false) {
            failed = Err(error);
        }
    })?;
    failed?;
    assembler.finish(&mut ready);
    write(&mut ready, true)?;
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    let lines = reader.stats().lines;
    eprintln!("{lines} lines, {:.0} a CPU-second", lines as f64 / seconds);
    Ok(())
}
