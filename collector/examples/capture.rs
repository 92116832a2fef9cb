//! Runs a command under audit rules and writes what the kernel records to a log, as auditd would, EOE included.
//!
//! ```text
//! cargo run -p collector --example capture -- out.log --rule "-a always,exit -F arch=b64 -S execve -F key=x" -- /bin/true
//! ```
//!
//! Needs root, and nobody else who owns the stream. Rules and settings are put back at the end, also after SIGINT and SIGTERM, which
//! end the command as well. Ends with 1 when a record was lost.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::process::{ExitCode, ExitStatus};
use std::sync::{Arc, Mutex};

use collector::control::Control;
use collector::live::{Mode, Reader, ReaderOptions};
use collector::losses::{KernelLost, Losses};
use collector::rules::parse_rules;
use collector::settings::{SavedState, Wanted, assert_settings};
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match capture(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("capture: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command to its end, or ends it when we are asked to end.
fn run(program: &str, arguments: &[String]) -> std::io::Result<ExitStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .spawn()?;
        tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        child.kill().await?;
        child.wait().await
    })
}

fn capture(args: &[String]) -> Result<ExitCode, Failure> {
    let usage = "usage: capture LOG [--rule RULE]... -- COMMAND [ARGUMENT]...";
    let split = args.iter().position(|a| a == "--").ok_or(usage)?;
    let (options, command) = (&args[..split], &args[split + 1..]);
    let (log, options) = options.split_first().ok_or(usage)?;
    let (program, arguments) = command.split_first().ok_or(usage)?;
    let mut rules = Vec::new();
    for pair in options.chunks(2) {
        let ["--rule", text] = pair.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
            return Err(usage.into());
        };
        let parsed = parse_rules(text, "--rule").map_err(|e| format!("{text}: {e:?}"))?;
        rules.extend(parsed.into_iter().map(|r| r.rule));
    }

    let mut control = Control::open()?;
    let before = SavedState::capture(&mut control)?;
    let done = (|| {
        let mut lost = KernelLost::new(&control.status()?);
        assert_settings(&mut control, &Wanted::default())?;
        let out = Arc::new(Mutex::new((BufWriter::new(File::create(log)?), Ok(0u64))));
        let sink = Arc::clone(&out);
        let options = ReaderOptions {
            mode: Mode::Exclusive,
            proc_events: false,
            ..ReaderOptions::default()
        };
        let reader = Reader::start_inline(options, move |batch| {
            let Ok(mut out) = sink.lock() else {
                return ControlFlow::Break(());
            };
            let (file, told) = &mut *out;
            for (kind, payload) in batch.records() {
                let written = write!(file, "type={kind} msg=")
                    .and_then(|()| file.write_all(payload))
                    .and_then(|()| file.write_all(b"\n"));
                match (&mut *told, written) {
                    (Ok(count), Ok(())) => *count += 1,
                    (_, Err(error)) => *told = Err(error),
                    (Err(_), Ok(())) => {}
                }
            }
            ControlFlow::Continue(())
        })?;
        for rule in &rules {
            control.add_rule(rule)?;
        }
        let status = run(program, arguments);
        for rule in &rules {
            control.delete_rule(rule)?;
        }
        let counters = reader.counters();
        reader.stop()?;
        let mut out = out.lock().map_err(|_| "the reader's thread failed")?;
        out.0.flush()?;
        let records = std::mem::replace(&mut out.1, Ok(0))?;
        let losses = Losses::snapshot(&counters, lost.update(&control.status()?));
        eprintln!("{records} records; the command ended with {}", status?);
        if losses.any() {
            eprintln!("the log is not whole: {losses:?}");
        }
        Ok::<_, Failure>(losses.any())
    })();
    for line in before.restore(&mut control)? {
        eprintln!("restored: {line}");
    }
    Ok(ExitCode::from(u8::from(done?)))
}
