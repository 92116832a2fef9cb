//! Reads an audit log and says what was done: one event after the other, in words.
//!
//! ```text
//! cargo run -p collector --example decode -- /var/log/audit/audit.log
//! ausearch --raw | cargo run -p collector --example decode -- -
//! ```

use std::process::ExitCode;

use collector::decode::describe_args;
use collector::logs::{LogClock, LogError, LogReader};
use collector::text::to_text;
use collector::{Assembled, Assembler, Event, Limits};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: decode LOG");
        return ExitCode::from(2);
    };
    match decode(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("decode: {error}");
            ExitCode::FAILURE
        }
    }
}

fn decode(path: std::ffi::OsString) -> Result<(), LogError> {
    let mut reader = LogReader::open(path)?;
    let (mut assembler, mut clock) = (Assembler::for_logs(Limits::default()), LogClock::new());
    let mut ready = Vec::new();
    let show = |ready: &mut Vec<Assembled>| {
        for one in ready.drain(..) {
            match one {
                Assembled::Event(event) => print(&event),
                Assembled::Amendment { id, kind, .. } => println!("{id} and late: {kind}"),
            }
        }
    };
    reader.for_each_record(|r| {
        let now = clock.at(r.millis);
        assembler.push(r.node, r.kind, r.millis, r.serial, r.body, now, &mut ready);
        show(&mut ready);
    })?;
    assembler.finish(&mut ready);
    show(&mut ready);
    Ok(())
}

fn print(event: &Event) {
    let Some(call) = event.syscall() else {
        let kinds: Vec<_> = event.records().map(|r| r.kind.to_string()).collect();
        return println!("{} {}", event.id, kinds.join(" "));
    };
    let name = call
        .name()
        .map_or_else(|| call.number.to_string(), str::to_owned);
    let args: Vec<_> = describe_args(&call)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    print!("{} pid {} {name}({})", event.id, call.pid, args.join(", "));
    match call.errno() {
        Some(errno) => print!(" = {errno}"),
        None => print!(" = {}", call.exit),
    }
    if let Some(argv) = event.argv() {
        let argv: Vec<_> = argv.iter().map(|a| to_text(a).into_owned()).collect();
        print!(" {argv:?}");
    }
    for path in event.paths() {
        print!(" {:?}", to_text(path.name.as_deref().unwrap_or_default()));
    }
    if let Some(address) = event.sockaddr() {
        print!(" {address}");
    }
    println!();
}
